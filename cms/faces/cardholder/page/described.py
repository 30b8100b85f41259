"""What is said of pages and of what their scripts post; each face has refusals of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from cms.domain.errors import (
    BadRequest,
    CardForbids,
    ControlEnded,
    DomainError,
    PinForbidden,
    ServiceUnavailable,
    TooManyFailures,
)
from cms.faces.cardholder.page.answers import ENDS
from cms.faces.cardholder.page.messages import DEFAULT_LANGUAGE, LANGUAGES, MESSAGES
from cms.faces.cardholder.page.models import CONTROL_TOKEN, MEMBER_CHARS_MAX, SESSION, Extended
from cms.faces.operation import TEXT, Answered, Content, Model, Operation, Schema, parameter
from cms.faces.refusals import Refusal, refusal_of

SCRIPT: Final = "page script"
PAGE: Final = "page"
HTML: Final = "text/html"
NO_STORE: Final = {"Cache-Control": "`no-store`."}
EXAMPLES: Final = {
    "session": SESSION,
    "jwe": "eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSJ9..AAECAwQFBgcICQoL.o9JvGk0R4vYk.t7d0Yb0V",
}
LANGUAGE: Final[Mapping[str, Any]] = parameter(
    *("query", "lang", TEXT),
    f"The language to begin with, one of {', '.join(LANGUAGES)}; others are ignored.",
    example="de",
)


class Refusals(Protocol):
    """How a face describes how it answers errors, and what no route takes: by status."""

    def __call__(
        self, *errors: type[DomainError], statuses: Sequence[int] = (), changed: bool = False
    ) -> Sequence[Refusal]:
        """Describe them; *changed*: also a PIN that was changed elsewhere. A defect is always."""


def page_refusals(
    *errors: type[DomainError], ends: Mapping[type[Exception], tuple[int, str]] = ENDS
) -> Sequence[Refusal]:
    """Describe the pages that say why there is no other."""
    texts = MESSAGES[DEFAULT_LANGUAGE]
    return [
        refusal_of(error, ends[error][0], texts[f"{ends[error][1]}_title"], media_type=HTML)
        for error in errors
    ]


def page_answer(description: str) -> Answered:
    """Describe a page."""
    headers = {**NO_STORE, "Content-Security-Policy": "Lets the page's own script run only."}
    return Answered(description, Content(TEXT, HTML), headers)


def texts(*names: str) -> Schema:
    """Describe an object of texts."""
    properties = {
        name: {
            "type": "string",
            "maxLength": MEMBER_CHARS_MAX,
            "examples": [EXAMPLES.get(name, CONTROL_TOKEN)],
        }
        for name in names
    }
    return {"type": "object", "required": [*names], "properties": properties}


def posted(
    summary: str,
    refusals: Sequence[Refusal],
    *names: str,
    of: Model | None = None,
    body: Schema | None = None,
) -> Operation:
    """Describe what a page's script posts: texts of these *names*, or *body*."""
    answers = {204: Answered("Done.", headers=NO_STORE)}
    if of is not None:
        answers = {200: Answered("What the script goes on with.", Content(of), NO_STORE)}
    return Operation(summary, answers, refusals, tag=SCRIPT, body=[Content(body or texts(*names))])


def by_page(
    refusals: Refusals, *errors: type[DomainError], changed: bool = False
) -> Sequence[Refusal]:
    """Describe how what a page's script posts is refused."""
    known = (BadRequest, ControlEnded, ServiceUnavailable, *errors)
    return refusals(*known, statuses=(403, 415), changed=changed)


def opening(refusals: Refusals, of: Model, *names: str, body: Schema | None = None) -> Operation:
    """Describe how a script opens the session of a set page."""
    refused = by_page(refusals, TooManyFailures)
    return posted("Open a page session", refused, *names, of=of, body=body)


def extending(refusals: Refusals) -> Operation:
    """Describe how a session gets its time again."""
    refused = by_page(refusals, changed=True)
    return posted("Extend a page session", refused, "session", of=Extended)


def submitting(refusals: Refusals) -> Operation:
    """Describe how a PIN is sent."""
    refused = by_page(refusals, CardForbids, PinForbidden, changed=True)
    return posted("Set the PIN", refused, "session", "controlToken", "jwe")


def cancelling(refusals: Refusals) -> Operation:
    """Describe how a session is ended by its cardholder; one that is over stays so."""
    refused = refusals(BadRequest, ServiceUnavailable, statuses=(403, 415))
    return posted("Cancel a page session", refused, "session")
