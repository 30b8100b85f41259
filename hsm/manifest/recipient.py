"""Recipients: the partners to whose public keys the vault encrypts."""

from functools import cached_property
from typing import Any

from pydantic import model_validator

from crypto.errors import JoseError
from crypto.jose.jwk import EcPublicKey, parse_public
from hsm.manifest.body import Body


class RecipientBody(Body):
    """A public P-256 key as a JWK (RFC 7517).

    GET pin is encrypted to that of D1, PIN verification values to that of the authorisation host.
    """

    jwk: dict[str, Any]
    """The key. A ``kid`` in it is named in our JWEs; without one, its thumbprint (RFC 7638)."""

    @model_validator(mode="after")
    def _is_a_key(self) -> "RecipientBody":
        try:
            parse_public(self.jwk)
        except JoseError:
            raise ValueError("jwk is not a public P-256 key") from None
        return self

    @cached_property
    def key(self) -> EcPublicKey:
        """The key, parsed."""
        return parse_public(self.jwk)
