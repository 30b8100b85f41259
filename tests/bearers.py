"""An identity provider for tests: what a manifest says of it, and its access tokens."""

import json
from collections.abc import Mapping
from functools import cache

from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from tests.operators import VALID_UNTIL

IDENTITY_ISSUER = "https://identity.test"


@cache
def ec_key(kid: str = "ec", curve: str = "P-256") -> JWK:
    return JWK.generate(kty="EC", crv=curve, kid=kid, use="sig")


@cache
def rsa_key(kid: str = "rsa", bits: int = 2048) -> JWK:
    return JWK.generate(kty="RSA", size=bits, kid=kid, use="sig")


def public(key: JWK, **changed: object) -> dict[str, object]:
    """The public half of *key*; a member changed to None is left out."""
    return without_none({**key.export_public(as_dict=True), **changed})


def audience(issuer_id: str) -> str:
    """What the identity provider calls us for the cardholders of an issuer."""
    return f"pins of {issuer_id}"


def identity_provider(issuer_id: str, **members: object) -> dict[str, object]:
    """The member of a manifest; its audience is the issuer's own, as no two may share one."""
    return {
        "issuer": IDENTITY_ISSUER,
        "audience": audience(issuer_id),
        "jwks": {"keys": [public(ec_key())]},
        **members,
    }


def bearer(subject: str, issuer_id: str, **claims: object) -> str:
    """An access token for a cardholder of an issuer; a claim that is None is left out."""
    standard = {
        "iss": IDENTITY_ISSUER,
        "aud": audience(issuer_id),
        "sub": subject,
        "exp": int(VALID_UNTIL.timestamp()),
    }
    return access_token(without_none({**standard, **claims}))


def access_token(
    claims: Mapping[str, object], key: JWK | None = None, algorithm: str = "ES256"
) -> str:
    """Sign *claims*, by the key of the identity provider or another one."""
    key = ec_key() if key is None else key
    made = JWS(json.dumps(claims))
    header = {"alg": algorithm, "kid": key["kid"], "typ": "at+jwt"}
    made.add_signature(key, protected=json.dumps(header))
    return str(made.serialize(compact=True))


def without_none(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}
