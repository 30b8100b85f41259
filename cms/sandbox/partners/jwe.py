"""JWE as the partners write and read it: RFC 7516 compact, ``ECDH-ES`` and ``A256GCM`` on P-256."""

import json
from collections.abc import Mapping
from typing import Any, Final

from jwcrypto.common import JWException
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

ALGORITHMS: Final = ["ECDH-ES", "A256GCM"]


def encrypt(plaintext: Mapping[str, object], jwk: Mapping[str, str]) -> str:
    """Encrypt *plaintext* as JSON to the public key *jwk*; returns a compact JWE."""
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"]}
    # Only the point: a "use" or "key_ops" of the issuer is no business of this library.
    recipient = JWK(**{member: jwk[member] for member in ("kty", "crv", "x", "y")})
    payload = json.dumps(plaintext).encode()
    jwe = JWE(payload, json.dumps(header), recipient=recipient, algs=ALGORITHMS)
    return str(jwe.serialize(compact=True))


def decrypt(jwe: str, private_jwk: JWK) -> Any:  # noqa: ANN401 - JSON
    """Open a compact JWE that names *private_jwk* by its kid; returns the JSON inside.

    Raises:
        ValueError: it is for another key, does not open, or does not hold JSON.
    """
    try:
        message = JWE(algs=ALGORITHMS)
        message.deserialize(jwe)
        if message.jose_header.get("kid") != private_jwk.get("kid"):
            raise ValueError("the JWE is for another key")
        message.decrypt(private_jwk)
    except JWException:
        raise ValueError("the JWE does not open") from None
    return json.loads(message.payload)
