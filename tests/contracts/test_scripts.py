"""Scripts that put a PIN onto a chip: built in the vault, opened by a card that pyemv made."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyemv
import pytest

from crypto.seccos.card import CardData
from crypto.secret import Secret
from crypto.types import Pan, Pin
from hsm.counts import Counts
from hsm.errors import (
    KeyMissing,
    KeyUsedUp,
    LimitReached,
    LogUnavailable,
    ManifestRefused,
    SealBroken,
)
from hsm.log.lines import Action, Event
from hsm.manifest.scripts import ScriptsBody
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.hsm_token import HsmToken, KeyUnit
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.port import ChipTransaction, PinBlockType, SealedChange, SealedPin, SealedRecord
from hsm.scripts import REVERSALS_CARD_DAY_MAX, Scripts
from hsm.vault import Vault
from tests import operators
from tests.chip import Chip, ScriptFailed
from tests.contracts.issuer import LONG_PINS, PIN, block
from tests.contracts.partner import CARD, Partner, with_check_digit
from tests.contracts.test_receipts import lines, without_its_directory
from tests.crypto.emv.emv_rows import each, given_bytes
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.vectors import Row
from tests.pans import PAN

pytestmark = [takes_tdes_the_old_way, pytest.mark.needs(KeyRole.SMC, KeyRole.SMI)]

VECTORS_ID: Final = "vectorbank"
LONG_PAN: Final = with_check_digit("541333008901000000")
MANY: Final = 1000
MASTERCARD: Final[Mapping[str, Any]] = {"scheme": "mastercard", "builds_card_day_max": MANY}
CCD: Final[Mapping[str, Any]] = {"scheme": "ccd", "builds_card_day_max": MANY}
BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "mastercard": MASTERCARD,
    "ccd": CCD,
    "option B": {**MASTERCARD, "card_key": "b"},
    "MAC over the command alone": {**CCD, "mac_transaction": "none"},
    "short MAC": {**CCD, "mac_bytes": 4},
    "second generation": {**MASTERCARD, "smc_generation": 2, "smi_generation": 2},
}


@dataclass(frozen=True)
class Stored:
    """What a database has of a card after a change of its PIN."""

    partner: Partner
    pin: SealedPin
    record: SealedRecord
    counter: int

    def build(self, transaction: ChipTransaction, **other: Any) -> bytes:  # noqa: ANN401
        given = {
            "sealed_pin": self.pin,
            "sealed_record": self.record,
            "card": self.partner.card,
            "counter": self.counter,
            **other,
        }
        return self.partner.issuer.vault.build_script(**given, transaction=transaction).value


def with_scripts(partner: Partner, **body: object) -> Partner:
    return partner.with_members(policy=LONG_PINS, scripts=body)


def change(partner: Partner, pin: str = PIN, counter: int = 1, pan: str = PAN) -> SealedChange:
    record = partner.issuer.seal_record(pan, partner.card, CARD.psn)
    jwe = partner.issuer.pin_jwe({"pinBlock": block(pin, pan)})
    return partner.issuer.change(jwe, record, PinBlockType.ISO0, partner.card, counter)


def stored(partner: Partner, pin: str = PIN, counter: int = 1, pan: str = PAN) -> Stored:
    sealed_pin = change(partner, pin, counter, pan).sealed_pin
    assert sealed_pin is not None
    record = partner.issuer.seal_record(pan, partner.card, CARD.psn)
    return Stored(partner, sealed_pin, record, counter)


def chip(partner: Partner, pan: str = PAN, **other: Any) -> Chip:  # noqa: ANN401 - of a chip
    body = ScriptsBody.model_validate_json(json.dumps(partner.issuer.members["scripts"]))
    made = {
        "imk_smc": partner.key(KeyRole.SMC, body.smc_generation),
        "imk_smi": partner.key(KeyRole.SMI, body.smi_generation),
        "pan": pan,
        "option_b": body.card_key == "b",
        "ccd": body.scheme == "ccd",
        "covers": body.mac_transaction == "atc-arqc",
        "mac_bytes": body.mac_bytes,
    }
    return Chip(**{**made, **other})


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("pan", [PAN, LONG_PAN])
@pytest.mark.parametrize("pin", [PIN, "407190281635"])
def test_the_chip_takes_the_pin(
    partner: Partner, body: Mapping[str, object], pan: str, pin: str
) -> None:
    partner = with_scripts(partner, **body)
    card = chip(partner, pan)
    command = stored(partner, pin, pan=pan).build(card.transact())
    card.execute(command)
    assert card.pin == pin


def test_it_is_the_command_that_pyemv_makes(partner: Partner) -> None:
    seen = ChipTransaction(bytes.fromhex("0A01"), bytes.fromhex("ABCDEF1234567890"))
    interac = {**MASTERCARD, "mac_transaction": "none"}
    for body, version, sent in (
        (MASTERCARD, pyemv.cvn.MasterCardCVN16, (seen.arqc, seen.atc)),
        (MASTERCARD, pyemv.cvn.MasterCardCVN20, (seen.arqc, seen.atc)),
        (interac, pyemv.cvn.InteracCVN133, (seen.arqc,)),
    ):
        issuer = with_scripts(partner, **body)
        keys = (issuer.key(KeyRole.SMI), issuer.key(KeyRole.SMC))
        theirs = version(bytes(16), *keys, PAN, "01").generate_pin_change_command(PIN, *sent)
        assert stored(issuer).build(seen) == theirs


@each("emv_pin_change_mastercard", "emv_pin_change_ccd")
def test_it_has_the_block_and_the_mac_that_an_hsm_made(
    device: HsmToken, tmp_path: Path, row: Row
) -> None:
    given, expected = row["inputs"], row["expected"]
    scheme = row["kind"].removeprefix("emv_pin_change_")
    generations = {}
    for role, name in ((KeyRole.SMC, "imk_smc"), (KeyRole.SMI, "imk_smi")):
        clear = ClearKey(KeyKind.TDES_2KEY, Secret(given_bytes(row, name)))
        label = shared_keys.store(device, role, VECTORS_ID, clear)
        generations[f"{role}_generation"] = label.generation
    body = ScriptsBody.model_validate({"scheme": scheme, "mac_transaction": "none", **generations})
    builder = Scripts(device, Keyring(device), Counts(tmp_path, operators.now))
    made = builder.pin_change(
        Pin(given["pin"]),
        CardData(Pan(given["pan"]), int(given["psn"]), "2912"),
        body,
        builder.keys(VECTORS_ID, body, lambda _: None),
        ChipTransaction(bytes(2), given_bytes(row, "r")),
    )
    assert made[5:-8].hex().upper() == expected["encrypted_pin"]
    if scheme == "mastercard":
        assert made.hex().upper() == f"8424000210{expected['encrypted_pin']}{expected['mac']}"
    else:
        # Of this one the HSM was given a header with the length of the other.
        assert made[:5].hex() == "8424000218"


def test_a_script_is_for_one_transaction_of_one_card(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    card, other = chip(partner), chip(partner, psn=2)
    seen = card.transact()
    command = stored(partner).build(seen)
    other._now = seen
    with pytest.raises(ScriptFailed):
        other.execute(command)
    for place in range(len(command)):
        changed = command[:place] + bytes([command[place] ^ 1]) + command[place + 1 :]
        with pytest.raises(ScriptFailed):
            card.execute(changed)
    card.transact()
    with pytest.raises(ScriptFailed):
        card.execute(command)
    assert (card.pin, other.pin) == ("", "")


def test_a_pin_of_another_counter_or_card_is_not_built(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    now, seen = stored(partner, counter=5), chip(partner).transact()
    for counter in (0, 4, 6):
        with pytest.raises(SealBroken):
            now.build(seen, counter=counter)
    older = stored(partner, "2846", counter=4)
    with pytest.raises(SealBroken):
        now.build(seen, sealed_pin=older.pin)
    other = partner.issuer.seal_record(LONG_PAN, partner.card, CARD.psn)
    with pytest.raises(SealBroken):
        now.build(seen, sealed_record=other)


def test_a_change_says_whether_a_script_is_due(partner: Partner) -> None:
    assert not change(partner).script_due
    scripted = with_scripts(partner, **MASTERCARD)
    assert change(scripted).script_due
    # Of a PIN that came as SECCOS the vault has no block: D1 sends what the chip gets.
    assert not scripted.set_seccos().script_due


def test_so_does_one_from_a_page(partner: Partner) -> None:
    for body, due in ((None, False), (MASTERCARD, True)):
        there = partner.with_members(scripts=body)
        issuer, card = there.issuer, there.card
        record = issuer.seal_record(PAN, card, CARD.psn)
        granted = issuer.grant_set(record, card)
        assert issuer.set_on_page(granted, record).script_due is due


def test_without_scripts_in_the_manifest_there_is_none(partner: Partner) -> None:
    now = stored(partner)
    seen = ChipTransaction(bytes(2), bytes(8))
    with pytest.raises(ManifestRefused, match="no scripts"):
        now.build(seen)
    with pytest.raises(ManifestRefused, match="no scripts"):
        partner.issuer.vault.reverse_pin(now.pin, now.pin, now.record, partner.card, 1)


@pytest.mark.parametrize("name", ["smc_generation", "smi_generation"])
def test_without_its_keys_there_is_none(partner: Partner, mac_only: Partner, name: str) -> None:
    seen = ChipTransaction(bytes(2), bytes(8))
    for other in (
        with_scripts(partner, **MASTERCARD, **{name: 9}),
        with_scripts(mac_only, **MASTERCARD),
    ):
        with pytest.raises(KeyMissing):
            stored(other).build(seen)


@pytest.mark.parametrize("role", [KeyRole.SMC, KeyRole.SMI])
def test_a_master_key_that_enciphered_enough_builds_none(partner: Partner, role: KeyRole) -> None:
    limited = partner.with_members(
        policy=LONG_PINS, scripts=MASTERCARD, limits={"tdes_blocks_max": 10}
    )
    for there, is_limited in ((limited, True), (with_scripts(partner, **MASTERCARD), False)):
        now, vault = stored(there), there.issuer.vault
        assert isinstance(vault, Vault)
        now.build(ChipTransaction(bytes(2), bytes(8)))
        label = KeyLabel(role, 1, there.issuer.issuer_id)
        vault._key_budgets.count(label, KeyUnit.TDES_BLOCKS, 10)
        with pytest.raises(KeyUsedUp) if is_limited else nullcontext():
            now.build(ChipTransaction(bytes(2), bytes(8)))


def test_a_card_gets_so_many_a_day(partner: Partner) -> None:
    partner = with_scripts(partner, scheme="ccd", builds_card_day_max=1)
    now, seen = stored(partner), ChipTransaction(bytes(2), bytes(8))
    now.build(seen)
    with pytest.raises(LimitReached) as raised:
        now.build(seen)
    assert raised.value.receipt


def test_a_script_and_a_reversal_leave_a_line_each(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    before, now = stored(partner, "2846", counter=4), stored(partner, PIN, counter=5)
    vault, seen = partner.issuer.vault, ChipTransaction(bytes(2), bytes(8))
    built = vault.build_script(now.pin, now.record, partner.card, 5, seen)
    made = vault.reverse_pin(now.pin, before.pin, now.record, partner.card, 5)
    *_, of_build, of_reversal = lines(partner.issuer.host)
    assert [of_build.receipt, of_reversal.receipt] == [built.receipt, made.receipt]
    where = (partner.card.issuer_id, partner.card.card_id)
    assert of_build.event == Event(Action.SCRIPT, *where, counter=5)
    assert of_reversal.event == Event(Action.SET, *where, counter=6)


def test_without_a_log_none_is_built(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    now = stored(partner)
    without_its_directory(partner.issuer.host)
    with pytest.raises(LogUnavailable):
        now.build(ChipTransaction(bytes(2), bytes(8)))


@pytest.mark.parametrize(("atc", "arqc"), [(b"", bytes(8)), (bytes(2), bytes(7)), (bytes(3), b"")])
def test_a_transaction_has_an_atc_and_an_arqc(atc: bytes, arqc: bytes) -> None:
    with pytest.raises(ValueError, match="not an ATC"):
        ChipTransaction(atc, arqc)


def test_a_reversal_seals_the_earlier_pin_for_the_next_counter(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    before, now = stored(partner, "2846", counter=4), stored(partner, PIN, counter=5)
    issuer = partner.issuer
    made = issuer.vault.reverse_pin(now.pin, before.pin, now.record, partner.card, 5)
    assert (made.script_due, made.sealed_pin is not None) == (True, True)
    assert made.sealed_pin is not None
    assert issuer.pin(made.sealed_pin, now.record, PAN, partner.card, 6) == "2846"
    card = chip(partner)
    card.execute(Stored(partner, made.sealed_pin, now.record, 6).build(card.transact()))
    assert card.pin == "2846"


def test_a_reversal_makes_the_verification_values_of_the_earlier_pin(partner: Partner) -> None:
    asked = {"pvv": {"key_index": 1}}
    partner = partner.with_members(policy=LONG_PINS, scripts=MASTERCARD, verification=asked)
    first = change(partner, "2846", counter=1)
    now = stored(partner, PIN, counter=2)
    assert first.sealed_pin is not None
    made = partner.issuer.vault.reverse_pin(now.pin, first.sealed_pin, now.record, partner.card, 2)
    assert partner.exported(made, 3)["pvv"] == partner.exported(first, 1)["pvv"]


def test_no_way_of_reversals_leads_from_old_seals_to_any_counter(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    earlier, now = stored(partner, "2846", counter=4), stored(partner, PIN, counter=5)
    reverse, pins = partner.issuer.vault.reverse_pin, [earlier.pin, now.pin]
    for counter in range(5, 5 + REVERSALS_CARD_DAY_MAX):
        made = reverse(pins[-1], pins[-2], now.record, partner.card, counter).sealed_pin
        assert made is not None
        pins.append(made)
    with pytest.raises(LimitReached) as raised:
        reverse(pins[-1], pins[-2], now.record, partner.card, 5 + REVERSALS_CARD_DAY_MAX)
    assert raised.value.receipt


def test_a_script_that_lacks_a_key_is_not_counted(partner: Partner) -> None:
    lacking = with_scripts(partner, **{**MASTERCARD, "smc_generation": 9, "builds_card_day_max": 1})
    with pytest.raises(KeyMissing):
        stored(lacking).build(ChipTransaction(bytes(2), bytes(8)))
    there = with_scripts(partner, **{**MASTERCARD, "builds_card_day_max": 1})
    assert stored(there).build(ChipTransaction(bytes(2), bytes(8)))


def test_only_the_change_before_is_brought_back(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    oldest, before = stored(partner, "2846", 3), stored(partner, "5318", 4)
    now = stored(partner, PIN, 5)
    reverse = partner.issuer.vault.reverse_pin
    for pin, earlier, counter in (
        (now.pin, oldest.pin, 5),
        (now.pin, now.pin, 5),
        (now.pin, before.pin, 4),
        (now.pin, before.pin, 6),
        (before.pin, before.pin, 5),
        (oldest.pin, before.pin, 5),
    ):
        with pytest.raises(SealBroken):
            reverse(pin, earlier, now.record, partner.card, counter)


def test_a_pin_that_came_with_its_card_is_brought_back(partner: Partner) -> None:
    partner = with_scripts(partner, **MASTERCARD)
    loaded, now = stored(partner, "2846", 0), stored(partner, PIN, 1)
    made = partner.issuer.vault.reverse_pin(now.pin, loaded.pin, now.record, partner.card, 1)
    assert made.sealed_pin is not None
    assert partner.issuer.pin(made.sealed_pin, now.record, PAN, partner.card, 2) == "2846"
