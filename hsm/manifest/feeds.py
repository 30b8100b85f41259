"""Feeds: who brings the cards of an issuer, such as its personaliser or its core bank system."""

import re
from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import Field, model_validator

from crypto.errors import JoseError
from crypto.jose.jwk import EcPublicKey, parse_public
from hsm.manifest.body import Body

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
FeedName = Annotated[str, Field(pattern=f"^{NAME_PATTERN.pattern}$")]


class FeedBody(Body):
    """A feed: its name, which is ``iss`` in what it sends, and the key that signs that.

    The key is a public P-256 key for ES256 as a JWK (RFC 7517). Without a ``kid`` its thumbprint
    names it.
    """

    name: FeedName
    """Its name, the ``iss`` of its feeds."""
    jwk: dict[str, Any]
    """The key that signs them."""

    @model_validator(mode="after")
    def _has_a_key(self) -> "FeedBody":
        try:
            _ = self.key
        except JoseError:
            raise ValueError("jwk is not a public P-256 key for signatures") from None
        return self

    @cached_property
    def key(self) -> EcPublicKey:
        """The key, parsed."""
        return parse_public(self.jwk, "sig")
