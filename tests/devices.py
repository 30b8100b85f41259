"""Cardholders' devices that ask for PINs by keys of their own, in three languages.

Each holds an RSA key, takes a TZPK from what was enciphered to it, and reads and writes format-1
blocks. That of Python is made with the cryptography library, the others with what Java and Node.js
have of their own.
"""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cms.sandbox import HANG_SECONDS
from tests.crypto.ciphers import tdes_ecb, tdes_ecb_decrypt

FOLDER = Path(__file__).with_name("other_devices")
#: How each of the others is started.
COMMANDS = {"java": ["java", "Device.java"], "node": ["node", "device.mjs"]}


class Device(Protocol):
    """What every device can do; all is text, as it travels."""

    @property
    def public_key(self) -> str:
        """Its key: base64 of DER."""
        ...

    def read(self, tzpk: str, block: str) -> str:
        """Return the PIN of a block under an enciphered TZPK, both base64."""
        ...

    def write(self, tzpk: str, pin: str) -> str:
        """Return a block, base64, under an enciphered TZPK."""
        ...


def iso1_text(pin: str, fill: str = "A") -> str:
    """Lay out a clear block as the published samples do: the fill is one digit."""
    return f"1{len(pin):X}{pin}".ljust(16, fill)


def iso1_pin(block: bytes) -> str:
    """Read a clear block."""
    text = block.hex()
    assert text[0] == "1", text
    return text[2 : 2 + int(text[1], 16)]


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key once: it takes a second at times."""
    return rsa.generate_private_key(65537, bits)


def public_text(key: rsa.RSAPrivateKey) -> str:
    """Write its public half as a device sends it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@dataclass(frozen=True)
class PythonDevice:
    """A :class:`Device`."""

    number: int = 0

    @property
    def public_key(self) -> str:
        return public_text(rsa_key(self.number))

    def tzpk(self, text: str) -> bytes:
        oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
        return rsa_key(self.number).decrypt(base64.b64decode(text), oaep)

    def read(self, tzpk: str, block: str) -> str:
        return iso1_pin(tdes_ecb_decrypt(self.tzpk(tzpk))(base64.b64decode(block)))

    def write(self, tzpk: str, pin: str) -> str:
        return self.write_clear(tzpk, iso1_text(pin))

    def write_clear(self, tzpk: str, block: str) -> str:
        """Encipher what need be no block of format 1, hexadecimal."""
        return base64.b64encode(tdes_ecb(self.tzpk(tzpk))(bytes.fromhex(block))).decode()


class OtherDevice:
    """A :class:`Device` in a process of its own, which answers a line for each line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @property
    def public_key(self) -> str:
        return self._ask("key")

    def read(self, tzpk: str, block: str) -> str:
        return iso1_pin(bytes.fromhex(self._ask(f"read {tzpk} {block}")))

    def write(self, tzpk: str, pin: str) -> str:
        return self._ask(f"write {tzpk} {iso1_text(pin)}")

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def is_here(language: str) -> bool:
    """Tell whether this machine runs devices of a language."""
    return language == "python" or shutil.which(COMMANDS[language][0]) is not None


@contextmanager
def device_of(language: str) -> Iterator[Device]:
    """Have a device of one of the languages."""
    if language == "python":
        yield PythonDevice()
        return
    process = subprocess.Popen(
        COMMANDS[language], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield OtherDevice(process)
    finally:
        process.communicate(timeout=HANG_SECONDS)
