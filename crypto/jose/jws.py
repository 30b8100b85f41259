"""JWS in compact form, ES256 only (RFC 7515; RFC 7518, section 3.4).

::

    header . payload . r s      each as base64url; r, s: 32 bytes, big-endian

The signature is made elsewhere, over what :func:`signing_input` returns. An
ECDSA signature has a second valid form: a token's text is not its identity.
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
    """Return the ASCII bytes to be signed: header and payload, joined by a dot."""
    header: dict[str, object] = {"alg": ALG, "kid": kid, "typ": typ}
    parts = (json_object.serialize(header), json_object.serialize(dict(claims)))
    return ".".join(map(base64url.encode, parts)).encode("ascii")


def attach(signing_input: bytes, signature: bytes) -> str:
    """Return the token of *signing_input* and its 64-byte *signature*.

    Raises:
        JwsError: the signature has another length.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise JwsError
    return signing_input.decode("ascii") + "." + base64url.encode(signature)


def verify(text: str, keys: Mapping[str, EcPublicKey], typ: str | None) -> dict[str, object]:
    """Return the claims of a token signed by one of *keys*; none of them is judged here.

    Raises:
        JwsError: as :func:`verify_bytes`, or the payload is not a JSON object.
    """
    try:
        return json_object.parse(verify_bytes(text, keys, typ))
    except JoseError:
        raise JwsError from None


def verify_bytes(text: str, keys: Mapping[str, EcPublicKey], typ: str | None) -> bytes:
    """Return the payload of a token signed by one of *keys*.

    Args:
        text: the token, at most 8192 characters.
        keys: the keys that may sign, by ``kid``.
        typ: the ``typ`` the header must have; None: it must have none.

    Raises:
        JwsError: for every way of being wrong.
    """
    parts = text.split(".") if len(text) <= JWS_CHARS_MAX else []
    try:
        header, payload, signature = map(base64url.decode, parts)
        key = _signer(json_object.parse(header), keys, typ)
    except (JoseError, ValueError):
        raise JwsError from None
    if len(signature) != SIGNATURE_BYTES:
        raise JwsError
    signed = text.rpartition(".")[0].encode("ascii")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.point.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise JwsError from None
    return payload


def _signer(
    header: dict[str, object], keys: Mapping[str, EcPublicKey], typ: str | None
) -> EcPublicKey:
    kid = header.get("kid")
    # A whole header is expected, not members looked up: nothing else can hide in it.
    expected = {"alg": ALG, "kid": kid} | ({} if typ is None else {"typ": typ})
    if not isinstance(kid, str) or kid not in keys or header != expected:
        raise JwsError
    return keys[kid]
