"""Ciphers in software, for tests: the service keeps its keys in a token."""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

from crypto import retail_mac
from crypto.pinblock.fields import xor
from crypto.types import AesCbc, BlockCipher, Mac, TdesCbc, TdesEcb


def aes_encrypt(key: bytes) -> BlockCipher:
    return lambda block: Cipher(AES(key), ECB()).encryptor().update(block)


def aes_decrypt(key: bytes) -> BlockCipher:
    return lambda block: Cipher(AES(key), ECB()).decryptor().update(block)


def aes_cbc(key: bytes) -> AesCbc:
    return lambda iv, data: Cipher(AES(key), CBC(iv)).encryptor().update(data)


def cbc_of(encrypt_block: BlockCipher) -> AesCbc:
    """Chain a cipher of one block as CBC mode does."""

    def encrypt(iv: bytes, data: bytes) -> bytes:
        blocks = [iv]
        for start in range(0, len(data), len(iv)):
            blocks.append(encrypt_block(xor(blocks[-1], data[start : start + len(iv)])))
        return b"".join(blocks[1:])

    return encrypt


def tdes_encrypt(key: bytes, block: bytes) -> bytes:
    """Encrypt under a double-length key: K1, K2, K1."""
    return tdes_ecb(key)(block)


def triple(key: bytes) -> bytes:
    """Spell out a key of one, two or three parts as three: K1 K1 K1, K1 K2 K1 or as it is."""
    return (key * 3)[:24]


def tdes_ecb(key: bytes) -> TdesEcb:
    return lambda data: Cipher(TripleDES(triple(key)), ECB()).encryptor().update(data)


def tdes_ecb_decrypt(key: bytes) -> TdesEcb:
    return lambda data: Cipher(TripleDES(triple(key)), ECB()).decryptor().update(data)


def tdes_cbc(key: bytes) -> TdesCbc:
    return lambda iv, data: Cipher(TripleDES(triple(key)), CBC(iv)).encryptor().update(data)


def aes_cmac(key: bytes) -> Mac:
    return lambda message: _cmac(AES(key), message)


def tdes_cmac(key: bytes) -> Mac:
    return lambda message: _cmac(TripleDES(triple(key)), message)


def two_key_mac(key: bytes) -> Mac:
    """Make the retail MAC as a token does: with K1‖K1 and K1‖K2."""
    left, full = tdes_cbc(key[:8] * 2), tdes_cbc(key)
    return lambda message: retail_mac.compute(message, left, full)


def _cmac(algorithm: BlockCipherAlgorithm, message: bytes) -> bytes:
    cmac = CMAC(algorithm)
    cmac.update(message)
    return cmac.finalize()
