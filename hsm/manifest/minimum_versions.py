"""Minimum versions: for each issuer the version below which a host takes no manifest.

Whoever writes the database may offer an older manifest. A host that has state knows the newest one
itself; a host without state takes nothing until operators who may sign for every issuer have signed
a list of minimum versions for it::

    {"valid_from": "…", "valid_until": "…", "minimum_versions": {"demobank01": 7}, "generations": 3}

An issuer that is not in the list may begin with any version: who signs a list lists every issuer
that was ever served. *generations* is the same of the table of key generations
(:mod:`hsm.manifest.generation_table`); 0: there was none. A host whose list has one serves nothing
before it has taken such a table: it would open with compromised keys.
"""

from typing import Annotated

from pydantic import Field

from hsm.manifest.body import SignedBody, parse_body
from hsm.manifest.model import VERSION_MAX, IssuerId


class MinimumVersions(SignedBody):
    """A list of minimum versions, good for a new host while it is in force."""

    minimum_versions: dict[IssuerId, Annotated[int, Field(ge=1, le=VERSION_MAX)]]
    generations: Annotated[int, Field(ge=0, le=VERSION_MAX)] = 0


def parse(text: bytes) -> MinimumVersions:
    """Read a list of minimum versions, or a draft of one, from JSON.

    Raises:
        ManifestRefused: *text* is none; the message names the members at fault.
    """
    return parse_body(MinimumVersions, text)
