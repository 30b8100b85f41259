"""Keys that the partners of an issuer make in the demo, and how they travel to the issuer.

Of a key pair only the public half does. Of secret keys, the block-protection key (KBPK) goes as
two components of which each officer knows one; every other goes under it, in a TR-31 key block of
version D. psec makes the blocks, so that the issuer's own code does not open what it wrote itself.
Keys are in clear here, and only here: these are keys of a demo.
"""

import secrets
from typing import Any, Final

import psec
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC
from jwcrypto.jwk import JWK

AES_KEY_BYTES: Final = 32
TDES_KEY_BYTES: Final = 16
KCV_BYTES: Final = 3


def private_jwk() -> dict[str, Any]:
    """Make a key pair that the issuer encrypts to; its private half never meets the service."""
    key = JWK.generate(kty="EC", crv="P-256", use="enc")
    members: dict[str, Any] = key.export_private(as_dict=True)
    return {**members, "kid": key.thumbprint()}


def components(key: bytes) -> tuple[str, str]:
    """Split *key* into two components whose XOR it is, hexadecimal."""
    first = secrets.token_bytes(len(key))
    second = bytes(left ^ right for left, right in zip(key, first, strict=True))
    return first.hex().upper(), second.hex().upper()


def key_block(kbpk: bytes, key: bytes, usage: str, mode: str) -> str:
    """Wrap *key* as a TR-31 key block of version D for one usage and mode of use."""
    algorithm = "A" if len(key) == AES_KEY_BYTES else "T"
    header = psec.tr31.Header("D", usage, algorithm, mode, version_num="00", exportability="N")
    return str(psec.tr31.wrap(kbpk, header, key))


def kcv(key: bytes) -> str:
    """Return the key check value: 6 hexadecimal digits, of AES by CMAC, of TDES by a zero block."""
    if len(key) == AES_KEY_BYTES:
        cmac = CMAC(AES(key))
        cmac.update(bytes(AES.block_size // 8))
        check = cmac.finalize()
    else:
        # The library wants K1, K2, K1 spelled out. ECB is what a KCV is made with.
        encryptor = Cipher(TripleDES((key * 2)[:24]), ECB()).encryptor()  # noqa: S305
        check = encryptor.update(bytes(TripleDES.block_size // 8)) + encryptor.finalize()
    return check[:KCV_BYTES].hex().upper()
