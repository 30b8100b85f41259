"""How many PINs may fail: blocks that fit no PAN, PINs that the policy refuses, SECCOS payloads.

An answer to a PIN is one to a guess: whoever may send any may try PANs, since a block either is one
for the card's PAN or is not, and a PIN that only the policy refuses says that it is. With SECCOS's
keys they may try PINs, since a PRW either fits or does not. That is counted for each card; its
issuer's policy says how many are too many. What is counted apart is each a kind, so that somebody
who has not SECCOS's keys does not stop SECCOS.

For each client is counted what a client should never send: a block for another PAN, and SECCOS
without its keys. That never stops a card.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from hsm.counts import DAY_SECONDS, Counts, Try, Window
from hsm.errors import (
    CardRefusesForm,
    ClientLimited,
    HsmError,
    NotGenuine,
    WeakPinRefused,
    WrongPinData,
)
from hsm.manifest.policy import PolicyBody
from hsm.port import CLIENT_WINDOW_SECONDS, CardRef, PinBlockType

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What is counted, each for itself."""

    CARD_ISO0 = "card.iso0"
    """Blocks that are none for the card's PAN."""
    CARD_POLICY = "card.policy"
    """PINs that the policy refuses, in blocks that are."""
    CARD_SECCOS = "card.seccos"
    """Wrong PINs, with SECCOS's keys."""
    CLIENT_ISO0 = "client.iso0"
    """Blocks that are none for the PAN of their cards."""
    CLIENT_SECCOS = "client.seccos"
    """SECCOS PINs without SECCOS's keys."""
    CARD_ISO1 = "card.iso1"
    """What is no format-1 block under the key of a server or a device."""
    CARD_ISO1_POLICY = "card.iso1-policy"
    """PINs that the policy refuses, in blocks that are."""
    CLIENT_ISO1 = "client.iso1"
    """What is no format-1 block, over all cards of a server."""


CARD_KINDS: Final = (
    *(Kind.CARD_ISO0, Kind.CARD_POLICY, Kind.CARD_SECCOS),
    *(Kind.CARD_ISO1, Kind.CARD_ISO1_POLICY),
)
#: What a PIN in a form can fail as, by the error that it fails with.
FAILURES: Final[Mapping[PinBlockType, Mapping[type[HsmError], Set[Kind]]]] = {
    PinBlockType.ISO0: {
        WrongPinData: {Kind.CARD_ISO0, Kind.CLIENT_ISO0},
        WeakPinRefused: {Kind.CARD_POLICY},
    },
    PinBlockType.SECCOS: {WrongPinData: {Kind.CARD_SECCOS}, NotGenuine: {Kind.CLIENT_SECCOS}},
}
#: The same of format 1. It is bound to no PAN, so that nothing is guessed at; but whoever lacks the
#: key could, in some hundred tries, set a PIN that nobody knows.
ISO1_FAILURES: Final[Mapping[type[HsmError], Set[Kind]]] = {
    WrongPinData: {Kind.CARD_ISO1, Kind.CLIENT_ISO1},
    WeakPinRefused: {Kind.CARD_ISO1_POLICY},
}
#: What the log says of a failure that is the last one.
EVENTS: Final[Mapping[str, tuple[int, str]]] = {
    Kind.CARD_ISO0: (logging.WARNING, "iso0.card_refused"),
    Kind.CARD_POLICY: (logging.WARNING, "iso0.card_refused"),
    Kind.CARD_SECCOS: (logging.WARNING, "seccos.card_refused"),
    Kind.CLIENT_ISO0: (logging.ERROR, "alarm.iso0_client"),
    Kind.CLIENT_SECCOS: (logging.ERROR, "alarm.seccos_client"),
    Kind.CARD_ISO1: (logging.WARNING, "iso1.card_refused"),
    Kind.CARD_ISO1_POLICY: (logging.WARNING, "iso1.card_refused"),
    Kind.CLIENT_ISO1: (logging.ERROR, "alarm.iso1_client"),
}


class FailureBudgets:
    """What may fail of the PINs that D1, an issuer's server and a cardholder's device send."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    @contextmanager
    def one_try(
        self, policy: PolicyBody, card: CardRef, client_id: str | None, form: PinBlockType
    ) -> Iterator[None]:
        """Let one PIN be tried within; what it fails with is counted, anything else is not.

        Raises:
            ClientLimited: PINs of the client failed too often in this form.
            CardRefusesForm: those of the card did.
            CountsUnavailable: the outcome, whatever it is, could not be counted.
        """
        with self._one_try(_windows(policy, card, client_id, form), FAILURES[form]):
            yield

    @contextmanager
    def one_iso1(self, policy: PolicyBody, card: CardRef, client_id: str) -> Iterator[None]:
        """Do so with a format-1 block of a server or a device; the errors are the same."""
        with self._one_try(_iso1_windows(policy, card, client_id), ISO1_FAILURES):
            yield

    @contextmanager
    def _one_try(
        self, windows: Sequence[Window], failures: Mapping[type[HsmError], Set[Kind]]
    ) -> Iterator[None]:
        tries = self._counts.begin(windows)
        failed: Set[Kind] = frozenset()
        try:
            yield
        except HsmError as error:
            failed = failures.get(type(error), failed)
            raise
        finally:
            self._counts.take_back(one for one in tries if one.window.kind not in failed)
            for one in tries:
                if one.window.kind in failed and one.is_last:
                    _say(one)

    def forget(self, card: CardRef) -> None:
        """Forget that PINs of a card failed, in whatever form."""
        self._counts.forget(card.issuer_id, CARD_KINDS, card.card_id)


def _windows(
    policy: PolicyBody, card: CardRef, client_id: str | None, form: PinBlockType
) -> list[Window]:
    def of_client(kind: Kind) -> list[Window]:
        return [] if client_id is None else [_of_client(policy, card, client_id, kind)]

    if form is PinBlockType.SECCOS:
        of_cards = [_of_card(card, Kind.CARD_SECCOS, policy.failures_card_max)]
        return of_client(Kind.CLIENT_SECCOS) + of_cards
    return [
        *of_client(Kind.CLIENT_ISO0),
        _of_card(card, Kind.CARD_ISO0, policy.failures_card_max),
        _of_card(card, Kind.CARD_POLICY, policy.refusals_card_max),
    ]


def _iso1_windows(policy: PolicyBody, card: CardRef, client_id: str) -> list[Window]:
    return [
        _of_client(policy, card, client_id, Kind.CLIENT_ISO1),
        _of_card(card, Kind.CARD_ISO1, policy.failures_card_max),
        _of_card(card, Kind.CARD_ISO1_POLICY, policy.refusals_card_max),
    ]


# As plain text, which SQLite takes as it is.
def _of_card(card: CardRef, kind: Kind, failures_max: int) -> Window:
    key = (card.issuer_id, kind.value, card.card_id)
    return Window(*key, failures_max, DAY_SECONDS, CardRefusesForm)


def _of_client(policy: PolicyBody, card: CardRef, client_id: str, kind: Kind) -> Window:
    key = (card.issuer_id, kind.value, client_id)
    return Window(*key, policy.failures_client_max, CLIENT_WINDOW_SECONDS, ClientLimited)


def _say(failed: Try) -> None:
    window = failed.window
    level, event = EVENTS[window.kind]
    name = "card_id" if window.kind in CARD_KINDS else "client_id"
    extra = {"issuer_id": window.issuer_id, name: window.key, "count": window.failures_max}
    log.log(level, event, extra=extra)
