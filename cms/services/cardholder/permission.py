"""Whether a cardholder may get a token for a card: its state, its PIN, what its issuer asks for."""

from collections.abc import Mapping
from typing import Final

from cms.domain.cards import CardState
from cms.domain.control import Face, Purpose, permit
from cms.domain.errors import (
    CardForbids,
    CardNotFound,
    ControlEnded,
    CounterExhausted,
    DomainError,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ValueNotPossible,
)
from crypto.seccos.profile import SeccosProfile
from hsm.config.kinds import parse_body
from hsm.config.verification import VerificationBody
from hsm.errors import ConfigRefused
from hsm.port import ConfigKind, PinBlockType, VaultConfig

#: What the audit says of a refusal.
REASONS: Final[Mapping[type[DomainError], str]] = {
    CardForbids: "CARD_STATE_FORBIDDEN",
    CardNotFound: "CARD_NOT_FOUND",
    ControlEnded: "CONTROL_ENDED",
    CounterExhausted: "COUNTER_EXHAUSTED",
    PinForbidden: "PIN_CHANGE_FORBIDDEN",
    PinRefused: "PIN_REFUSED",
    PinUnavailable: "PIN_NOT_AVAILABLE",
    ValueNotPossible: "VALUE_NOT_POSSIBLE",
}


def permit_token(
    face: Face,
    purpose: Purpose,
    state: CardState,
    pin_type: str | None,
    config: VaultConfig,
    *,
    personalised: bool,
) -> None:
    """Let a token be issued.

    Args:
        face: where it is asked for.
        purpose: what for.
        state: the card's.
        pin_type: the form in which the card's PIN came; None: it has none.
        config: its issuer's.
        personalised: whether the card is.

    Raises:
        CardForbids: state or production do not allow it.
        PinUnavailable: the card has no PIN that may be shown.
        ValueNotPossible: the issuer takes PINs from D1 only.
    """
    permit(face, purpose, state, personalised=personalised)
    if purpose is Purpose.VIEW and not can_be_shown(pin_type):
        raise PinUnavailable
    if purpose is Purpose.SET and not takes_pins(config):
        raise ValueNotPossible


def can_be_shown(pin_type: str | None) -> bool:
    """Tell whether there is a PIN, in a form that may be shown."""
    return pin_type == PinBlockType.ISO0


def takes_pins(config: VaultConfig) -> bool:
    """Tell whether the issuer can make every verification value of a PIN that is not from D1.

    The vault decides when the PIN comes; a cardholder should not have to enter one first.
    """
    asked, profile = (_body(config, kind) for kind in (ConfigKind.VERIFICATION, ConfigKind.SECCOS))
    wants_prw = isinstance(asked, VerificationBody) and asked.prw
    return not (wants_prw and isinstance(profile, SeccosProfile) and profile.prw_source == "d1")


def _body(config: VaultConfig, kind: ConfigKind) -> object:
    sealed = config.get(kind)
    try:
        return parse_body(kind, sealed.body) if sealed else None
    except ConfigRefused:
        return None
