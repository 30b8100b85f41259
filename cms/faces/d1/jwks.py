"""The public keys that partners encrypt to, as a JWK set (RFC 7517, 5; RFC 8615 for the path).

Of each role the newest comes first; an older one that still opens stays beside it until nobody
encrypts to it any more. Each has a member ``role``: ``d1``, to which D1 encrypts PIN blocks, or
``intake``, to which feeds of cards are encrypted. No access token is asked for: it is public.
"""

from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response

from cms.faces.answer import encoded, json_answer
from cms.faces.d1.described import PUBLIC_KEYS
from cms.faces.routes import Route
from cms.services.vault import called
from hsm.client import VaultCalls
from hsm.messages import PublicJwks
from hsm.port import PublicKeyRole

JWKS_PATH: Final = "/.well-known/jwks.json"
ROLES: Final = (PublicKeyRole.D1, PublicKeyRole.INTAKE)
CACHED: Final = encoded({"Cache-Control": "max-age=60"})


@dataclass(frozen=True, slots=True)
class PartnerKeys:
    """What partners fetch."""

    vault: VaultCalls

    def routes(self) -> tuple[Route, ...]:
        """Return the table."""
        return (Route("GET", JWKS_PATH, self.jwks, PUBLIC_KEYS),)

    async def jwks(self, _: Request) -> Response:
        """List the keys."""
        keys = [
            {**key, "role": role.value}
            for role in ROLES
            for key in (await called(self.vault, PublicJwks(role)))["keys"]
        ]
        return json_answer({"keys": keys}, CACHED)
