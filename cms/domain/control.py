"""Control tokens and page sessions: what they are good for, and how long they live.

A control token is consumed once: consumed for an image, or opened as a page session. It is live
while it is neither consumed nor ended nor expired, the card's PIN was not changed since it was
issued, and fewer than :data:`LIVE_MAX` newer ones are live. A session is live while it is neither
ended nor expired, fewer than :data:`TRIES_MAX` PINs were refused in it, and the card's PIN was not
changed since its control token was issued.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from cms.domain.cards import ALLOWED_STATES, CardState, CardType, Verb
from cms.domain.errors import CardForbids
from cms.domain.limits import Limit
from hsm.port import Face, Purpose, SealedGrant, SealedRecord

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


def canonical(control_token: str) -> str:
    """Write a control token as the vault made it: some apps write a UUID in capitals.

    >>> canonical(" 0B3C1A9E-5F64-4E2E-9D0C-3E1B7A2F6D58 ")
    '0b3c1a9e-5f64-4e2e-9d0c-3e1b7a2f6d58'
    """
    return control_token.strip().lower()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a control token or a session is good for."""

    issuer_id: str
    card_id: str
    client_id: str
    face: Face
    purpose: Purpose
    grant_id: str
    """The vault's name for it, which its page knows too."""
    sealed_grant: SealedGrant = field(repr=False)
    """What the vault wants to see, with the control token, before it shows or sets a PIN."""
    style: Mapping[str, object]
    redirect_url: str | None = None
    embedded: bool = False
    audit_user: str | None = None
    """Who asked for it at the client, in the client's words."""


@dataclass(frozen=True, slots=True)
class Plastic:
    """A card as the pincontrol face finds it; *counter* counts the changes of its PIN.

    Its PIN status, in that face's words, is W while it has no PIN, D with one that came with the
    card, S with one that was set since.
    """

    issuer_id: str
    card_id: str
    state: CardState
    personalised: bool
    pin_type: str | None
    """The form in which the PIN came; none without a PIN."""
    counter: int
    sealed_record: SealedRecord = field(repr=False)


@dataclass(frozen=True, slots=True)
class CardOfHolder:
    """A card as the hosted face finds it; *created_at* is when it came into the service."""

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
    counter: int
    """The changes of its PIN."""
    sealed_record: SealedRecord = field(repr=False)

    @property
    def pin_is_set(self) -> bool:
        """Tell whether the card has a PIN, in whatever form."""
        return self.pin_type is not None
