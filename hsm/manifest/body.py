"""What the bodies of all kinds of configuration have in common."""

import json

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A configuration body: unknown members are refused, and ``"4"`` is not taken for ``4``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def canonical_body(body: object) -> bytes:
    """Write a body as the bytes that are sealed: JSON in ASCII, members sorted, no white space.

    >>> canonical_body({"length_min": 4, "length_max": 6})
    b'{"length_max":6,"length_min":4}'
    """
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
