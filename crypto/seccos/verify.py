"""Verify a SECCOS payload for a card and a counter, and read its PIN.

NOT PUBLIC: OUR DESIGN. MAC, block and PRW are all computed before any of them is judged, so that
time does not tell which was wrong. A verdict says which counter a failure belongs to; the caller
of the service gets one and the same answer.
"""

from dataclasses import dataclass
from enum import Enum, auto
from hmac import compare_digest
from typing import Final

from crypto.errors import PinBlockError
from crypto.seccos import block, mac, prw
from crypto.seccos.card import CardData
from crypto.seccos.payload import Payload
from crypto.seccos.profile import SeccosProfile
from crypto.types import Mac, Pin, TdesEcb

STAND_IN: Final = Pin("0000")


class Verdict(Enum):
    """The result for a payload."""

    ACCEPTED = auto()
    NOT_GENUINE = auto()
    """The MAC or the counter is wrong: the sender has no key, or is late. Counts for the client."""
    WRONG_PIN_DATA = auto()
    """The MAC is right, but the block or the PRW is wrong. Counts for the card."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys shared with D1, as functions; session keys where the profile says so."""

    decrypt: TdesEcb
    """Not called with ``verify: mac_only``."""
    prw: Mac
    """Not called with ``verify: mac_only``, nor when only the issuer makes a PRW."""
    mac: Mac


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and the PIN if it was read and accepted, else None."""

    verdict: Verdict
    pin: Pin | None


def verify(
    payload: Payload, card: CardData, counter: int, profile: SeccosProfile, keys: Keys
) -> Outcome:
    """Verify *payload*.

    Args:
        payload: what D1 sent.
        card: the card whose PIN it is.
        counter: the change counter that is expected.
        profile: how D1 computes.
        keys: the keys shared with D1. Their exceptions pass through unchanged; no other is
            raised.
    """
    genuine = _is_genuine(payload, card, counter, profile, keys)
    if profile.verify == "mac_only":
        return Outcome(Verdict.ACCEPTED if genuine else Verdict.NOT_GENUINE, None)
    pin = _pin(payload, card, counter, profile, keys)
    prw_ok = _prw_is_right(payload, pin or STAND_IN, card, counter, profile, keys)
    if not genuine:
        return Outcome(Verdict.NOT_GENUINE, None)
    if pin is None or not prw_ok:
        return Outcome(Verdict.WRONG_PIN_DATA, None)
    return Outcome(Verdict.ACCEPTED, pin)


def _is_genuine(
    payload: Payload, card: CardData, counter: int, profile: SeccosProfile, keys: Keys
) -> bool:
    expected = mac.compute(
        payload.block,
        card,
        counter,
        profile,
        keys.mac,
        prw=payload.prw,
        random=payload.random,
    )
    current = payload.counter in (None, counter)
    return compare_digest(expected, payload.mac) and current


def _pin(
    payload: Payload, card: CardData, counter: int, profile: SeccosProfile, keys: Keys
) -> Pin | None:
    try:
        return block.parse(payload.block, card, counter, profile.pin_block, keys.decrypt)
    except PinBlockError:
        return None


def _prw_is_right(
    payload: Payload,
    pin: Pin,
    card: CardData,
    counter: int,
    profile: SeccosProfile,
    keys: Keys,
) -> bool:
    if not profile.prw.in_payload:
        return True
    random, random_ok = payload.random, True
    if profile.prw.counter_binding == "replace_random":
        # D1 may send what it used all the same; then it is what we use.
        random_ok = payload.random in (b"", prw.replacement(counter))
        random = b""
    expected = prw.compute(pin, card, counter, random, profile, keys.prw)
    return compare_digest(expected, payload.prw) and random_ok
