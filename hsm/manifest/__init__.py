"""Configuration: what an issuer decides, in JSON that only an operator can change.

One module for each kind of configuration says which members its body has (SECCOS has its own,
:mod:`crypto.seccos.profile`). ``kinds`` reads a body of any kind, ``sealing`` makes and checks the
CMAC, ``json_file`` writes a configuration to a file and reads it back.
"""
