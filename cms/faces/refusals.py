"""How a face says no, as its documentation shows it.

A face makes one :class:`Refusal` for each way, of the table by which it answers. The OpenAPI
documents and the catalogue of errors are made of these.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ClientKeyInvalid,
    ClientKeyMissing,
    ControlEnded,
    CounterExhausted,
    DomainError,
    EvidenceRefused,
    Invalid,
    IssuerNotFound,
    LimitReached,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ServiceUnavailable,
    StepUpRequired,
    StoredValueBroken,
    TooManyFailures,
    TypeNotOffered,
    Unauthorized,
    ValueNotPossible,
)

#: What the caller does about an error, where a face has nothing more exact to say.
CALLER_DOES: Final[Mapping[type[DomainError], str]] = {
    Unauthorized: "Prove anew who you are.",
    StepUpRequired: "Have the cardholder authenticate anew, as strongly as the issuer asks.",
    ClientKeyMissing: "Send the client key.",
    ClientKeyInvalid: "Send the client key of an app that is in service.",
    TooManyFailures: "Wait as long as Retry-After says.",
    IssuerNotFound: "Compare the issuer's id in the path with that of your access token.",
    CardNotFound: "Check the id. If it is right, the issuer has not imported the card.",
    EvidenceRefused: "As for a card that is unknown; the issuer finds more in its audit.",
    CardForbids: "Send it again only when the state of the card has changed.",
    BadRequest: "Correct the part that is named.",
    Invalid: "Correct the members that are named.",
    ControlEnded: "Ask for a new control token.",
    LimitReached: "Wait for the next day (UTC), or ask the issuer for a higher limit.",
    PinUnavailable: "Have a PIN set that may be shown.",
    PinRefused: "Make it anew: with the right key, for this card, in the form that is agreed.",
    PinForbidden: "Have the cardholder choose another PIN.",
    TypeNotOffered: "Use what the issuer offers, or ask it to offer this.",
    ValueNotPossible: "Set the PIN in the way that the issuer offers.",
    CounterExhausted: "Give the cardholder a new card.",
    StoredValueBroken: "Tell the issuer: an alarm is in its log.",
    ServiceUnavailable: "Send the same request again, when Retry-After has passed.",
}
DEFECT: Final = "A defect of the service, or something that is stored was changed by others."
TELL: Final = "Tell the issuer: its log says more."


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way in which a face says no."""

    status: int
    body: Mapping[str, object] | str
    """The members as they are sent, or what a page or an image says."""
    meaning: str
    caller_does: str
    error: type[DomainError] | None = None
    """What leads to it; None: no error of the domain."""
    code: str = ""
    """The member by which callers tell it from others of its status; empty: there is none."""
    media_type: str = "application/json"


def refusal_of(
    error: type[DomainError],
    status: int,
    body: Mapping[str, object] | str,
    code: str = "",
    *,
    caller_does: Mapping[type[DomainError], str] | None = None,
    media_type: str = "application/json",
) -> Refusal:
    """Describe how an error of the domain is answered.

    Args:
        error: the error; what it means is its docstring.
        status: of the answer.
        body: as :class:`Refusal` has it.
        code: as :class:`Refusal` has it.
        caller_does: what a face says more exactly than :data:`CALLER_DOES`.
        media_type: of the answer.
    """
    advice = {**CALLER_DOES, **(caller_does or {})}[error]
    return Refusal(status, body, meaning_of(error), advice, error, code, media_type)


def meaning_of(error: type[Exception]) -> str:
    """Return the first paragraph of an error's docstring, in one line."""
    return " ".join(inspect.cleandoc(str(error.__doc__)).partition("\n\n")[0].split())


def by_status(refusals: Iterable[Refusal]) -> Mapping[int, list[Refusal]]:
    """Sort refusals by their status."""
    sorted_: dict[int, list[Refusal]] = {}
    for refusal in refusals:
        sorted_.setdefault(refusal.status, []).append(refusal)
    return dict(sorted(sorted_.items()))
