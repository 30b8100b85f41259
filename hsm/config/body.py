"""What the bodies of all kinds of configuration have in common."""

import json

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A configuration body: unknown members are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def canonical_body(body: object) -> bytes:
    """Write a body as the bytes that are sealed: JSON, members sorted, no white space."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
