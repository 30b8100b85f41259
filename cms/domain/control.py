"""Control tokens and page sessions: what they are good for, and how long they live.

A control token is consumed once: consumed for an image, or opened as a page session. It is live
while it is neither consumed nor ended nor expired, the card's PIN was not changed since it was
issued, and fewer than :data:`LIVE_MAX` newer ones are live. A session is live while it is neither
ended nor expired, and the card's PIN was not changed since its control
token was issued.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from cms.domain.cards import ALLOWED_STATES, CardState, CardType, Verb
from cms.domain.errors import CardForbids
from cms.domain.limits import Limit
from hsm.port import Face, Purpose

VERBS: Final[Mapping[Purpose, Verb]] = {Purpose.VIEW: Verb.GET_PIN, Purpose.SET: Verb.SET_PIN}
#: The rows of the one table of what a card allows, by face.
STATES: Final[Mapping[Face, Mapping[Verb, frozenset[CardState]]]] = {
    Face.HOSTED: ALLOWED_STATES,
    # Here a PIN is set while the card is applied for: it need not be in service yet.
    Face.PINCONTROL: {
        verb: frozenset({CardState.INACTIVE, CardState.ACTIVE}) for verb in VERBS.values()
    },
}


class EndReason(StrEnum):
    """Why a control token or a session is over, where it did not just expire."""

    SHOWN = "shown"
    SET = "set"
    CANCELLED = "cancelled"
    FAILED = "failed"
    REVOKED = "revoked"
    TRIES = "tries"


SESSION_SECONDS: Final[Mapping[Face, int]] = {Face.HOSTED: 600, Face.PINCONTROL: 300}
WARN_SECONDS: Final = 20
LIVE_MAX: Final = 3
"""Live control tokens of a card, purpose and client."""
TRIES_MAX: Final = 5
"""PINs in one session that the policy refuses."""
KEPT_SECONDS: Final = 24 * 60 * 60
"""How long after it expired a control token's row may be deleted."""
FAILURES_BY_ADDRESS: Final = Limit(failures_max=10, window_seconds=60)
"""Unknown control tokens from one address."""


def require_cardholder_may(
    face: Face, purpose: Purpose, state: CardState, *, personalised: bool
) -> None:
    """Let a cardholder see or set the PIN of a card in *state*.

    Raises:
        CardForbids: the table says no; or the face sets PINs before a card is *personalised* only.
    """
    too_late = face is Face.PINCONTROL and purpose is Purpose.SET and personalised
    if state not in STATES[face][VERBS[purpose]] or too_late:
        raise CardForbids


@dataclass(frozen=True, slots=True)
class Grant:
    """What a control token or a session is good for."""

    issuer_id: str
    card_id: str
    client_id: str
    face: Face
    purpose: Purpose
    style: Mapping[str, object]
    redirect_url: str | None = None
    embedded: bool = False
    audit_user: str | None = None
    """Who asked for it at the client, in the client's words."""


@dataclass(frozen=True, slots=True)
class Plastic:
    """A card as the pincontrol face finds it.

    Its PIN status, in that face's words, is W while it has no PIN, D with one that came with the
    card, S with one that was set since.
    """

    issuer_id: str
    card_id: str
    state: CardState
    personalised: bool
    pin_type: str | None
    """The form in which the PIN came; none without a PIN."""


@dataclass(frozen=True, slots=True)
class CardOfHolder:
    """What a cardholder may know of a card; *created_at* is when it came into the service."""

    issuer_id: str
    card_id: str
    state: CardState
    last_four: str
    expiry: str
    """MMYY."""
    card_type: CardType
    created_at: datetime
    pin_type: str | None
    """The form in which the PIN came; none without a PIN."""
    pin_changed_at: datetime | None

    @property
    def pin_is_set(self) -> bool:
        """Tell whether the card has a PIN, in whatever form."""
        return self.pin_type is not None
