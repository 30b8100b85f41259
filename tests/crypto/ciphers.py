"""Block ciphers in software, for tests: the service keeps its keys in a token."""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from crypto.types import BlockCipher


def aes_encrypt(key: bytes) -> BlockCipher:
    return lambda block: Cipher(AES(key), ECB()).encryptor().update(block)


def aes_decrypt(key: bytes) -> BlockCipher:
    return lambda block: Cipher(AES(key), ECB()).decryptor().update(block)


def tdes_encrypt(key: bytes, block: bytes) -> bytes:
    """Encrypt under a double-length key: K1, K2, K1."""
    return Cipher(TripleDES(key + key[:8]), ECB()).encryptor().update(block)
