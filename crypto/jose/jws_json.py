"""JWS in the general JSON serialization: one payload, a signature of each of several signers.

Source: RFC 7515, 7.2.1. ES256 (RFC 7518, 3.4) only, no unprotected header::

    {"payload": "<base64url>",
     "signatures": [{"protected": "<base64url>", "signature": "<base64url of r ‖ s>"}, …]}

    protected   {"alg": "ES256", "kid": "…", "typ": "…"}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crypto.errors import JoseError, JwsError
from crypto.jose import base64url, json_object, jws
from crypto.jose.jwk import EcPublicKey

SIGNATURES_MAX: Final = 16
TEXT_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the protected header as base64url, and r ‖ s, 64 bytes."""

    protected: str
    signature: bytes

    @property
    def header(self) -> Mapping[str, object]:
        """The protected header, parsed.

        Raises:
            JoseError: it is not base64url of a JSON object; that of :func:`parse` always is.
        """
        return json_object.parse(base64url.decode(self.protected))


@dataclass(frozen=True, slots=True)
class SignedText:
    """A payload and its signatures, none of which was checked."""

    payload: bytes
    signatures: Sequence[Signature]

    def __str__(self) -> str:
        """Write the general JSON serialization."""
        signatures = [
            {"protected": one.protected, "signature": base64url.encode(one.signature)}
            for one in self.signatures
        ]
        text = {"payload": base64url.encode(self.payload), "signatures": signatures}
        return json.dumps(text, indent=1)


def protected_header(kid: str, typ: str) -> str:
    """Return the protected header of a signature, as base64url.

    >>> base64url.decode(protected_header("ann", "manifest+jws"))
    b'{"alg":"ES256","kid":"ann","typ":"manifest+jws"}'
    """
    return base64url.encode(json_object.serialize(_header(kid, typ)))


def signing_input(protected: str, payload: bytes) -> bytes:
    """Return the bytes to sign: header and payload as base64url, joined by a dot, in ASCII."""
    return f"{protected}.{base64url.encode(payload)}".encode("ascii")


def parse(text: str) -> SignedText:
    """Read the general JSON serialization; no signature is checked.

    Raises:
        JwsError: *text* is not of this form, has another member, or more than 16 signatures.
    """
    data = text.encode("utf-8", errors="surrogatepass")
    try:
        members = json_object.parse(data if len(data) <= TEXT_BYTES_MAX else b"")
        match members:
            case {"payload": str(payload), "signatures": list(signatures), **others} if not others:
                found = [_signature(one) for one in signatures]
            case _:
                raise JwsError
        if len(found) > SIGNATURES_MAX:
            raise JwsError
        return SignedText(base64url.decode(payload), found)
    except JoseError:
        raise JwsError from None


def signers(signed: SignedText, keys: Mapping[str, EcPublicKey], typ: str) -> frozenset[str]:
    """Return the key ids of *keys* that signed; other signatures, and wrong ones, do not count.

    Args:
        signed: the text.
        keys: the public keys that count, by their key id.
        typ: the ``typ`` that the headers must have.
    """
    found = set()
    for one in signed.signatures:
        # The whole header is compared, so that no other member can be in it.
        header = one.header
        for kid, key in keys.items():
            if header == _header(kid, typ) and jws.is_signed(
                signing_input(one.protected, signed.payload), one.signature, key
            ):
                found.add(kid)
    return frozenset(found)


def _header(kid: str, typ: str) -> dict[str, object]:
    return {"alg": jws.ALG, "kid": kid, "typ": typ}


def _signature(members: object) -> Signature:
    match members:
        case {"protected": str(protected), "signature": str(text), **others} if not others:
            signature = base64url.decode(text)
        case _:
            raise JwsError
    if len(signature) != jws.SIGNATURE_BYTES:
        raise JwsError
    one = Signature(protected, signature)
    _ = one.header
    return one
