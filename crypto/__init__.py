"""Pure functions and value types of PIN cryptography.

Nothing here does input or output, reads a clock or the environment, or writes a log. Randomness,
ciphers and MACs are arguments (:mod:`crypto.types`), so that a key can stay in its token.
"""
