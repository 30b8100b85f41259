"""A feed of cards, made as somebody makes one who has none of our code: with jwcrypto."""

import json
import time
from collections.abc import Mapping
from typing import Any

from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

NAME = "personaliser"
KEY = JWK.generate(kty="EC", crv="P-256", kid="personaliser-1")


def feed_member(name: str = NAME, key: JWK = KEY) -> dict[str, object]:
    """A feed as a manifest has it."""
    return {"name": name, "jwk": key.export_public(as_dict=True)}


def feed(
    issuer_id: str,
    intake_jwk: Mapping[str, str],
    *cards: object,
    key: JWK = KEY,
    jws_header: Mapping[str, object] = {},
    jwe_header: Mapping[str, object] = {},
    **claims: object,
) -> str:
    """Write a feed; what *claims* and the headers say takes the place of what is right.

    A claim that is None is absent.
    """
    right: dict[str, Any] = {
        "iss": NAME,
        "aud": intake_jwk["kid"],
        "issuerId": issuer_id,
        "iat": int(time.time()),
        "cards": cards,
    }
    said = {name: value for name, value in {**right, **claims}.items() if value is not None}
    inner = sign(json.dumps(said), key, **jws_header)
    return encrypt(inner, intake_jwk, **jwe_header)


def sign(payload: str, key: JWK = KEY, **header: object) -> str:
    """Sign text as a feed signs its claims."""
    protected = {"alg": "ES256", "typ": "JWT", "kid": key.get("kid"), **header}
    jws = JWS(payload)
    jws.add_signature(key, protected=json.dumps(protected))
    return str(jws.serialize(compact=True))


def encrypt(text: str, intake_jwk: Mapping[str, str], **header: object) -> str:
    """Encrypt text as a feed is; a member of the header that is None is absent."""
    right = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": intake_jwk["kid"], "cty": "JWT"}
    protected = {name: value for name, value in {**right, **header}.items() if value is not None}
    recipient = JWK(**{name: intake_jwk[name] for name in ("kty", "crv", "x", "y")})
    jwe = JWE(text, json.dumps(protected), recipient=recipient)
    return str(jwe.serialize(compact=True))


def described(card_id: str, pan: str, **members: object) -> dict[str, object]:
    """A card as a feed describes it; a member that is None is absent."""
    right = {"cardId": card_id, "pan": pan, "expiry": "1230"}
    return {name: value for name, value in {**right, **members}.items() if value is not None}
