"""What an issuer decides, in documents that only an operator can change.

One module for each kind of document says what may stand in it. ``kinds`` reads a document of any
kind, ``sealing`` makes and checks its CMAC, ``json_file`` writes it to a file and reads it back.
"""
