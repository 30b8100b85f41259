"""Whether a card may get a control token: its state, its PIN, what its issuer asks for."""

from cms.domain.cards import CardState
from cms.domain.control import require_cardholder_may
from cms.domain.errors import PinUnavailable, ValueNotPossible
from hsm.manifest.model import Manifest
from hsm.port import Face, PinBlockType, Purpose


def require_token_allowed(
    manifest: Manifest,
    face: Face,
    purpose: Purpose,
    state: CardState,
    pin_type: str | None,
    *,
    personalised: bool,
) -> None:
    """Let a control token be issued.

    Args:
        manifest: that of the card's issuer.
        face: where the control token is asked for.
        purpose: what for.
        state: the card's.
        pin_type: the form in which the card's PIN came; None: it has none.
        personalised: whether the card is.

    Raises:
        CardForbids: the card's state does not allow it, or at this face its being personalised.
        PinUnavailable: the card has no PIN that may be shown.
        ValueNotPossible: the issuer takes PINs from D1 only.
    """
    require_cardholder_may(face, purpose, state, personalised=personalised)
    if purpose is Purpose.VIEW and not can_be_shown(pin_type):
        raise PinUnavailable
    if purpose is Purpose.SET and not takes_pins(manifest):
        raise ValueNotPossible


def can_be_shown(pin_type: str | None) -> bool:
    """Tell whether there is a PIN, in a form that may be shown."""
    return pin_type == PinBlockType.ISO0


def takes_pins(manifest: Manifest) -> bool:
    """Tell whether the issuer can make every verification value of a PIN that is not from D1.

    The vault decides when the PIN comes; a cardholder should not have to enter one first.
    """
    only_d1_makes_prws = manifest.seccos is not None and manifest.seccos.prw_source == "d1"
    return not (manifest.verification.prw and only_d1_makes_prws)
