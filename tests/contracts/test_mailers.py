"""PINs that the vault makes, and batches of PINs for the bureau; read with psec."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from hsm.errors import (
    CounterExhausted,
    KeyMissing,
    KeyUsedUp,
    LimitReached,
    LogUnavailable,
    ManifestRefused,
    SealBroken,
    ValueNotPossible,
    VaultUnavailable,
)
from hsm.log.lines import Action
from hsm.log.writer import VaultLog
from hsm.pkcs11.hsm_token import KeyUnit
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import BatchPart, CardRef, SealedChange, SealedPin, StoredPin
from hsm.vault import Vault
from tests.bureau import Bureau
from tests.contracts.issuer import PIN, block, open_host
from tests.contracts.partner import (
    MAC_ONLY_ID,
    Partner,
    open_partner,
    share_keys,
)
from tests.contracts.software_token import SoftwareToken
from tests.contracts.test_receipts import lines
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.pans import PAN

pytestmark = takes_tdes_the_old_way

FILE_ID: Final = "00112233445566778899aabbccddeeff"
ONLY: Final = BatchPart(FILE_ID, 1, is_last=True)
PANS: Final = {"card-1": PAN, "card-2": "4012888888881881", "card-3": "5555555555554444"}
PIN_ROLES: Final = {"iso4": KeyRole.BUREAU_PIN_AES, "iso0": KeyRole.BUREAU_PIN}
MAC_ROLES: Final = {"aes-cmac": KeyRole.BUREAU_MAC, "iso9797-alg3": KeyRole.BUREAU_MAC_RETAIL}
every_form = pytest.mark.parametrize(
    "body",
    [{"block": pin, "mac": mac} for pin in PIN_ROLES for mac in MAC_ROLES],
    ids=lambda body: f"{body['block']}-{body['mac']}",
)


def with_bureau(partner: Partner, body: Mapping[str, Any], **members: object) -> Partner:
    return partner.with_members(bureau={**body}, **members)


def bureau_of(partner: Partner, body: Mapping[str, Any], **pans: str) -> Bureau:
    pin_role = PIN_ROLES[body.get("block", "iso4")]
    mac_role = MAC_ROLES[body.get("mac", "aes-cmac")]
    return Bureau(
        partner.key(pin_role, body.get("pin_key_generation", 1)),
        partner.key(mac_role, body.get("mac_key_generation", 1)),
        {**PANS, **pans},
    )


def stored(
    partner: Partner, card_id: str = "card-1", pin: str | None = None, counter: int = 3
) -> StoredPin:
    """A card of the partner with a PIN: that one, or one that the vault makes."""
    issuer, card = partner.issuer, CardRef(partner.issuer.issuer_id, card_id)
    record = issuer.seal_record(PANS[card_id], card)
    if pin is None:
        change = issuer.vault.generate_pin(card, record, counter)
    else:
        change = issuer.change(
            issuer.pin_jwe({"pinBlock": block(pin, PANS[card_id])}),
            record,
            card=card,
            counter=counter,
        )
    assert change.sealed_pin is not None
    return StoredPin(card, counter, change.sealed_pin, record)


def export(partner: Partner, *pins: StoredPin, part: BatchPart = ONLY) -> str:
    batch = partner.issuer.vault.export_mailers(partner.issuer.issuer_id, pins, part)
    assert batch.refused == []
    return batch.text


def made(partner: Partner, counter: int = 0) -> SealedChange:
    record = partner.issuer.seal_record(PAN, partner.card)
    return partner.issuer.vault.generate_pin(partner.card, record, counter)


def shown(partner: Partner, change: SealedChange, counter: int = 0) -> str:
    assert change.sealed_pin is not None
    record = partner.issuer.seal_record(PAN, partner.card)
    return partner.issuer.pin(change.sealed_pin, record, card=partner.card, counter=counter)


# PINs that the vault makes


@pytest.mark.parametrize("length", [4, 6, 12])
def test_a_made_pin_has_as_many_digits_as_the_policy_asks_for_at_least(
    partner: Partner, length: int
) -> None:
    partner = partner.with_members(policy={"length_min": length, "length_max": 12})
    pins = {shown(partner, made(partner)) for _ in range(4)}
    assert {len(pin) for pin in pins} == {length}
    assert len(pins) > 1


def test_a_made_pin_belongs_to_its_card_its_holder_and_its_change(partner: Partner) -> None:
    pin, issuer = stored(partner, counter=0), partner.issuer
    export_to_d1 = partner.issuer.vault.export_jwe
    assert export_to_d1(pin.sealed_pin, pin.sealed_record, pin.card, 0)
    other = issuer.seal_record(PANS["card-2"], CardRef(issuer.issuer_id, "card-2"))
    renewed = issuer.seal_record(PAN, pin.card, holder="holder-2")
    for record, card, counter in (
        (other, CardRef(issuer.issuer_id, "card-2"), 0),
        (renewed, pin.card, 0),
        (pin.sealed_record, pin.card, 1),
    ):
        with pytest.raises(SealBroken):
            export_to_d1(pin.sealed_pin, record, card, counter)


def test_values_are_made_of_it_as_of_every_pin(partner: Partner) -> None:
    partner = partner.asking(pvv={"key_index": 1})
    change = made(partner, counter=1)
    pin = shown(partner, change, counter=1)
    record = partner.issuer.seal_record(PAN, partner.card)
    brought = partner.issuer.change(
        partner.issuer.pin_jwe({"pinBlock": block(pin)}), record, card=partner.card, counter=1
    )
    assert change.values.keys() == brought.values.keys() == {"pvv"}
    assert partner.exported(change, counter=1) == partner.exported(brought, counter=1)


def test_a_made_pin_is_refused_what_another_pin_is(partner: Partner) -> None:
    with pytest.raises(ValueNotPossible):
        made(partner.asking(prw=True))
    profile = {"prw_source": "issuer", "counter": {"max": 7}}
    with pytest.raises(CounterExhausted):
        made(partner.with_profile(profile).asking(prw=True), counter=9)


def test_a_made_pin_leaves_a_line_without_a_face(partner: Partner) -> None:
    partner = partner.with_members()
    change = made(partner, counter=4)
    line = lines(partner.issuer.host)[-1]
    assert line.receipt == change.receipt
    assert (line.event.what, line.event.face, line.event.counter) == (Action.SET, None, 4)


class NoRandomness(SoftwareToken):
    """An HSM token whose generator is stuck."""

    stuck = False

    def random(self, size_bytes: int) -> bytes:
        return bytes(size_bytes) if self.stuck else super().random(size_bytes)


def test_a_generator_that_is_stuck_makes_no_pin(hosts: Path) -> None:
    hsm_token = NoRandomness()
    keys = share_keys(hsm_token)
    partner = open_partner(open_host(hsm_token, hosts), keys, "sharesbank")
    assert made(partner)
    hsm_token.stuck = True
    with pytest.raises(VaultUnavailable, match="no random digits"):
        made(partner)


# Batches


@every_form
def test_the_bureau_reads_every_pin_of_a_batch(partner: Partner, body: Mapping[str, Any]) -> None:
    partner = with_bureau(partner, body)
    pins = {"card-1": PIN, "card-2": "93826", "card-3": "40719028"}
    text = export(partner, *(stored(partner, *card) for card in pins.items()))
    assert bureau_of(partner, body).pins(text) == pins
    for pan in PANS.values():
        assert pan not in text


@every_form
def test_the_bureau_reads_a_pin_that_nobody_else_has_seen(
    partner: Partner, body: Mapping[str, Any]
) -> None:
    partner = with_bureau(partner, body)
    pin = stored(partner)
    (read,) = bureau_of(partner, body).pins(export(partner, pin)).values()
    told = partner.issuer.pin(pin.sealed_pin, pin.sealed_record, PAN, pin.card, pin.counter)
    assert read == told


@every_form
def test_the_keys_are_those_of_the_generations_that_the_manifest_names(
    partner: Partner, body: Mapping[str, Any]
) -> None:
    body = {**body, "pin_key_generation": 2, "mac_key_generation": 2}
    partner = with_bureau(partner, body)
    text = export(partner, stored(partner, pin=PIN))
    assert bureau_of(partner, body).pins(text) == {"card-1": PIN}
    with pytest.raises(AssertionError):
        bureau_of(partner, {**body, "mac_key_generation": 1}).pins(text)


@pytest.mark.parametrize(
    "role", [KeyRole.BUREAU_PIN, KeyRole.BUREAU_MAC_RETAIL, KeyRole.BUREAU_MAC_RETAIL_LEFT]
)
def test_a_key_that_enciphered_enough_makes_no_batch(partner: Partner, role: KeyRole) -> None:
    body = {"block": "iso0", "mac": "iso9797-alg3"}
    for limits, refused in (({"tdes_blocks_max": 10}, True), ({}, False)):
        there = with_bureau(partner, body, limits=limits)
        vault = there.issuer.vault
        assert isinstance(vault, Vault)
        pin = stored(there)
        export(there, pin)
        label = KeyLabel(role, 1, there.issuer.issuer_id)
        vault._key_budgets.count(label, KeyUnit.TDES_BLOCKS, 10)
        with pytest.raises(KeyUsedUp) if refused else nullcontext():
            export(there, pin)


@every_form
def test_no_byte_of_a_batch_can_be_changed_and_no_line_left_out(
    partner: Partner, body: Mapping[str, Any]
) -> None:
    partner = with_bureau(partner, body)
    bureau = bureau_of(partner, body)
    text = export(partner, stored(partner), stored(partner, "card-2"))
    one, other = text.splitlines()[1:3]
    for changed in (
        text.replace(f"{one}\n", "").replace('"count":2', '"count":1'),
        text.replace(f"{one}\n{other}\n", f"{other}\n{one}\n"),
        text.replace('"part":1', '"part":2'),
        text.replace('"counter":3', '"counter":4', 1),
    ):
        assert changed != text
        with pytest.raises(AssertionError):
            bureau.read(changed)
    assert len(bureau.read(text).lines) == 2


def test_a_batch_says_what_it_is_part_of(partner: Partner) -> None:
    partner = with_bureau(partner, {})
    first = export(partner, stored(partner), part=BatchPart(FILE_ID, 1, is_last=False))
    last = export(partner, part=BatchPart(FILE_ID, 2, is_last=True))
    batches = bureau_of(partner, {}).read_file(first + last)
    assert [len(batch.lines) for batch in batches] == [1, 0]
    assert batches[0].head == {
        "layout": 1,
        "issuerId": partner.issuer.issuer_id,
        "file": FILE_ID,
        "part": 1,
        "last": False,
        "madeAt": batches[0].head["madeAt"],
        "block": "ISO-4",
        "pinKeyGeneration": 1,
        "macAlgorithm": "aes-cmac",
        "macKeyGeneration": 1,
    }


def test_a_pin_under_aes_is_another_block_each_time_and_under_tdes_the_same(
    partner: Partner,
) -> None:
    for form, blocks in (("iso4", 2), ("iso0", 1)):
        at_bureau = with_bureau(partner, {"block": form})
        pin = stored(at_bureau)
        texts = [export(at_bureau, pin) for _ in range(2)]
        read = {json.loads(text.splitlines()[1])["block"] for text in texts}
        assert len(read) == blocks


def test_each_pin_has_a_line_of_the_log_that_its_own_line_names(partner: Partner) -> None:
    partner = with_bureau(partner, {})
    pins = [stored(partner), stored(partner, "card-2", counter=8)]
    batch = bureau_of(partner, {}).read(export(partner, *pins))
    written = lines(partner.issuer.host)[-2:]
    assert [line.receipt for line in written] == [line["receipt"] for line in batch.lines]
    assert [(line.event.what, line.event.card_id, line.event.counter) for line in written] == [
        (Action.MAILER, "card-1", 3),
        (Action.MAILER, "card-2", 8),
    ]


def test_without_a_log_no_pin_leaves(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    partner = with_bureau(partner, {})
    pin = stored(partner)
    (partner.issuer.host.directory / "log").rename(partner.issuer.host.directory / "moved")
    with pytest.raises(LogUnavailable):
        export(partner, pin)
    # The control: it is the log that keeps it back.
    monkeypatch.setattr(VaultLog, "append", lambda *_, **__: "1.0")
    assert export(partner, pin)


def test_without_a_bureau_in_the_manifest_no_pin_leaves(partner: Partner) -> None:
    pin = stored(partner)
    with pytest.raises(ManifestRefused, match="names no bureau"):
        export(partner, pin)
    # The control: this, and nothing else, was in the way.
    assert export(with_bureau(partner, {}), pin)


@pytest.mark.parametrize(
    "body",
    [
        {"pin_key_generation": 9},
        {"mac_key_generation": 9},
        {"block": "iso0", "pin_key_generation": 9},
        {"mac": "iso9797-alg3", "mac_key_generation": 9},
    ],
    ids=str,
)
def test_without_one_of_its_keys_no_pin_leaves_and_no_line_is_written(
    partner: Partner, body: Mapping[str, Any]
) -> None:
    partner = with_bureau(partner, body)
    pin = stored(partner)
    before = len(lines(partner.issuer.host))
    with pytest.raises(KeyMissing):
        export(partner, pin)
    assert len(lines(partner.issuer.host)) == before


def test_what_does_not_open_is_named_and_stops_no_other_pin(
    partner: Partner, mac_only: Partner
) -> None:
    partner = with_bureau(partner, {})
    good, other = stored(partner), stored(partner, "card-2")
    foreign = mac_only.issuer.seal_record(PANS["card-3"], CardRef(MAC_ONLY_ID, "card-3"))
    of_another = mac_only.issuer.vault.generate_pin(CardRef(MAC_ONLY_ID, "card-3"), foreign, 3)
    assert of_another.sealed_pin is not None
    wrong: Sequence[StoredPin] = [
        replace(other, counter=4),
        replace(other, sealed_pin=good.sealed_pin),
        replace(other, sealed_record=good.sealed_record),
        replace(other, sealed_pin=SealedPin(b"")),
        # Under a generation that is not there.
        replace(other, sealed_pin=SealedPin(other.sealed_pin.replace(b"pin.g1", b"pin.g9"))),
        # It opens, and is no business of this issuer's bureau.
        StoredPin(CardRef(MAC_ONLY_ID, "card-3"), 3, of_another.sealed_pin, foreign),
    ]
    batch = partner.issuer.vault.export_mailers(partner.issuer.issuer_id, [good, *wrong], ONLY)
    assert batch.refused == [*["card-2"] * 5, "card-3"]
    read = bureau_of(partner, {}).read(batch.text)
    assert [line["cardId"] for line in read.lines] == ["card-1"]


def test_the_bureau_gets_no_more_pins_on_a_day_than_the_manifest_says(partner: Partner) -> None:
    partner = with_bureau(partner, {"pins_day_max": 3})
    pin = stored(partner)
    export(partner, pin, pin)
    with pytest.raises(LimitReached):
        # None of a batch that is too large leaves, and none of it counts.
        export(partner, pin, pin)
    export(partner, pin)
    with pytest.raises(LimitReached):
        export(partner, pin)


def test_what_the_bureau_gets_leaves_cardholders_theirs(partner: Partner) -> None:
    partner = with_bureau(partner, {}, limits={"handouts_issuer_day_max": 1})
    pin, issuer = stored(partner), partner.issuer
    export(partner, pin, pin, pin)
    granted = issuer.grant_view(pin.sealed_record, pin.card, pin.counter)
    assert issuer.draw(granted, pin.sealed_pin, pin.sealed_record)
