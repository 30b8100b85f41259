"""Public P-256 keys as JWK (RFC 7517; RFC 7518, section 6.2), checked before anything uses them.

A point off the curve handed to a token looks like a broken token, so the curve
equation is checked here: y^2 = x^3 - 3x + b modulo p (FIPS 186-4, D.1.2.3).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.errors import JoseError, JwkError
from crypto.jose import base64url

COORDINATE_BYTES: Final = 32
P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

POINT_MEMBERS: Final = frozenset({"kty", "crv", "x", "y"})
PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
ALGORITHM: Final[Mapping[str, str]] = {"enc": "ECDH-ES", "sig": "ES256"}
OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "enc": frozenset({"deriveKey", "deriveBits"}),
    "sig": frozenset({"verify"}),
}


@dataclass(frozen=True)
class Point:
    """A point of P-256, never the one at infinity: two big-endian coordinates of 32 bytes.

    Raises:
        JwkError: the coordinates are no such point.
    """

    x: bytes
    y: bytes

    def __post_init__(self) -> None:
        sizes_ok = len(self.x) == len(self.y) == COORDINATE_BYTES
        x, y = int.from_bytes(self.x), int.from_bytes(self.y)
        if not (sizes_ok and max(x, y) < P and (y * y - x * x * x + 3 * x - B) % P == 0):
            raise JwkError

    @property
    def uncompressed(self) -> bytes:
        """The 65 bytes 04 x y (SEC 1, section 2.3.3)."""
        return b"\x04" + self.x + self.y

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the point as the cryptography library takes it."""
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.uncompressed)


@dataclass(frozen=True)
class EcPublicKey:
    """A public P-256 key with the name by which messages call it.

    Raises:
        JwkError: the coordinates are not a point of the curve.
    """

    kid: str
    x: bytes
    y: bytes

    def __post_init__(self) -> None:
        _ = self.point

    @property
    def point(self) -> Point:
        """The key without its name."""
        return Point(self.x, self.y)


def parse_point(jwk: Mapping[str, object]) -> Point:
    """Read an ephemeral key: ``kty``, ``crv``, ``x``, ``y`` and nothing else.

    Raises:
        JwkError: a member is missing, unknown or wrong, or the point is.
    """
    if jwk.keys() != POINT_MEMBERS or (jwk["kty"], jwk["crv"]) != ("EC", "P-256"):
        raise JwkError
    return Point(_coordinate(jwk["x"]), _coordinate(jwk["y"]))


def parse_public(jwk: Mapping[str, object], use: str = "enc") -> EcPublicKey:
    """Read a partner's key; members we do not know are ignored (RFC 7517, section 4).

    Args:
        jwk: the key. Without a ``kid`` it is named by its thumbprint.
        use: ``enc`` or ``sig``; what the key says of itself must agree.

    Raises:
        JwkError: a private member is there, the key is for something else,
            or it is not a P-256 point.
    """
    if PRIVATE_MEMBERS & jwk.keys() or not _is_for(use, jwk):
        raise JwkError
    point = parse_point({name: jwk[name] for name in POINT_MEMBERS & jwk.keys()})
    kid = jwk.get("kid", thumbprint(point.x, point.y))
    if not isinstance(kid, str) or not kid:
        raise JwkError
    return EcPublicKey(kid, point.x, point.y)


def public_jwk(key: EcPublicKey, use: str) -> dict[str, str]:
    """Write *key* for publication; *use* is ``enc`` (ECDH-ES) or ``sig`` (ES256)."""
    return {**_members(key.x, key.y), "kid": key.kid, "use": use, "alg": ALGORITHM[use]}


def point_jwk(point: Point) -> dict[str, str]:
    """Write *point* as :func:`parse_point` reads it."""
    return _members(point.x, point.y)


def thumbprint(x: bytes, y: bytes) -> str:
    """Return the SHA-256 thumbprint of a P-256 key as base64url (RFC 7638)."""
    members = _members(x, y)
    canonical = '{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}'.format(**members)
    return base64url.encode(hashlib.sha256(canonical.encode("ascii")).digest())


def _members(x: bytes, y: bytes) -> dict[str, str]:
    return {"kty": "EC", "crv": "P-256", "x": base64url.encode(x), "y": base64url.encode(y)}


def _is_for(use: str, jwk: Mapping[str, object]) -> bool:
    operations = jwk.get("key_ops", [])
    return (
        jwk.get("use", use) == use
        and jwk.get("alg", ALGORITHM[use]) == ALGORITHM[use]
        and isinstance(operations, list)
        and all(isinstance(name, str) and name in OPERATIONS[use] for name in operations)
    )


def _coordinate(value: object) -> bytes:
    if not isinstance(value, str):
        raise JwkError
    try:
        return base64url.decode(value)
    except JoseError:
        raise JwkError from None
