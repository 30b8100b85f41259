"""What is said of a route, beside it: what it takes, what it answers, and for whom it is.

A body whose members are typed (:class:`msgspec.Struct`) is described by its type: its fields, their
constraints and their first examples. :mod:`cms.faces.openapi` makes a document of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from cms.faces.refusals import Refusal

Schema: TypeAlias = Mapping[str, Any]
"""A JSON schema, draft 2020-12, as in OpenAPI 3.1."""
Model: TypeAlias = type[msgspec.Struct]
JSON: Final = "application/json"
TEXT: Final[Schema] = {"type": "string"}
BINARY: Final[Schema] = {}


@dataclass(frozen=True, slots=True)
class Content:
    """A body, by its type or by a schema."""

    of: Model | Schema
    media_type: str = JSON
    example: object = None
    """None: made of the examples of the members, where there are any."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that is no refusal."""

    description: str
    content: Content | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """What each says, by its name."""
    otherwise: Sequence[Content] = ()
    """The body, where it is of another media type."""

    @property
    def contents(self) -> Sequence[Content]:
        """All that the body may be."""
        return self.otherwise if self.content is None else (self.content, *self.otherwise)


@dataclass(frozen=True, slots=True)
class Operation:
    """What can be called by a route's methods."""

    summary: str
    answers: Mapping[int, Answered]
    refusals: Sequence[Refusal] = ()
    description: str = ""
    tag: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()
    """As OpenAPI has them; :func:`parameter` makes one."""
    body: Sequence[Content] = ()
    """One for each media type; empty: none is read."""
    body_required: bool = True
    security: Sequence[str] = ()
    """Names of schemes in :class:`About`, all of which are needed."""
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What a document says of a face as a whole."""

    name: str
    """As it is typed after ``python -m cms openapi``."""
    title: str
    description: str
    error: Model | Schema = field(default_factory=dict)
    """The body of a refusal."""
    security: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Security schemes by name, as OpenAPI has them."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """For whom operations are, by their tag."""


def parameter(
    where: str,
    name: str,
    schema: Schema = TEXT,
    description: str = "",
    *,
    required: bool = False,
    example: object = None,
) -> Mapping[str, Any]:
    """Describe a parameter; *where* is ``path``, ``query`` or ``header``."""
    made: dict[str, Any] = {"name": name, "in": where, "schema": schema}
    if required or where == "path":
        made["required"] = True
    if description:
        made["description"] = description
    if example is not None:
        made["example"] = example
    return made


CORRELATION_ID: Final = parameter(
    *("header", "x-correlation-id", TEXT),
    "Names the request in the log of both sides; it is echoed. Never a reason to refuse.",
    example="6f3c2d1e-0b7a-4e5d-9c8b-a1b2c3d4e5f6",
)
