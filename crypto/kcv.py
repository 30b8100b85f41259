"""Key check values: enough of a key to compare it over the telephone, too little to use it.

Source: ANSI X9.24-1::

    TDES   leftmost 3 bytes of E_K( 8 zero bytes )
    AES    leftmost 3 to 5 bytes of AES-CMAC_K( 16 zero bytes )

``CKA_CHECK_VALUE`` of an AES key on a token is E_K of a zero block, and so not this value.
"""

from typing import Final

from crypto.types import Mac, TdesEcb

KCV_BYTES: Final = 3


def tdes(encrypt: TdesEcb) -> bytes:
    """Return the 3-byte check value of the key of *encrypt*."""
    return encrypt(bytes(8))[:KCV_BYTES]


def aes(cmac: Mac, size_bytes: int = KCV_BYTES) -> bytes:
    """Return the check value, 3 to 5 bytes, of the key of *cmac*."""
    return cmac(bytes(16))[:size_bytes]
