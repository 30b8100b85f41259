"""Keys in software and tokens forged with them: each is right but for what the test makes wrong."""

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from crypto.jose import base64url, json_object, jwe
from crypto.jose.jwe import KeyAgreement, other_info
from crypto.jose.jwk import EcPublicKey, Point, point_jwk
from crypto.types import Random
from tests.crypto.strategies import seeded

KID: Final = "wire-1"
PLAINTEXT: Final = b'{"pin":"041223C6FFEFEFEE"}'


def private_key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


def point_of(key: ec.EllipticCurvePrivateKey) -> Point:
    numbers = key.public_key().public_numbers()
    return Point(numbers.x.to_bytes(32), numbers.y.to_bytes(32))


def public_key(key: ec.EllipticCurvePrivateKey, kid: str = KID) -> EcPublicKey:
    point = point_of(key)
    return EcPublicKey(kid, point.x, point.y)


RECIPIENT: Final = private_key(0x7518)
EPHEMERAL: Final = private_key(0x7516)
RANDOM: Final[Random] = seeded(7516)


class UnknownKeyError(Exception):
    """Stands for what a token raises."""


def software_agreement(keys: Mapping[str, ec.EllipticCurvePrivateKey]) -> KeyAgreement:
    """Do what the token does: ECDH and the Concat KDF, with the key that *kid* names."""

    def agree(kid: str, epk: Point, info: bytes) -> bytes:
        if kid not in keys:
            raise UnknownKeyError
        z = keys[kid].exchange(ec.ECDH(), epk.public_key())
        return ConcatKDFHash(SHA256(), 32, info).derive(z)

    return agree


AGREE: Final = software_agreement({KID: RECIPIENT})


def header(**changes: object) -> dict[str, object]:
    """Return a good header with *changes*; a member set to None is left out."""
    good = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": KID, "epk": epk()}
    return {name: value for name, value in (good | changes).items() if value is not None}


def epk(**changes: object) -> dict[str, object]:
    """Return the ephemeral key as JWK with *changes*."""
    return {**point_jwk(point_of(EPHEMERAL)), **changes}


def forge(
    protected: dict[str, object] | bytes,
    *,
    iv: bytes = b"\x01" * 12,
    plaintext: bytes = PLAINTEXT,
    apu: bytes = b"",
    apv: bytes = b"",
) -> str:
    """Encrypt honestly under any header: whoever minds nothing opens the result."""
    raw = protected if isinstance(protected, bytes) else json_object.serialize(protected)
    text = base64url.encode(raw)
    key = AGREE(KID, point_of(EPHEMERAL), other_info("A256GCM", apu, apv, 256))
    sealed = AESGCM(key).encrypt(iv, plaintext, text.encode("ascii"))
    return ".".join((text, "", *map(base64url.encode, (iv, sealed[:-16], sealed[-16:]))))


def opened(token: str, agree: KeyAgreement = AGREE) -> bytes:
    """Parse and decrypt *token*."""
    return jwe.decrypt(jwe.parse(token), agree).reveal()
