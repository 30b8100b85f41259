"""A second reader of key blocks, beside psec: written from the standard, and sharing no code.

Source: ANSI X9.143-2021 (TR-31:2018, 5.3.2), versions B and D; NIST SP 800-38B for CMAC, of which
only the block cipher comes from a library. The published blocks show that it reads right. No
package that is kept up reads such blocks but psec.
"""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB


class ReadError(Exception):
    """It is no block, or its MAC is wrong."""


class BlockCipher:
    """AES, or TDES with K1‖K2 or K1‖K2‖K3."""

    def __init__(self, version: str, key: bytes) -> None:
        self.size = 16 if version == "D" else 8
        algorithm = AES(key) if version == "D" else TripleDES((key + key[:8])[:24])
        self._cipher = Cipher(algorithm, ECB())

    def encrypt(self, block: bytes) -> bytes:
        return self._cipher.encryptor().update(block)

    def decrypt_cbc(self, iv: bytes, data: bytes) -> bytes:
        blocks = [data[start : start + self.size] for start in range(0, len(data), self.size)]
        before = [iv, *blocks[:-1]]
        decryptor = self._cipher.decryptor()
        return b"".join(
            xor(decryptor.update(block), chained)
            for block, chained in zip(blocks, before, strict=True)
        )

    def cmac(self, message: bytes) -> bytes:
        first = doubled(self.encrypt(bytes(self.size)))
        if message and len(message) % self.size == 0:
            message = message[: -self.size] + xor(message[-self.size :], first)
        else:
            message += b"\x80" + bytes(-(len(message) + 1) % self.size)
            message = message[: -self.size] + xor(message[-self.size :], doubled(first))
        chain = bytes(self.size)
        for start in range(0, len(message), self.size):
            chain = self.encrypt(xor(chain, message[start : start + self.size]))
        return chain


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def doubled(block: bytes) -> bytes:
    bits, reduction = 8 * len(block), {16: 0x87, 8: 0x1B}[len(block)]
    value = int.from_bytes(block, "big") << 1
    if value >> bits:
        value = value ^ (1 << bits) ^ reduction
    return value.to_bytes(len(block), "big")


def derive(version: str, kbpk: bytes, use: int) -> bytes:
    """CMACs over counter, use (0 enciphers, 1 makes the MAC), algorithm and bits of the KBPK."""
    algorithm = {("B", 16): 0, ("B", 24): 1, ("D", 16): 2, ("D", 24): 3, ("D", 32): 4}
    cipher, stream, counter = BlockCipher(version, kbpk), b"", 1
    while len(stream) < len(kbpk):
        stream += cipher.cmac(
            bytes([counter, 0, use, 0, 0, algorithm[version, len(kbpk)]])
            + (8 * len(kbpk)).to_bytes(2, "big")
        )
        counter += 1
    return stream[: len(kbpk)]


def read(kbpk: bytes, text: str) -> tuple[str, dict[str, str], bytes]:
    """Return the header (16 characters), the optional blocks, and the key."""
    version, optional, place = text[0], {}, 16
    if int(text[1:5]) != len(text):
        raise ReadError
    for _ in range(int(text[12:14])):
        chars = int(text[place + 2 : place + 4], 16)
        optional[text[place : place + 2]] = text[place + 4 : place + chars]
        place += chars
    size = BlockCipher(version, kbpk).size
    tail = bytes.fromhex(text[place:])
    enciphered, mac = tail[:-size], tail[-size:]
    clear = BlockCipher(version, derive(version, kbpk, 0)).decrypt_cbc(mac, enciphered)
    signed = text[:place].encode("ascii") + clear
    if BlockCipher(version, derive(version, kbpk, 1)).cmac(signed) != mac or place % size:
        raise ReadError
    bits = int.from_bytes(clear[:2], "big")
    return text[:16], optional, clear[2 : 2 + bits // 8]
