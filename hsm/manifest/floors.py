"""Floors: for each issuer the version below which a host takes no manifest.

Whoever writes the database may offer an older manifest. A host that has state knows the newest one
itself; a host without state takes nothing until operators who may sign for every issuer have signed
a list of floors for it::

    {"valid_from": "…", "valid_until": "…", "floors": {"demobank01": 7}}

An issuer that is not in the list may begin with any version: who signs a list lists every issuer
that was ever served.
"""

import json
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from crypto.errors import JoseError
from crypto.jose import json_object
from hsm.errors import ManifestRefused
from hsm.manifest.body import Body, canonical_body
from hsm.manifest.model import VERSION_MAX, IssuerId


class Floors(Body):
    """A list of floors, good for a new host from *valid_from* until just before *valid_until*."""

    valid_from: AwareDatetime
    valid_until: AwareDatetime
    floors: dict[IssuerId, Annotated[int, Field(ge=1, le=VERSION_MAX)]]

    def is_valid_at(self, moment: datetime) -> bool:
        """Tell whether a new host may take it."""
        return self.valid_from <= moment < self.valid_until

    def canonical(self) -> bytes:
        """Write it as the bytes that are signed: JSON in ASCII, members sorted, no white space."""
        return canonical_body(self.model_dump(mode="json"))


def parse(text: bytes) -> Floors:
    """Read a list of floors.

    Raises:
        ManifestRefused: *text* is none.
    """
    try:
        return Floors.model_validate_json(json.dumps(json_object.parse(text)))
    except (JoseError, ValidationError):
        raise ManifestRefused("not a list of floors") from None
