"""How a request can fail, in words of the domain. No HTTP, no value in any message.

::

    DomainError
    ├── Unauthorized      the caller did not prove who it is
    ├── StepUpRequired    the cardholder must prove it anew, or more strongly
    ├── IssuerNotFound    no such issuer, or not the caller's
    ├── CardNotFound      the issuer has no such card
    ├── CardForbids       the card's state does not allow this
    ├── PinUnavailable    the card has no PIN that may be handed out
    ├── BadRequest        path or body is not as published
    ├── PinRefused        the encrypted PIN cannot be used: one answer for all ways
    ├── TooManyFailures   too many SECCOS PINs that are not genuine, wrong passwords or guesses
    ├── PinForbidden      the PIN policy forbids this PIN
    ├── TypeNotOffered    this PIN-block type is not taken
    ├── ValueNotPossible  the PIN cannot give a verification value that the issuer asks for
    ├── CounterExhausted  the card has had as many changes as can be counted
    ├── ClientKeyMissing  an app did not name itself
    ├── ClientKeyInvalid  no app is registered by this name
    ├── Invalid           members of the request are not as published
    ├── ControlEnded      a token or session is unknown, consumed, over, or for another use
    └── ServiceUnavailable  HSM token, vault or database is unavailable; may be sent again
"""

from enum import StrEnum


class Field(StrEnum):
    """The part of a request that is not as published."""

    CARD_ID = "cardId"
    BODY = "body"
    TYPE = "type"
    ENCRYPTED_PIN_BLOCK = "encryptedPinBlock"


class DomainError(Exception):
    """Root of the tree; never raised itself."""


class Unauthorized(DomainError):
    """The caller did not prove who it is."""


class StepUpRequired(DomainError):
    """The cardholder must authenticate anew, or more strongly."""


class IssuerNotFound(DomainError):
    """No such issuer, or not the caller's: the two look alike."""


class CardNotFound(DomainError):
    """The issuer has no such card."""


class CardForbids(DomainError):
    """The state of the card does not allow this."""


class PinUnavailable(DomainError):
    """The card has no PIN, or one that must not be handed out."""


class Refusal(StrEnum):
    """Why a SECCOS PIN was refused: for the audit only, since the answer is one for all."""

    NOT_GENUINE = "NOT_GENUINE"
    WRONG_PIN_DATA = "WRONG_PIN_DATA"
    CARD_REFUSED = "CARD_REFUSED"


class BadRequest(DomainError):
    """A part of the request is not as published."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field


class PinRefused(DomainError):
    """The encrypted PIN cannot be used."""

    def __init__(self, refusal: Refusal | None = None) -> None:
        super().__init__()
        self.refusal = refusal


class TooManyFailures(DomainError):
    """The client has failed too often."""


class PinForbidden(DomainError):
    """The PIN policy forbids this PIN."""


class TypeNotOffered(DomainError):
    """This PIN-block type is not taken."""


class ValueNotPossible(DomainError):
    """A PIN in this form cannot give a verification value that the card needs."""


class CounterExhausted(DomainError):
    """The card has had as many PIN changes as can be counted."""


class ServiceUnavailable(DomainError):
    """Something the service needs is unavailable; the same request may be sent again.

    Nothing was changed, unless the database went away while it was committing: then the change may
    be there, and the same JWE again changes nothing more.
    """


class ClientKeyMissing(DomainError):
    """An app did not name itself."""


class ClientKeyInvalid(DomainError):
    """No app is registered by this name."""


class Invalid(DomainError):
    """Members of the request are not as published."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        super().__init__()
        self.fields = fields
        """Each the path of a member, and what is wrong with it, without its value."""


class ControlEnded(DomainError):
    """A token or session is unknown, consumed, over, or for another use: all look alike."""
