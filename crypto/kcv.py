"""Key check values (KCV): a few bytes that show whether two sides hold the same key.

People compare a KCV over the telephone; it is too short to give the key away. Source: ANSI
X9.24-1:2017::

    TDES   leftmost 3 bytes of E_K( 8 zero bytes )
    AES    leftmost 3 to 5 bytes of AES-CMAC_K( 16 zero bytes )

``CKA_CHECK_VALUE`` of an AES key on a token is another value: AES-ECB of a zero block.
"""

from typing import Final

from crypto.types import BlockCipher, Mac, TdesEcb

KCV_BYTES: Final = 3
_BLOCK_BYTES: Final = 16
_BLOCK_BITS: Final = 8 * _BLOCK_BYTES
_REDUCTION: Final = 0x87


def tdes(encrypt: TdesEcb) -> bytes:
    """Return the KCV of a TDES key, 3 bytes.

    >>> from functools import partial
    >>> from crypto.secret import Secret
    >>> from crypto.software import tdes_encrypt_ecb
    >>> key = Secret(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    >>> tdes(partial(tdes_encrypt_ecb, key)).hex()
    '08d7b4'

    Args:
        encrypt: TDES encryption in ECB mode under the key.
    """
    return encrypt(bytes(8))[:KCV_BYTES]


def aes(cmac: Mac, size_bytes: int = KCV_BYTES) -> bytes:
    """Return the KCV of an AES key.

    >>> from functools import partial
    >>> from crypto.secret import Secret
    >>> from crypto.software import aes_cmac
    >>> key = Secret(bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"))
    >>> aes(partial(aes_cmac, key)).hex()
    '7ad386'

    Args:
        cmac: AES-CMAC under the key.
        size_bytes: 3 to 5.
    """
    return cmac(bytes(16))[:size_bytes]


def aes_of_cipher(encrypt_block: BlockCipher) -> bytes:
    """Return the same 3 bytes for a key that may encipher and makes no MACs.

    The CMAC of one block is E_K(block XOR K1), with K1 = E_K(zeros) doubled in GF(2^128) (NIST SP
    800-38B, 6.1 and 6.2).

    >>> from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    >>> key = algorithms.AES(bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"))
    >>> aes_of_cipher(Cipher(key, modes.ECB()).encryptor().update).hex()
    '7ad386'

    Args:
        encrypt_block: AES encryption of one block; it is called twice.
    """
    doubled = int.from_bytes(encrypt_block(bytes(_BLOCK_BYTES))) << 1
    if doubled >> _BLOCK_BITS:
        doubled ^= 1 << _BLOCK_BITS | _REDUCTION
    return encrypt_block(doubled.to_bytes(_BLOCK_BYTES))[:KCV_BYTES]
