"""Whoever runs code in the web tier's D1 listener: how many PANs it can try for a card.

It asks the vault itself, so no answer of ours and no row of a database stands in its way: it knows
the first eight digits and the last four of the PAN, has the card's sealed record, says what it
likes of counter and client, and goes to one worker of the host or another, or to one that is new.
"""

from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from crypto.types import Pan
from hsm.counts import Counts
from hsm.errors import CardRefusesForm, PinRejected, WeakPinRefused, WrongPinData
from hsm.port import CardRef, PinBlockType, SealedRecord
from hsm.verbs import PinVault
from tests.attacks.table import Attacker
from tests.contracts.issuer import ISSUER_ID, Host, Issuer, block, open_host, open_issuer
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import d1_client
from tests.operators import now

ATTACKER = Attacker(
    who="whoever holds D1's certificate and secret, and knows a part of a card's PAN",
    gets=(
        "at each vault host, five blocks for a wrong PAN and 20 weak PINs for the right "
        "one in 24 hours; 60 wrong blocks a minute over all cards, or only those five for"
        " each card if it calls the vault itself and names no client, as an operator does"
        " who brings cards. It can set a PIN of a card whose PAN it knows, and have a "
        "card take no ISO-0 for a day"
    ),
    does_not=(
        "guess on: every ISO-0 PUT of the card then has one answer. Learn more of the PAN"
        " than right or wrong, unless the policy takes PINs of more than 8 digits "
        "([counting](docs/d1-face.md#failures-are-counted)). Nor can who calls the vault "
        "itself, as a taken-over D1 listener would, with any database or none"
    ),
)

BIN, LAST_FOUR = "41111111", "0043"
#: The policy refuses it, and says so, if the block is one for the card's PAN.
WEAK = "1111"
CARD = CardRef(ISSUER_ID, "card-1")
CLIENTS = (f"{ISSUER_ID}-a", f"{ISSUER_ID}-b")


def possible_pans() -> list[str]:
    middles = (f"{number:04}" for number in range(10_000))
    pans = (f"{BIN}{middle}{LAST_FOUR}" for middle in middles)
    return [pan for pan in pans if Pan(pan).luhn_valid]


VICTIMS = possible_pans()[40]


class D1Listener:
    """The attacker, at a host that it may have restart its workers."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._workers = [issuer.vault, issuer.host.reopened().vault]
        self._record: SealedRecord = issuer.seal_record(VICTIMS)
        self._counter = count(1)

    def guess(self, pan: str, vault: PinVault | None = None) -> None:
        """Send a weak PIN in a block for one PAN."""
        number = next(self._counter)
        (vault or self._workers[number % 2]).set_pin_from_jwe(
            self._issuer.pin_jwe({"pinBlock": block(WEAK, pan)}),
            PinBlockType.ISO0,
            CARD,
            self._record,
            number,
            CLIENTS[number % 2],
        )

    def attack(self) -> tuple[str | None, int]:
        """Try one PAN after the other; return the right one, and how many were tried for it."""
        tried = 0
        for pan in possible_pans()[:60]:
            try:
                self.guess(pan)
            except WeakPinRefused:
                return pan, tried + 1
            except WrongPinData:
                tried += 1
            except CardRefusesForm:
                pass
        return None, tried

    def at_a_new_worker(self, ahead: timedelta = timedelta(0)) -> PinVault:
        def clock() -> datetime:
            return now() + ahead

        return self._issuer.host.reopened(clock).vault


def listener(tmp_path: Path, **policy: int) -> D1Listener:
    host: Host = open_host(SoftwareToken(), tmp_path)
    clients = [d1_client(client_id, f"dns:{client_id}.test") for client_id in CLIENTS]
    return D1Listener(open_issuer(host, policy=policy, clients=clients))


def test_it_tries_five_pans_a_day_for_a_card(tmp_path: Path) -> None:
    attacker = listener(tmp_path)
    assert attacker.attack() == (None, 5)
    with pytest.raises(CardRefusesForm):
        attacker.guess(VICTIMS)
    restarted = attacker.at_a_new_worker()
    with pytest.raises(CardRefusesForm):
        attacker.guess(VICTIMS, restarted)
    later = attacker.at_a_new_worker(timedelta(hours=23, minutes=59))
    with pytest.raises(CardRefusesForm):
        attacker.guess(VICTIMS, later)
    with pytest.raises(WeakPinRefused):
        attacker.guess(VICTIMS, attacker.at_a_new_worker(timedelta(days=1)))


def test_where_the_manifest_allows_more_it_goes_on_and_finds_the_pan(tmp_path: Path) -> None:
    attacker = listener(tmp_path, failures_card_max=100)
    assert attacker.attack() == (VICTIMS, 41)


def test_where_failures_do_not_count_it_finds_the_pan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker = listener(tmp_path)
    monkeypatch.setattr(Counts, "begin", lambda *_: [])
    assert attacker.attack() == (VICTIMS, 41)


def test_a_card_that_is_refused_has_one_answer_whatever_is_in_the_block(tmp_path: Path) -> None:
    attacker = listener(tmp_path)
    attacker.attack()
    refusals = []
    for pan in (VICTIMS, possible_pans()[0]):
        with pytest.raises(PinRejected) as refused:
            attacker.guess(pan)
        refusals.append((type(refused.value), refused.value.args))
    assert refusals == [(CardRefusesForm, ())] * 2
