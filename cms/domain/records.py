"""Records that cross layers: who asks, and what the database knows of a card or a client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from cms.domain.cards import CardState
from cms.domain.control import Grant
from hsm.manifest.policy import PolicyBody
from hsm.port import CardFacts, ConfigKind, PinBlockType, SealedConfig, SealedPan, SealedPin


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
    """What a PIN change needs to know of a card, and of the client that asks for it."""

    state: CardState
    counter: int
    sealed_pan: SealedPan
    request_known: bool
    refused: frozenset[PinBlockType]
    """The forms in which the card's PINs failed too often."""
    limited: frozenset[PinBlockType]
    """The forms in which the client's PINs failed too often."""
    facts: CardFacts
    personalised: bool
    policy: PolicyBody
    """By which it was too often."""


@dataclass(frozen=True, slots=True)
class CardToRead:
    """What handing out a PIN needs to know of a card; *newest* is the last counter in history."""

    state: CardState
    pin_type: PinBlockType | None
    counter: int
    newest: int
    sealed_pan: SealedPan
    sealed_pin: SealedPin | None


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may call, as registered."""

    client_id: str
    auth: str
    secret_hashes: Sequence[bytes]
    """SHA-256 of each secret that is valid now: one, or two while one takes over from another."""
    certificate_subjects: Sequence[str]
    redirect_origins: Sequence[str] = ()
    embed_origins: Sequence[str] = ()
    failure_image_status: int = 410
    frame_key: str | None = None
    show_button: bool = True
    hide_seconds: int = 30
    view_style: Mapping[str, object] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True, slots=True)
class IssuerRecord:
    """An issuer in service, its clients, and its configuration, one of each kind."""

    clients: Sequence[Client]
    config: Mapping[ConfigKind, SealedConfig]


@dataclass(frozen=True, slots=True)
class ConsumedToken:
    """What a consumed control token was good for, and its card as it was in that moment."""

    grant: Grant
    card: CardToRead
