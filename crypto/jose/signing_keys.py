"""Public keys with which others sign JWS: EC P-256 and RSA, as JWK (RFC 7517; RFC 7518, 6).

::

    EC    P-256                   ES256
    RSA   2048 to 8192 bits       RS256, PS256      (RFC 7518, 3.3 to 3.5)

A key that names one algorithm verifies that one only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from crypto.errors import JoseError, JwkError
from crypto.jose import base64url, jws
from crypto.jose.jwk import POINT_MEMBERS, PRIVATE_MEMBERS, EcPublicKey, parse_point

KID_CHARS_MAX: Final = 256
RSA_BITS_MIN: Final = 2048
#: Whoever waits for a signature to be verified waits longer with a larger modulus.
RSA_BITS_MAX: Final = 8192
#: RFC 7518, section 3.1, by key type.
ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {"EC": ("ES256",), "RSA": ("RS256", "PS256")}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, its key id, and the algorithms by which it may verify."""

    kid: str
    algorithms: tuple[str, ...]
    public: EcPublicKey | rsa.RSAPublicKey

    def is_signed(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Tell whether *signature*, by *algorithm*, is that of this key over *signed*."""
        if algorithm not in self.algorithms:
            return False
        if isinstance(self.public, EcPublicKey):
            return jws.is_signed(signed, signature, self.public)
        try:
            self.public.verify(signature, signed, _rsa_padding(algorithm), SHA256())
        except InvalidSignature:
            return False
        return True


def parse_signing_key(jwk: Mapping[str, object]) -> SigningKey:
    """Read a key; members that we do not know are ignored (RFC 7517, section 4).

    >>> jwk = {
    ...     "kty": "EC",
    ...     "crv": "P-256",
    ...     "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    ...     "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    ...     "kid": "2026",
    ... }
    >>> parse_signing_key(jwk).algorithms
    ('ES256',)

    Raises:
        JwkError: the key has a private member, no ``kid`` of 1 to 256 characters, another ``use``
            than ``sig``, other ``key_ops`` than ``verify``, an algorithm or a type that is not
            listed above, or its numbers are none.
    """
    # A key whose private half was published is everybody's.
    if PRIVATE_MEMBERS & jwk.keys():
        raise JwkError
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 1 <= len(kid) <= KID_CHARS_MAX:
        raise JwkError
    if jwk.get("use", "sig") != "sig" or operations != ["verify"]:
        raise JwkError
    public: EcPublicKey | rsa.RSAPublicKey
    match jwk:
        case {"kty": "EC"}:
            point = parse_point({name: jwk[name] for name in POINT_MEMBERS & jwk.keys()})
            public = EcPublicKey(kid, point.x, point.y)
        case {"kty": "RSA", "n": str(modulus), "e": str(exponent)}:
            public = _rsa_key(modulus, exponent)
        case _:
            raise JwkError
    algorithms = [name for name in ALGORITHMS[str(jwk["kty"])] if jwk.get("alg", name) == name]
    if not algorithms:
        raise JwkError
    return SigningKey(kid, tuple(algorithms), public)


def _rsa_key(modulus: str, exponent: str) -> rsa.RSAPublicKey:
    try:
        n, e = (int.from_bytes(base64url.decode(text)) for text in (modulus, exponent))
        if not RSA_BITS_MIN <= n.bit_length() <= RSA_BITS_MAX:
            raise JwkError
        return rsa.RSAPublicNumbers(e, n).public_key()
    except (JoseError, ValueError):
        raise JwkError from None


def _rsa_padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm == "PS256":
        return padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)
    return padding.PKCS1v15()
