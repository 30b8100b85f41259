"""How a request can fail, in words of the domain. No HTTP, no value in any message.

As a call meets them: who calls, what for, with which request, for which PIN.

::

    DomainError
    ├── Unauthorized        the caller did not prove who it is
    ├── StepUpRequired      the cardholder must prove it anew, or more strongly
    ├── ClientKeyMissing    an app did not name itself
    ├── ClientKeyInvalid    no app is registered by this name
    ├── TooManyFailures     the caller guessed too often: PINs, passwords, control tokens
    ├── IssuerNotFound      no such issuer, or not the caller's
    ├── CardNotFound        the issuer has no such card
    ├── EvidenceRefused     the vault does not find the card to be the caller's
    ├── CardForbids         the card's state does not allow this
    ├── BadRequest          path or body are not as published
    ├── Invalid             members of the request are not as published
    ├── ControlEnded        a control token or page session cannot be used
    ├── LimitReached        as many PINs were shown, or set from pages, as may be on a day
    ├── PinUnavailable      the card has no PIN that may be handed out
    ├── PinRefused          the encrypted PIN cannot be used: one answer for all ways
    ├── PinForbidden        the PIN policy forbids this PIN
    ├── TypeNotOffered      this PIN-block type is not taken
    ├── ValueNotPossible    the PIN cannot give a verification value that the issuer asks for
    ├── CounterExhausted    the card has had as many changes as can be counted
    ├── StoredValueBroken   what is stored is not what was stored: an alarm
    └── ServiceUnavailable  vault or database is unavailable; may be sent again
"""

from enum import StrEnum


class Field(StrEnum):
    """The part of a request that is not as published."""

    CARD_ID = "cardId"
    BODY = "body"
    TYPE = "type"
    ENCRYPTED_PIN_BLOCK = "encryptedPinBlock"
    FORWARDED_FOR = "X-Forwarded-For"


class DomainError(Exception):
    """Root of the tree; never raised itself."""

    receipt: str | None = None
    """Names the line of the vault's log that tells of it, if one does."""


class Unauthorized(DomainError):
    """The caller did not prove who it is."""


class StepUpRequired(DomainError):
    """The cardholder must authenticate anew, or more strongly."""


class ClientKeyMissing(DomainError):
    """An app did not name itself."""


class ClientKeyInvalid(DomainError):
    """No app is registered by this name."""


class TooManyFailures(DomainError):
    """The caller has failed too often, and is refused for a while whatever it sends."""


class IssuerNotFound(DomainError):
    """No such issuer, or not the caller's: the two look alike."""


class CardNotFound(DomainError):
    """The issuer has no such card."""


class EvidenceRefused(DomainError):
    """To the vault the card is not the caller's, whatever the database says. To callers: no card.

    What was presented is for another card, client or issuer than the card's sealed record.
    """


class CardForbids(DomainError):
    """The state of the card does not allow this."""


class JweFault(StrEnum):
    """What is wrong with the form of a JWE: for log and audit only, since the answer is one."""

    JWE_TOO_LONG = "JWE_TOO_LONG"
    JWE_PARTS = "JWE_PARTS"
    JWE_BASE64URL = "JWE_BASE64URL"
    JWE_SIZES = "JWE_SIZES"
    JWE_HEADER = "JWE_HEADER"
    JWE_HEADER_MEMBER = "JWE_HEADER_MEMBER"
    JWE_HEADER_VALUE = "JWE_HEADER_VALUE"
    JWE_ALG = "JWE_ALG"
    JWE_ENC = "JWE_ENC"
    JWE_KID = "JWE_KID"
    JWE_EPK = "JWE_EPK"


class BadRequest(DomainError):
    """A part of the request is not as published.

    *fault* says more where it is a JWE.
    """

    def __init__(self, field: Field, fault: JweFault | None = None) -> None:
        super().__init__()
        self.field = field
        self.fault = fault


class Invalid(DomainError):
    """Members of the request are not as published."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        super().__init__()
        self.fields = fields
        """Each the path of a member, and what is wrong with it, without its value."""


class ControlEnded(DomainError):
    """A control token or page session is unknown, consumed, over, or for another use.

    All look alike to programs, but to the holder of a live session whose card's PIN was *changed
    elsewhere*. The page of one that was issued has its client's look.
    """

    def __init__(self, *, changed_elsewhere: bool = False) -> None:
        super().__init__()
        self.changed_elsewhere = changed_elsewhere


class LimitReached(DomainError):
    """A card, a client or an issuer has had as many PINs shown or set as it may have on a day."""


class PinUnavailable(DomainError):
    """The card has no PIN, or one that must not be handed out."""


class Refusal(StrEnum):
    """Why a PIN was refused: for the audit only, since the answer is one for all."""

    NOT_GENUINE = "NOT_GENUINE"
    WRONG_PIN_DATA = "WRONG_PIN_DATA"
    CARD_REFUSED = "CARD_REFUSED"


class PinRefused(DomainError):
    """The encrypted PIN cannot be used."""

    def __init__(self, refusal: Refusal | None = None) -> None:
        super().__init__()
        self.refusal = refusal


class PinForbidden(DomainError):
    """The PIN policy forbids this PIN."""


class TypeNotOffered(DomainError):
    """This PIN-block type is not taken."""


class ValueNotPossible(DomainError):
    """A PIN in this form cannot give a verification value that the card needs."""


class CounterExhausted(DomainError):
    """The card has had as many PIN changes as can be counted."""


class StoredValueBroken(DomainError):
    """A stored value is not what was stored: tampering, or a broken database. An alarm."""


class ServiceUnavailable(DomainError):
    """The vault or the database is unavailable; the same request may be sent again.

    It is also the answer when a card was changed by others at each try to change its PIN. Nothing
    was changed, unless the database was lost while it committed: then the change may be there, and
    the same JWE sent again changes nothing more.
    """
