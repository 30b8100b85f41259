"""How a request can fail, in words of the domain. No HTTP, no value in any message.

::

    DomainError
    ├── Unauthorized      the caller did not prove who it is
    ├── IssuerNotFound    no such issuer, or not the caller's
    ├── CardNotFound      the issuer has no such card
    ├── CardForbids       the card's state does not allow this
    ├── PinUnavailable    the card has no PIN that may be handed out
    ├── BadRequest        path or body is not as published
    ├── PinRefused        the encrypted PIN cannot be used: one answer for all ways
    ├── PinForbidden      the PIN policy forbids this PIN
    ├── TypeNotOffered    this PIN-block type is not taken
    └── TryLater          token, vault or database is away; the same request may be sent again
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


class IssuerNotFound(DomainError):
    """No such issuer, or not the caller's: the two look alike."""


class CardNotFound(DomainError):
    """The issuer has no such card."""


class CardForbids(DomainError):
    """The state of the card does not allow this."""


class PinUnavailable(DomainError):
    """The card has no PIN, or one that must not be handed out."""


class BadRequest(DomainError):
    """A part of the request is not as published."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field


class PinRefused(DomainError):
    """The encrypted PIN cannot be used."""


class PinForbidden(DomainError):
    """The PIN policy forbids this PIN."""


class TypeNotOffered(DomainError):
    """This PIN-block type is not taken."""


class TryLater(DomainError):
    """Something the service needs is away; the same request may be sent again.

    Nothing was changed, unless the database went away while it was committing: then the change may
    be there, and the same JWE again changes nothing more.
    """
