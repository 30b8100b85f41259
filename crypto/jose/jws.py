"""JWS in compact form, ES256 only.

Sources: RFC 7515, 7.1 (compact form); RFC 7518, 3.4 (ES256)::

    header . payload . r ‖ s      each as base64url; r and s are 32 bytes, big-endian

The private key may be in a token: :func:`signing_input` returns what it must sign. Whoever has
one valid signature can make a second one, so the text of a JWS does not identify it.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from crypto.errors import JoseError, JwsError
from crypto.jose import base64url, json_object
from crypto.jose.jwk import EcPublicKey

ALG: Final = "ES256"
JWS_CHARS_MAX: Final = 8192
SIGNATURE_BYTES: Final = 64


def signing_input(claims: Mapping[str, object], kid: str, typ: str) -> bytes:
    """Return the bytes to sign: header and payload as base64url, joined by a dot, in ASCII.

    >>> signing_input({"sub": "card-1"}, kid="sign-1", typ="JWT").decode().split(".")[1]
    'eyJzdWIiOiJjYXJkLTEifQ'

    Args:
        claims: the payload.
        kid: the key id of the key that will sign.
        typ: the header's ``typ``.
    """
    header: dict[str, object] = {"alg": ALG, "kid": kid, "typ": typ}
    parts = (json_object.serialize(header), json_object.serialize(dict(claims)))
    return ".".join(map(base64url.encode, parts)).encode("ascii")


def attach(signing_input: bytes, signature: bytes) -> str:
    """Return the JWS: *signing_input*, a dot, and *signature* (r ‖ s, 64 bytes) as base64url.

    Raises:
        JwsError: *signature* is not 64 bytes.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise JwsError
    return signing_input.decode("ascii") + "." + base64url.encode(signature)


def verify(
    text: str,
    keys: Mapping[str, EcPublicKey],
    typ: str | None,
    chars_max: int = JWS_CHARS_MAX,
) -> dict[str, object]:
    """Return the claims of a JWS signed by one of *keys*; the caller judges the claims.

    Args:
        text: as for :func:`verify_bytes`.
        keys: as for :func:`verify_bytes`.
        typ: as for :func:`verify_bytes`.
        chars_max: as for :func:`verify_bytes`.

    Raises:
        JwsError: :func:`verify_bytes` raises it, or the payload is not a JSON object.
    """
    try:
        return json_object.parse(verify_bytes(text, keys, typ, chars_max))
    except JoseError:
        raise JwsError from None


def verify_bytes(
    text: str,
    keys: Mapping[str, EcPublicKey],
    typ: str | None,
    chars_max: int = JWS_CHARS_MAX,
) -> bytes:
    """Return the payload of a JWS signed by one of *keys*.

    Args:
        text: the JWS.
        keys: the public keys that may sign, by their key id.
        typ: the ``typ`` that the header must have, or None if it must have no ``typ``.
        chars_max: how many characters *text* may have.

    Raises:
        JwsError: *text* is not of this form, its header has another member, another ``typ`` or
            an unknown ``kid``, or the signature is wrong.
    """
    parts = text.split(".") if len(text) <= chars_max else []
    try:
        header, payload, signature = map(base64url.decode, parts)
        key = _signer(json_object.parse(header), keys, typ)
    except (JoseError, ValueError):
        raise JwsError from None
    if not is_signed(text.rpartition(".")[0].encode("ascii"), signature, key):
        raise JwsError
    return payload


def key_id(text: str) -> str:
    """Return the ``kid`` that a JWS names; nothing is verified.

    Raises:
        JwsError: it names none.
    """
    try:
        kid = json_object.parse(base64url.decode(text.partition(".")[0])).get("kid")
    except JoseError:
        raise JwsError from None
    if not isinstance(kid, str):
        raise JwsError
    return kid


def is_signed(signed: bytes, signature: bytes, key: EcPublicKey) -> bool:
    """Tell whether *signature* (r ‖ s, 64 bytes) is that of *key* over *signed* (ES256)."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.point.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _signer(
    header: dict[str, object], keys: Mapping[str, EcPublicKey], typ: str | None
) -> EcPublicKey:
    kid = header.get("kid")
    # The whole header is compared, so that no other member can be in it.
    expected = {"alg": ALG, "kid": kid} | ({} if typ is None else {"typ": typ})
    if not isinstance(kid, str) or kid not in keys or header != expected:
        raise JwsError
    return keys[kid]
