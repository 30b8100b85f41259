"""The identity provider: whose access tokens name the cardholders of an issuer.

Its keys are pinned: nobody is asked for them. To replace one, operators sign a manifest with both
keys, and later one with the new key only.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from crypto.errors import JoseError
from crypto.jose.signing_keys import SigningKey, parse_signing_key
from hsm.manifest.body import Body

KEYS_MAX: Final = 8
NonEmpty = Annotated[str, Field(min_length=1)]


class JwkSetBody(Body):
    """A JWK set (RFC 7517, section 5) of public keys that verify signatures."""

    keys: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=KEYS_MAX)]
    """For ES256, RS256 or PS256; each has a ``kid``."""

    @model_validator(mode="after")
    def _are_keys(self) -> "JwkSetBody":
        try:
            distinct = len(self.by_kid) == len(self.keys)
        except JoseError:
            raise ValueError("not a public key that verifies ES256, RS256 or PS256") from None
        if not distinct:
            raise ValueError("two keys of one kid")
        return self

    @cached_property
    def by_kid(self) -> Mapping[str, SigningKey]:
        """The keys, parsed, by their key ids."""
        return {key.kid: key for key in map(parse_signing_key, self.keys)}


class IdentityProviderBody(Body):
    """An identity provider, our name with it, and how well a cardholder must have authenticated."""

    issuer: NonEmpty
    """The ``iss`` of its access tokens."""
    audience: NonEmpty
    """The ``aud`` of access tokens that are for us."""
    jwks: JwkSetBody
    """Its public keys, which are pinned: nobody is asked for them."""
    step_up_acr: NonEmpty | None = None
    """The ``acr`` without which no PIN is shown or set; None: any will do."""
    step_up_seconds: Annotated[int, Field(ge=1)] | None = None
    """The age that an authentication may have then; None: any will do."""

    @property
    def name(self) -> tuple[str, str]:
        """By what an access token says that it is of this provider and for us."""
        return self.issuer, self.audience
