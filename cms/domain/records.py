"""Records that cross layers: who asks, and what the database knows of a card or a manifest."""

from dataclasses import dataclass
from typing import Final, Self

from cms.domain.cards import CardState
from cms.domain.control import Grant
from hsm.port import PinBlockType, SealedPin, SealedRecord

TAKEN: Final = "taken"
"""What a host answers of a manifest that its vault has taken."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, for the audit: a client of an issuer and its correlation id."""

    client_id: str
    correlation_id: str
    audit_user: str | None = None
    """Who asked at the client, in the client's words."""
    error_id: str | None = None
    """What the client is told to name a refusal by."""

    @classmethod
    def of_grant(cls, grant: Grant, correlation_id: str, error_id: str | None = None) -> Self:
        """Name who asks by what the client was granted."""
        return cls(grant.client_id, correlation_id, grant.audit_user, error_id)


@dataclass(frozen=True, slots=True)
class CardToChange:
    """What a PIN change needs to know of a card."""

    state: CardState
    counter: int
    sealed_record: SealedRecord
    request_known: bool
    personalised: bool


@dataclass(frozen=True, slots=True)
class CardToRead:
    """What handing out a PIN needs to know of a card; *newest* is the last counter in history."""

    state: CardState
    pin_type: PinBlockType | None
    counter: int
    newest: int
    sealed_record: SealedRecord
    sealed_pin: SealedPin | None


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """What a host answered of a version of an issuer's manifest."""

    version: int
    outcome: str
    """:data:`TAKEN`, or why its vault refused it."""


@dataclass(frozen=True, slots=True)
class ConsumedToken:
    """What a consumed control token was good for, and its card as it was in that moment."""

    grant: Grant
    card: CardToRead
    last_four: str
    """Of the card's number."""
