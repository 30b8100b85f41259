"""TDES, AES and CMAC over keys that are in this process anyway; every other key stays in its token.

Such keys are: what a block-protection key derives, the key that a key block holds, a PIN block
that enciphers itself, and the keys that only exist in clear (EMV tree). TDES keys are of two or
three parts; two are K1, K2, K1.
"""

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

from crypto.secret import Secret

TRIPLE_LENGTH_BYTES: Final = 24


def tdes_encrypt_ecb(key: Secret[bytes], data: bytes) -> bytes:
    """Encipher a multiple of 8 bytes; *key* has 8 (single DES), 16 or 24 bytes."""
    # ECB is what the standards prescribe for single blocks and for derivation.
    return Cipher(_tdes(key), ECB()).encryptor().update(data)  # noqa: S305


def tdes_decrypt_cbc(key: Secret[bytes], iv: bytes, data: bytes) -> bytes:
    """Decipher a multiple of 8 bytes."""
    return Cipher(_tdes(key), CBC(iv)).decryptor().update(data)


def aes_decrypt_cbc(key: Secret[bytes], iv: bytes, data: bytes) -> bytes:
    """Decipher a multiple of 16 bytes."""
    return Cipher(AES(key.reveal()), CBC(iv)).decryptor().update(data)


def tdes_cmac(key: Secret[bytes], message: bytes) -> bytes:
    """Return the 8 bytes of TDES-CMAC (NIST SP 800-38B)."""
    return _cmac(_tdes(key), message)


def aes_cmac(key: Secret[bytes], message: bytes) -> bytes:
    """Return the 16 bytes of AES-CMAC (NIST SP 800-38B)."""
    return _cmac(AES(key.reveal()), message)


def _tdes(key: Secret[bytes]) -> TripleDES:
    # The library wants all three parts spelled out.
    return TripleDES((key.reveal() * 3)[:TRIPLE_LENGTH_BYTES])


def _cmac(algorithm: BlockCipherAlgorithm, message: bytes) -> bytes:
    cmac = CMAC(algorithm)
    cmac.update(message)
    return cmac.finalize()
