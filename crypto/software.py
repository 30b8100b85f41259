"""TDES, AES and CMAC with keys that are in this process anyway; every other key stays in its token.

Such keys are: those derived from a key block protection key, the key inside a key block, a PIN
block that is enciphered under itself, the keys of an EMV2000 tree, and the temporary key that goes
to a cardholder's device. A TDES key of 16 bytes
means K1‖K2‖K1 (NIST SP 800-67).
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
    """Encipher *data*, a multiple of 8 bytes, with TDES in ECB mode.

    >>> key = Secret(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    >>> tdes_encrypt_ecb(key, bytes(8)).hex()
    '08d7b4fb629d0885'

    Args:
        key: 16 or 24 bytes, or 8 for single DES.
        data: the clear data.
    """
    # ECB is what the standards prescribe for single blocks and for derivation.
    return Cipher(_tdes(key), ECB()).encryptor().update(data)  # noqa: S305


def tdes_decrypt_ecb(key: Secret[bytes], data: bytes) -> bytes:
    """Decipher *data*, a multiple of 8 bytes, with TDES in ECB mode."""
    return Cipher(_tdes(key), ECB()).decryptor().update(data)  # noqa: S305 - as above


def tdes_decrypt_cbc(key: Secret[bytes], iv: bytes, data: bytes) -> bytes:
    """Decipher *data*, a multiple of 8 bytes, with TDES in CBC mode; *iv* is 8 bytes."""
    return Cipher(_tdes(key), CBC(iv)).decryptor().update(data)


def aes_decrypt_cbc(key: Secret[bytes], iv: bytes, data: bytes) -> bytes:
    """Decipher *data*, a multiple of 16 bytes, with AES in CBC mode; *iv* is 16 bytes."""
    return Cipher(AES(key.reveal()), CBC(iv)).decryptor().update(data)


def tdes_encrypt_cbc(key: Secret[bytes], iv: bytes, data: bytes) -> bytes:
    """Encipher *data*, a multiple of 8 bytes, with TDES in CBC mode; *iv* is 8 bytes."""
    return Cipher(_tdes(key), CBC(iv)).encryptor().update(data)


def aes_encrypt_cbc(key: Secret[bytes], iv: bytes, data: bytes) -> bytes:
    """Encipher *data*, a multiple of 16 bytes, with AES in CBC mode; *iv* is 16 bytes."""
    return Cipher(AES(key.reveal()), CBC(iv)).encryptor().update(data)


def tdes_cmac(key: Secret[bytes], message: bytes) -> bytes:
    """Return the TDES-CMAC of *message*, 8 bytes (NIST SP 800-38B)."""
    return _cmac(_tdes(key), message)


def aes_cmac(key: Secret[bytes], message: bytes) -> bytes:
    """Return the AES-CMAC of *message*, 16 bytes (NIST SP 800-38B; the example is RFC 4493).

    >>> key = Secret(bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"))
    >>> aes_cmac(key, b"").hex()
    'bb1d6929e95937287fa37d129b756746'
    """
    return _cmac(AES(key.reveal()), message)


def _tdes(key: Secret[bytes]) -> TripleDES:
    # The library wants all three parts spelled out.
    return TripleDES((key.reveal() * 3)[:TRIPLE_LENGTH_BYTES])


def _cmac(algorithm: BlockCipherAlgorithm, message: bytes) -> bytes:
    cmac = CMAC(algorithm)
    cmac.update(message)
    return cmac.finalize()
