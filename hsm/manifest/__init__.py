"""The manifest: what an issuer decides, in JSON that operators sign.

``model`` is the whole document; ``wire``, ``policy``, ``recipient``, ``verification``, ``clients``
and ``feeds`` are its parts (SECCOS has its own, :mod:`crypto.seccos.profile`). ``signed`` reads
what was signed, ``trust`` says whose signatures count, ``minimum_versions`` from which version on
a host takes a manifest, and ``store`` is what a host has taken. ``commands`` and what it works with
(``documents``, ``members``, ``operator_key``) are for operators, on machines that serve nobody.
"""
