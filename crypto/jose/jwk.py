"""Public P-256 keys as JWK (RFC 7517; RFC 7518, 6.2).

A point must be on the curve, y^2 = x^3 - 3x + b modulo p (FIPS 186-4, D.1.2.3). That is checked
here, because a token that gets another point fails as if it were broken.
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
"""The private members of every key type (RFC 7518, 6.2.2, 6.3.2 and 6.4.1)."""
ALGORITHM: Final[Mapping[str, str]] = {"enc": "ECDH-ES", "sig": "ES256"}
OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "enc": frozenset({"deriveKey", "deriveBits"}),
    "sig": frozenset({"verify"}),
}


@dataclass(frozen=True)
class Point:
    """A point of P-256, not the one at infinity: two coordinates of 32 bytes, big-endian.

    Raises:
        JwkError: a coordinate is not 32 bytes, or the point is not on the curve.
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
        """The point as 65 bytes: 04 ‖ x ‖ y (SEC 1, 2.3.3)."""
        return b"\x04" + self.x + self.y

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the point as a key of the ``cryptography`` library."""
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.uncompressed)


@dataclass(frozen=True)
class EcPublicKey:
    """A public P-256 key and its key id, by which messages name it.

    Raises:
        JwkError: a coordinate is not 32 bytes, or the point is not on the curve.
    """

    kid: str
    x: bytes
    y: bytes

    def __post_init__(self) -> None:
        _ = self.point

    @property
    def point(self) -> Point:
        """The key without its key id."""
        return Point(self.x, self.y)


def parse_point(jwk: Mapping[str, object]) -> Point:
    """Read the point of a public key from ``kty``, ``crv``, ``x`` and ``y``.

    Other public members, such as ``kid``, ``use``, ``ext`` or ``key_ops``, are ignored, as RFC
    7518, 4.6.1.1, allows for an ephemeral key.

    >>> jwk = {
    ...     "kty": "EC",
    ...     "crv": "P-256",
    ...     "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    ...     "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    ...     "ext": True,
    ... }
    >>> len(parse_point(jwk).uncompressed)
    65

    Raises:
        JwkError: one of the four members is missing or wrong, the point is not on the curve, or
            the key has a private member.
    """
    if PRIVATE_MEMBERS & jwk.keys() or not jwk.keys() >= POINT_MEMBERS:
        raise JwkError
    if (jwk["kty"], jwk["crv"]) != ("EC", "P-256"):
        raise JwkError
    return Point(_coordinate(jwk["x"]), _coordinate(jwk["y"]))


def parse_public(jwk: Mapping[str, object], use: str = "enc") -> EcPublicKey:
    """Read a partner's key; unknown members are ignored (RFC 7517, section 4).

    Args:
        jwk: the key. If it has no ``kid``, its thumbprint is its key id.
        use: ``enc`` or ``sig``: what the key is wanted for. Its members ``use``, ``alg`` and
            ``key_ops`` must not contradict that.

    Raises:
        JwkError: the key has a private member, is for another use, or is not a point of P-256.
    """
    if not _is_for(use, jwk):
        raise JwkError
    point = parse_point(jwk)
    kid = jwk.get("kid", thumbprint(point.x, point.y))
    if not isinstance(kid, str) or not kid:
        raise JwkError
    return EcPublicKey(kid, point.x, point.y)


def public_jwk(key: EcPublicKey, use: str) -> dict[str, str]:
    """Return *key* as a JWK to publish; *use* is ``enc`` (ECDH-ES) or ``sig`` (ES256)."""
    return {**_members(key.x, key.y), "kid": key.kid, "use": use, "alg": ALGORITHM[use]}


def point_jwk(point: Point) -> dict[str, str]:
    """Return *point* as a JWK with ``kty crv x y``, which :func:`parse_point` reads."""
    return _members(point.x, point.y)


def thumbprint(x: bytes, y: bytes) -> str:
    """Return the SHA-256 thumbprint of a P-256 key, as base64url (RFC 7638).

    >>> x = base64url.decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")
    >>> y = base64url.decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")
    >>> thumbprint(x, y)
    'oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U'
    """
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
