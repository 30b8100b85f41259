"""Code in the account of the authorisation host's commands, which has the vault's admin socket."""

from pathlib import Path

import pytest

from hsm.errors import LimitReached, SealBroken
from hsm.messages import SocketName, Verb
from hsm.port import ChipTransaction
from tests.attacks.table import Attacker
from tests.chip import ScriptFailed
from tests.contracts.issuer import PIN, open_host
from tests.contracts.partner import ISSUER_ID, Partner, open_partner, share_keys
from tests.contracts.software_token import SoftwareToken
from tests.contracts.test_scripts import MANY, Stored, chip, stored, with_scripts
from tests.crypto.oracles import takes_tdes_the_old_way

pytestmark = takes_tdes_the_old_way

ATTACKER = Attacker(
    who="whoever executes code in the account of the authorisation host's commands, which is the"
    " user of the vault's admin socket",
    gets="scripts: of a card's stored PIN a command with an enciphered block, as many a day as"
    " `builds_card_day_max` says at each vault host, each in the vault's log. With rows of the"
    " database it can put the PIN of the change before back, and with seals that it kept older"
    " ones, ten a day for a card at each vault host. It can have any PIN sealed for a card"
    " whose PAN it knows, as an import does, and so guess at the PIN of a card: one for each script"
    " but the first, and a right guess shows",
    does_not="open a block: its key is in the chip and, derived for a request, in the HSM token."
    " Have a chip take a script outside the transaction for which it was built, or one of another"
    " card. Have one built of the PIN of another counter than its seal says, or one brought back"
    " that it has no seal of",
)
FORGED = ChipTransaction(b"\0\x01", bytes(8))
GUESSES = [f"{number:04d}" for number in range(4055, 4072)]


@pytest.fixture
def partner(tmp_path: Path) -> Partner:
    """An issuer with a key of each kind, on a host of its own."""
    hsm_token = SoftwareToken()
    keys = share_keys(hsm_token)
    return open_partner(open_host(hsm_token, tmp_path), keys, ISSUER_ID)


def found_by_comparing(partner: Partner, unknown: Stored) -> str | None:
    """Try PINs that one sets oneself: of one transaction, scripts of equal PINs are alike."""
    wanted = unknown.build(FORGED)
    for guess in GUESSES:
        if stored(partner, guess, counter=2).build(FORGED) == wanted:
            return guess
    return None


def test_a_pin_is_not_found_by_comparing_scripts(partner: Partner) -> None:
    partner = with_scripts(partner, scheme="mastercard")
    with pytest.raises(LimitReached):
        found_by_comparing(partner, stored(partner))


def test_where_builds_are_not_limited_it_is(partner: Partner) -> None:
    partner = with_scripts(partner, scheme="mastercard", builds_card_day_max=MANY)
    assert found_by_comparing(partner, stored(partner)) == PIN


def test_a_chip_takes_nothing_that_was_built_before_its_transaction(partner: Partner) -> None:
    partner = with_scripts(partner, scheme="mastercard")
    card, now = chip(partner), stored(partner)
    forged = now.build(FORGED)
    seen = card.transact()
    with pytest.raises(ScriptFailed):
        card.execute(forged)
    # The card does, in the transaction for which it was built.
    card.execute(now.build(seen))
    assert card.pin == PIN


def test_an_older_pin_goes_neither_onto_the_chip_nor_back(partner: Partner) -> None:
    partner = with_scripts(partner, scheme="mastercard")
    oldest, now = stored(partner, "2846", counter=3), stored(partner, counter=5)
    with pytest.raises(SealBroken):
        now.build(FORGED, sealed_pin=oldest.pin)
    with pytest.raises(SealBroken):
        partner.issuer.vault.reverse_pin(now.pin, oldest.pin, now.record, partner.card, 5)
    # The one before comes back.
    before = stored(partner, "5318", counter=4)
    partner.issuer.vault.reverse_pin(now.pin, before.pin, now.record, partner.card, 5)


@pytest.mark.parametrize("name", ["build_script", "reverse_pin"])
def test_no_web_process_may_call_it(name: str) -> None:
    (verb,) = (one for one in Verb.__subclasses__() if one.name() == name)
    assert verb.sockets == {SocketName.ADMIN}
