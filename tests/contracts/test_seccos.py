"""PINs that come as SECCOS, whatever holds the keys. The layout is a profile of ours."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyemv
import pytest
from hypothesis import given, settings, strategies

from hsm.errors import (
    CounterExhausted,
    KeyMissing,
    ManifestRefused,
    NotGenuine,
    PinRejected,
    SealBroken,
    TypeNotOffered,
    WeakPinRefused,
    WrongPinData,
)
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import CardRef, PinBlockType, ValueKind
from tests.contracts.issuer import LONG_PINS, PIN, open_host
from tests.contracts.partner import (
    CARD,
    CHANGES,
    ISSUER_ID,
    KEY_IDS,
    SECCOS_ROLES,
    TDES_CMAC_GENERATION,
    Partner,
    cards,
    open_partner,
    share_keys,
    with_check_digit,
)
from tests.contracts.software_token import SoftwareToken
from tests.crypto.ciphers import tdes_ecb_decrypt
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.seccos.d1_side import Card, Writer
from tests.crypto.seccos.profiles import KEYS_OF_ALL_CARDS, Body, bodies
from tests.crypto.strategies import pins
from tests.operators import VALID_UNTIL
from tests.pans import PANS

pytestmark = [
    takes_tdes_the_old_way,
    pytest.mark.needs(*SECCOS_ROLES),
]

BLOCK, PRW, RANDOM, MAC = "value", "pinReferenceWord", "prwRandom", "mac"
COUNTER, KEY_ID = "pinChangeCounter", "keyId"
OTHERS: Final = {
    "another PAN": replace(CARD, pan=PANS[1]),
    "another sequence number": replace(CARD, psn=2),
    "another expiry": replace(CARD, expiry="2911"),
}
MAC_OVER_CARD: Final = {"mac": {"input": ["pinBlock", "pan", "cdp", "cdt", "counter:u16be"]}}
ONLY_MAC: Final = {"verify": "mac_only"}
SELF_REPLACED: Final = {"verify": "mac_only", "pin_block": {"selfenc": "replace"}}
#: NSS softoken makes no TDES-CMAC; and what never reaches a shared key need not be shown on three
#: HSM tokens.
on_two_hsm_tokens = pytest.mark.parametrize("device", ["software token", "SoftHSM2"], indirect=True)


def flipped(members: Mapping[str, object], name: str, bit: int = 0) -> dict[str, object]:
    raw = bytearray.fromhex(str(members[name]))
    raw[bit // 8] ^= 1 << bit % 8
    return {**members, name: raw.hex()}


# What is taken


@pytest.mark.parametrize("digits", range(4, 13))
def test_what_d1_builds_is_taken_and_no_pin_is_kept(partner: Partner, digits: int) -> None:
    lenient = partner.with_members(policy=LONG_PINS)
    change = lenient.set_seccos("407190283655"[:digits])
    assert change.sealed_pin is None
    assert change.values.keys() == {ValueKind.PRW, ValueKind.SCRIPT}


def test_what_d1_computed_is_kept_for_the_host_and_for_the_card(partner: Partner) -> None:
    sent = partner.writer().payload(PIN)
    content = partner.exported(partner.send(sent))
    assert content == {
        "issuerId": ISSUER_ID,
        "cardId": partner.card.card_id,
        "counter": CHANGES + 1,
        "prw": {
            "prw": str(sent[PRW]).upper(),
            "random": sent[RANDOM],
            "counter": CHANGES,
            "source": "d1",
            "keyGeneration": 1,
        },
        "script": {
            "pinBlock": str(sent[BLOCK]).upper(),
            "mac": str(sent[MAC]).upper(),
            "counter": CHANGES,
            "keyGeneration": 1,
        },
    }


def script_of(partner: Partner, card: Card) -> bytes:
    """Let D1 set the PIN of a card; return the block for it, which the host gets."""
    content = partner.exported(partner.set_seccos(card=card))
    return bytes.fromhex(content["script"]["pinBlock"])


def test_a_script_is_enciphered_under_a_key_of_its_card(partner: Partner) -> None:
    master, clear = partner.key(KeyRole.SECCOS_PIN), bytes.fromhex("244071FFFFFFFFFF")
    scripts = {card: script_of(partner, card) for card in many_cards(100)}
    for card, script in scripts.items():
        card_key = pyemv.kd.derive_icc_mk_a(master, card.pan, f"{card.psn:02d}")
        session_key = pyemv.kd.derive_common_sk(card_key, bytes.fromhex("0007000000000000"))
        assert tdes_ecb_decrypt(session_key)(script) == clear
        assert tdes_ecb_decrypt(master)(script) != clear
    assert len({*scripts.values()}) == len(scripts) == 100


def test_only_by_the_knob_is_it_the_same_on_every_card(partner: Partner) -> None:
    shared = partner.with_profile(KEYS_OF_ALL_CARDS)
    (script,) = {script_of(shared, card) for card in many_cards(100)}
    key = shared.key(KeyRole.SECCOS_PIN)
    assert tdes_ecb_decrypt(key)(script) == bytes.fromhex("244071FFFFFFFFFF")


def many_cards(number: int) -> list[Card]:
    """Cards of one issuer with one sequence number and one expiry date."""
    return [replace(CARD, pan=with_check_digit(f"67259012345{one:07}")) for one in range(number)]


@pytest.mark.parametrize(
    "change",
    [
        lambda sent: {name: value for name, value in sent.items() if name != COUNTER},
        lambda sent: {**sent, COUNTER: None},
        lambda sent: {**sent, COUNTER: "7"},
        lambda sent: {**sent, KEY_ID: None},
        lambda sent: {**sent, "nonce": "6e5f", "PRW": "1"},
        lambda sent: {name: str(value).upper() for name, value in sent.items()},
        lambda sent: {name: str(value).lower() for name, value in sent.items()},
    ],
    ids=["no counter", "null", "text", "no key id", "more members", "upper case", "lower case"],
)
def test_the_form_of_a_payload_is_free_where_the_profile_leaves_it_free(
    partner: Partner, change: Callable[[Mapping[str, object]], object]
) -> None:
    assert partner.send(change(partner.writer().payload(PIN))).values


@pytest.mark.parametrize(("rule", "counter"), [("current", 7), ("next", 8)])
def test_the_profile_says_which_counter_d1_computes_with(
    partner: Partner, rule: str, counter: int
) -> None:
    profiled = partner.with_profile({"counter": {"rule": rule}})
    sent = profiled.writer().payload(PIN)
    assert sent[COUNTER] == counter
    assert profiled.exported(profiled.send(sent))["script"]["counter"] == counter


@pytest.mark.parametrize(
    "body",
    [
        {"pin_block": {"clear_format": "iso0"}},
        {"pin_block": {"clear_format": "iso1", "padding": "iso9797-2"}},
        {"pin_block": {"clear_format": "iso3", "cipher": "tdes-cbc", "iv": "counter"}},
        {"pin_block": {"selfenc": "append"}},
        {"prw": {"alg": "iso9797-alg3", "encoding": "ibm-literal"}},
        {"prw": {"counter_binding": "replace_random"}},
        {"prw": {"random": "none"}},
        {"mac": {"alg": "aes-cmac", "length": 16, "session_key": "none"}},
        KEYS_OF_ALL_CARDS,
        {"mac": {"length": 4, "input": ["prw", "random", "pinBlock", "counter:u32be"]}},
        MAC_OVER_CARD,
    ],
    ids=str,
)
def test_profiles_that_every_hsm_token_can_compute(partner: Partner, body: Body) -> None:
    assert_only_d1s_payload_is_taken(partner.with_profile(body))


@pytest.mark.parametrize("block_key", ["none", "emv_csk"])
def test_session_keys_of_card_and_counter(partner: Partner, block_key: str) -> None:
    assert_session_keys_work(partner, "iso9797-alg3-pad2", block_key)


@on_two_hsm_tokens
@pytest.mark.parametrize("block_key", ["none", "emv_csk"])
def test_session_keys_that_make_a_tdes_cmac(partner: Partner, block_key: str) -> None:
    assert_session_keys_work(partner, "tdes-cmac", block_key)


def assert_session_keys_work(partner: Partner, mac_alg: str, block_key: str) -> None:
    body = {
        "pin_block": {"session_key": block_key, "same_on_every_card": block_key == "none"},
        "mac": {"alg": mac_alg, "session_key": "emv_csk", "input": ["pinBlock"]},
    }
    profiled = partner.with_profile(body)
    assert_only_d1s_payload_is_taken(profiled)
    # The session key is of the card: the MAC of another card's payload is wrong too.
    for card in (OTHERS["another PAN"], OTHERS["another sequence number"]):
        assert profiled.refusal(profiled.writer(card=card).payload(PIN)) is NotGenuine


@on_two_hsm_tokens
def test_tdes_cmac(partner: Partner) -> None:
    body = {
        "prw": {"alg": "tdes-cmac", "key_label": f"d1.prw.ver.g{TDES_CMAC_GENERATION}"},
        "mac": {
            "alg": "tdes-cmac",
            "session_key": "none",
            "key_label": f"d1.smi.g{TDES_CMAC_GENERATION}",
        },
    }
    assert_only_d1s_payload_is_taken(partner.with_profile(body))


def assert_only_d1s_payload_is_taken(partner: Partner) -> None:
    sent = partner.writer().payload(PIN)
    assert partner.send(sent).sealed_pin is None
    assert partner.refusal(flipped(sent, BLOCK)) is NotGenuine
    assert partner.refusal(flipped(sent, MAC)) is NotGenuine
    assert partner.refusal(sent, changes=CHANGES + 1) is NotGenuine
    parts = partner.profile.mac.input
    assert partner.refusal(flipped(sent, PRW)) is (NotGenuine if "prw" in parts else WrongPinData)


# Whom a failure counts against


@pytest.mark.parametrize("bit", [0, 7, 8, 63])
def test_a_changed_mac_is_not_genuine(partner: Partner, bit: int) -> None:
    assert partner.refusal(flipped(partner.writer().payload(PIN), MAC, bit)) is NotGenuine


@pytest.mark.parametrize("with_counter", [True, False], ids=["counter sent", "counter not sent"])
@pytest.mark.parametrize("changes", [0, CHANGES - 1, CHANGES + 1, 65535])
def test_a_stale_or_future_counter_is_not_genuine(
    partner: Partner, changes: int, *, with_counter: bool
) -> None:
    sent = partner.writer(changes).payload(PIN, with_counter=with_counter)
    assert partner.refusal(sent) is NotGenuine


def test_a_counter_that_is_not_the_one_of_the_mac_is_not_genuine(partner: Partner) -> None:
    sent = partner.writer().payload(PIN)
    for counter in (CHANGES - 1, CHANGES + 1, 0, 65535):
        assert partner.refusal({**sent, COUNTER: counter}) is NotGenuine
    stale = partner.writer(CHANGES - 1).payload(PIN)
    assert partner.refusal({**stale, COUNTER: CHANGES}) is NotGenuine


@pytest.mark.parametrize("card", OTHERS.values(), ids=OTHERS)
def test_a_payload_for_another_card_fails_by_whatever_knows_the_card(
    partner: Partner, card: Card
) -> None:
    # Session keys of the default know PAN and PSN, and the PRW knows the expiry date.
    by_mac = NotGenuine if card.expiry == CARD.expiry else WrongPinData
    assert partner.refusal(partner.writer(card=card).payload(PIN)) is by_mac
    shared = partner.with_profile(KEYS_OF_ALL_CARDS)
    assert shared.refusal(shared.writer(card=card).payload(PIN)) is WrongPinData
    bound = partner.with_profile(MAC_OVER_CARD)
    assert bound.refusal(bound.writer(card=card).payload(PIN)) is NotGenuine


@pytest.mark.parametrize("name", [PRW, RANDOM])
@pytest.mark.parametrize("bit", [0, 31])
def test_a_changed_prw_or_random_behind_a_valid_mac_is_wrong_pin_data(
    partner: Partner, name: str, bit: int
) -> None:
    assert partner.refusal(flipped(partner.writer().payload(PIN), name, bit)) is WrongPinData


@pytest.mark.parametrize(
    "block",
    [
        lambda writer: writer.block("4072"),
        lambda writer: writer.block("40710"),
        lambda _: "00" * 8,
        lambda writer: replace(writer, keys=replace(writer.keys, spe=bytes(range(16)))).block(PIN),
    ],
    ids=["another PIN", "another length", "not a block", "another key"],
)
def test_another_block_behind_a_valid_mac_is_wrong_pin_data(
    partner: Partner, block: Callable[[Writer], str]
) -> None:
    writer = partner.writer()
    forged = block(writer)
    sent = {**writer.payload(PIN), BLOCK: forged, MAC: writer.mac(forged, "", "")}
    assert partner.refusal(sent) is WrongPinData


def test_a_wrong_prw_behind_a_wrong_mac_does_not_count_against_the_card(partner: Partner) -> None:
    sent = partner.writer().payload(PIN)
    assert partner.refusal(flipped(flipped(sent, PRW), MAC)) is NotGenuine


@pytest.mark.parametrize("pin", ["1111", "1234", "98765"])
def test_a_weak_pin_is_refused_and_only_d1_learns_so(partner: Partner, pin: str) -> None:
    sent = partner.writer().payload(pin)
    with pytest.raises(WeakPinRefused):
        partner.send(sent)
    assert partner.refusal(flipped(sent, MAC)) is NotGenuine
    assert partner.refusal(flipped(sent, PRW)) is WrongPinData


def test_a_pin_of_a_length_that_the_policy_forbids_counts_against_nobody(partner: Partner) -> None:
    with pytest.raises(WeakPinRefused):
        partner.send(partner.writer().payload("407190283"))
    strict = partner.with_members(policy={"length_min": 6})
    with pytest.raises(WeakPinRefused):
        strict.send(strict.writer().payload(PIN))


# Wrong forms count against nobody

WRONG_HEX: Final[Mapping[str, Callable[[str], object]]] = {
    "odd": lambda text: text[:-1],
    "a byte short": lambda text: text[:-2],
    "a byte long": lambda text: text + "00",
    "a digit long": lambda text: text + "0",
    "empty": lambda _: "",
    "not hexadecimal": lambda text: "G" + text[1:],
    "spaced": lambda text: f" {text[2:]} ",
    "signed": lambda text: "+" + text[1:],
    "other digits": lambda text: "\u0664" + text[1:],
    "a number": lambda _: 7,
    "true": lambda _: True,
    "a list": lambda text: [text],
    "null": lambda _: None,
}
WRONG_COUNTERS: Final = [
    7.0, True, False, -7, 65536, 2**64, "", "-7", "+7", "7.0", " 7", "7 ", "7\n", "0x7", "\u0667",
    "seven", "00000000007", "65536", [7], {"counter": 7},
]  # fmt: skip
WRONG_PLAINTEXTS: Final[Mapping[str, Callable[[dict[str, object]], object]]] = {
    "two blocks": lambda sent: {**sent, "pinBlock": sent[BLOCK]},
    "two PRWs": lambda sent: {**sent, "prw": sent[PRW]},
    "two randoms": lambda sent: {**sent, "random": sent[RANDOM]},
    "two MACs": lambda sent: {**sent, "scriptMac": sent[MAC]},
    "two counters": lambda sent: {**sent, "counter": CHANGES},
    "two key ids": lambda sent: {**sent, "keyId": "2025", "keyVersion": "2025"},
    "two names, one null": lambda sent: {**sent, "pinBlock": None},
    "unknown key id": lambda sent: {**sent, KEY_ID: "2027"},
    "key id as a generation": lambda sent: {**sent, KEY_ID: 1},
    "empty key id": lambda sent: {**sent, KEY_ID: ""},
    "key id in a list": lambda sent: {**sent, KEY_ID: ["2025"]},
    "a list": lambda sent: [sent],
    "empty": lambda _: {},
    "not JSON": lambda _: b"junk",
    "one member twice": lambda _: b'{"mac":"00","mac":"00"}',
    "a block and no more": lambda sent: {BLOCK: sent[BLOCK]},
}


@on_two_hsm_tokens
@pytest.mark.parametrize("name", [BLOCK, PRW, RANDOM, MAC])
@pytest.mark.parametrize("wrong", WRONG_HEX.values(), ids=WRONG_HEX)
def test_a_member_of_the_wrong_form_counts_against_nobody(
    partner: Partner, name: str, wrong: Callable[[str], object]
) -> None:
    sent = partner.writer().payload(PIN)
    assert partner.refusal({**sent, name: wrong(str(sent[name]))}) is PinRejected


@on_two_hsm_tokens
@pytest.mark.parametrize("name", [BLOCK, PRW, RANDOM, MAC])
def test_a_missing_member_counts_against_nobody(partner: Partner, name: str) -> None:
    sent = partner.writer().payload(PIN)
    del sent[name]
    assert partner.refusal(sent) is PinRejected


@on_two_hsm_tokens
@pytest.mark.parametrize("counter", WRONG_COUNTERS, ids=repr)
def test_what_is_not_a_counter_counts_against_nobody(partner: Partner, counter: object) -> None:
    sent = partner.writer().payload(PIN)
    assert partner.refusal({**sent, COUNTER: counter}) is PinRejected


@on_two_hsm_tokens
@pytest.mark.parametrize("wrong", WRONG_PLAINTEXTS.values(), ids=WRONG_PLAINTEXTS)
def test_a_payload_of_the_wrong_form_counts_against_nobody(
    partner: Partner, wrong: Callable[[dict[str, object]], object]
) -> None:
    named = partner.with_profile(KEY_IDS)
    assert named.refusal(wrong(named.writer().payload(PIN))) is PinRejected


def test_a_payload_of_one_type_is_no_payload_of_the_other(partner: Partner) -> None:
    # Read as ISO-0 an enciphered block may by chance have a length; this policy takes all of them.
    partner = partner.with_members(policy=LONG_PINS)
    seccos = partner.writer().payload(PIN)
    assert partner.refusal(seccos, block_type=PinBlockType.ISO0) is WrongPinData
    iso0 = {"pinBlock": "044071EEEEEEEEEE"}
    assert partner.refusal(iso0) is PinRejected
    assert partner.refusal({**seccos, **iso0}) is PinRejected


# What the issuer must have


@pytest.mark.parametrize(("body", "changes"), [({}, 8), ({"rule": "next"}, 7)], ids=str)
def test_a_profile_counts_so_far_and_no_further(
    partner: Partner, body: Mapping[str, object], changes: int
) -> None:
    profiled = partner.with_profile({"counter": {"max": 7, **body}})
    last = profiled.writer(changes - 1).payload(PIN)
    assert profiled.send(last, changes=changes - 1)
    # Whatever D1 sends then, the counter that it was told included.
    for sent in (last, {**last, COUNTER: 8}, {}):
        with pytest.raises(CounterExhausted):
            profiled.send(sent, changes=changes)


@pytest.mark.parametrize(
    "body",
    [
        {"pin_block": {"key_label": "d1.spe.g9"}},
        {"prw": {"key_label": "d1.prw.ver.g9"}},
        {"prw": {"key_label": "d1.prw.ver.g9", "alg": "iso9797-alg3"}},
        {"mac": {"key_label": "d1.smi.g9"}},
        {"mac": {"key_label": "d1.smi.g9", "session_key": "none"}},
        {"mac": {"key_label": "d1.smi.g9", "session_key": "none", "alg": "aes-cmac"}},
    ],
    ids=str,
)
def test_a_key_that_was_not_imported_is_missing(partner: Partner, body: Body) -> None:
    profiled = partner.with_profile(body)
    with pytest.raises(KeyMissing):
        profiled.set_seccos()


@on_two_hsm_tokens
@pytest.mark.parametrize(
    "body",
    [
        {"prw": {"key_label": f"d1.prw.ver.g{TDES_CMAC_GENERATION}"}},
        {
            "mac": {
                "key_label": f"d1.smi.g{TDES_CMAC_GENERATION}",
                "alg": "aes-cmac",
                "session_key": "none",
            }
        },
        {"mac": {"alg": "tdes-cmac", "session_key": "none"}},
    ],
    ids=str,
)
def test_a_key_of_another_kind_than_the_profile_needs_is_refused(
    partner: Partner, body: Body
) -> None:
    profiled = partner.with_profile(body)
    with pytest.raises(ManifestRefused, match="not of the kind"):
        profiled.set_seccos()


def test_without_a_profile_the_jwe_is_not_looked_at(partner: Partner) -> None:
    issuer = partner.issuer.with_members(seccos=None)
    sealed_record = issuer.seal_record(card=partner.card)
    for jwe in ("", partner.issuer.pin_jwe({})):
        with pytest.raises(TypeNotOffered):
            issuer.change(jwe, sealed_record, PinBlockType.SECCOS, partner.card)


def test_without_a_manifest_in_force_no_pin_is_taken(partner: Partner) -> None:
    here, card = partner.issuer.host, partner.card
    sealed_record = partner.issuer.seal_record(card=card)
    jwe = partner.issuer.pin_jwe(partner.writer().payload(PIN))
    for host in (here.another(), here.reopened(lambda: VALID_UNTIL)):
        there = replace(partner.issuer, host=host)
        for block_type in PinBlockType:
            with pytest.raises(ManifestRefused):
                there.change(jwe, sealed_record, block_type, card, CHANGES + 1)


def test_a_payload_with_the_keys_of_another_issuer_is_not_genuine(
    partner: Partner, mac_only: Partner
) -> None:
    profiled = mac_only.with_profile(ONLY_MAC)
    theirs = replace(mac_only.writer(), keys=partner.writer().keys)
    assert profiled.refusal(theirs.payload(PIN)) is NotGenuine


def test_a_payload_for_a_record_of_another_card_is_not_read(partner: Partner) -> None:
    sealed_record = partner.issuer.seal_record(card=CardRef(ISSUER_ID, "card-2"))
    jwe = partner.issuer.pin_jwe(partner.writer().payload(PIN))
    with pytest.raises(SealBroken):
        partner.issuer.change(jwe, sealed_record, PinBlockType.SECCOS, partner.card, CHANGES + 1)


# Which keys


@pytest.mark.parametrize(("key_id", "generation"), [("2025", 1), ("2026", 2)])
def test_the_key_id_chooses_the_generation(partner: Partner, key_id: str, generation: int) -> None:
    named = partner.with_profile(KEY_IDS)
    sent = named.writer(generation=generation).payload(PIN)
    content = named.exported(named.send({**sent, KEY_ID: key_id}))
    assert {content[name]["keyGeneration"] for name in ("prw", "script")} == {generation}
    other = {"2025": "2026", "2026": "2025"}[key_id]
    assert named.refusal({**sent, KEY_ID: other}) is NotGenuine


def test_a_key_id_of_a_generation_that_was_not_imported_is_missing(partner: Partner) -> None:
    body = {"payload": {"key_ids": [{"name": "2034", "generation": 9}]}}
    with pytest.raises(KeyMissing):
        partner.with_profile(body).send({**partner.writer().payload(PIN), KEY_ID: "2034"})


@pytest.mark.parametrize("section", ["pin_block", "prw", "mac"])
def test_each_key_label_chooses_a_generation(partner: Partner, section: str) -> None:
    label = {"pin_block": "d1.spe.g2", "prw": "d1.prw.ver.g2", "mac": "d1.smi.g2"}[section]
    second = partner.with_profile({section: {"key_label": label}})
    sent = second.writer().payload(PIN)
    content = second.exported(second.send(sent))
    generations = {name: content[name]["keyGeneration"] for name in ("prw", "script")}
    assert generations == {
        "prw": 2 if section == "prw" else 1,
        "script": 2 if section == "mac" else 1,
    }
    assert partner.refusal(sent) is (NotGenuine if section == "mac" else WrongPinData)


@pytest.mark.parametrize("body", [ONLY_MAC, SELF_REPLACED], ids=["mac_only", "selfenc replace"])
def test_who_only_checks_macs_needs_no_other_key(mac_only: Partner, body: Body) -> None:
    profiled = mac_only.with_profile(body)
    sent = profiled.writer().payload(PIN)
    change = profiled.send(sent)
    assert change.sealed_pin is None
    content = profiled.exported(change)
    assert content["script"]["pinBlock"] == str(sent[BLOCK]).upper()
    assert content["prw"]["prw"] == str(sent[PRW]).upper()
    assert profiled.refusal(flipped(sent, MAC)) is NotGenuine
    assert profiled.refusal(flipped(sent, BLOCK)) is NotGenuine
    assert profiled.refusal(sent, changes=CHANGES + 1) is NotGenuine


def test_who_reads_the_pin_needs_its_key(mac_only: Partner) -> None:
    with pytest.raises(KeyMissing):
        mac_only.set_seccos()


class NotingToken(SoftwareToken):
    """Notes which keys are used, in which order."""

    def __init__(self) -> None:
        self.used: list[KeyLabel] = []
        super().__init__()

    def _secret(self, label: KeyLabel) -> bytes:
        self.used.append(label)
        return super()._secret(label)


@pytest.mark.parametrize(
    "body",
    [{}, MAC_OVER_CARD, {"pin_block": {"selfenc": "append"}}, KEYS_OF_ALL_CARDS],
    ids=str,
)
def test_every_wrong_payload_costs_the_hsm_token_the_same(body: Body, hosts: Path) -> None:
    hsm_token = NotingToken()
    keys = share_keys(hsm_token)
    partner = open_partner(open_host(hsm_token, hosts), keys, ISSUER_ID).with_profile(body)
    writer = partner.writer()
    sent = writer.payload(PIN)
    junk = "00" * (len(str(sent[BLOCK])) // 2)
    wrong = [
        flipped(sent, BLOCK),
        flipped(sent, PRW),
        flipped(sent, RANDOM),
        flipped(sent, MAC),
        {**sent, COUNTER: CHANGES + 1},
        partner.writer(CHANGES - 1).payload(PIN),
        partner.writer(card=OTHERS["another PAN"]).payload(PIN),
        {**sent, BLOCK: junk, MAC: writer.mac(junk, "", "")},
        {**sent, MAC: "00" * 8, PRW: "00" * 16, RANDOM: "00" * 4, BLOCK: junk},
    ]
    partner.send(sent)
    uses = []
    for payload in wrong:
        hsm_token.used.clear()
        partner.refusal(payload)
        uses.append([label for label in hsm_token.used if label.role.per_issuer])
    roles = {label.role for label in uses[0]}
    mac_roles = {KeyRole.SECCOS_MAC_MASTER}
    if body is KEYS_OF_ALL_CARDS:
        mac_roles = {KeyRole.SECCOS_MAC, KeyRole.SECCOS_MAC_LEFT}
    assert roles == {KeyRole.SECCOS_PIN, KeyRole.SECCOS_PRW, *mac_roles}
    assert uses == [uses[0]] * len(wrong)


# Any profile, any PIN, any PAN


@strategies.composite
def sendings(draw: strategies.DrawFn) -> tuple[Body, int, Card]:
    """Draw a profile, a number of changes that it counts, and a card."""
    body = draw(bodies())
    # The AES and the TDES keys of one role are different generations.
    labels = {
        ("prw", "aes-cmac"): "d1.prw.ver.g{}", ("prw", "iso9797-alg3"): "d1.prw.ver.g{}",
        ("prw", "tdes-cmac"): "d1.prw.ver.g3", ("mac", "aes-cmac"): "d1.smi.g{}",
        ("mac", "iso9797-alg3-pad2"): "d1.smi.g{}", ("mac", "tdes-cmac"): "d1.smi.g3",
    }  # fmt: skip
    generation = strategies.integers(1, 2)
    for section in ("prw", "mac"):
        label = labels[section, body[section]["alg"]]
        if body[section].get("session_key") == "emv_csk":
            label = "d1.smi.g{}"
        body[section]["key_label"] = label.format(draw(generation))
    body["pin_block"]["key_label"] = f"d1.spe.g{draw(generation)}"
    last = body["counter"]["max"] - (body["counter"]["rule"] == "next")
    return body, draw(strategies.integers(0, last)), draw(cards())


@pytest.fixture(scope="module")
def lenient(partner: Partner) -> Partner:
    """An issuer that takes every PIN."""
    return partner.with_members(
        policy={**LONG_PINS, "refuse_repeated": False, "refuse_runs": False}
    )


def assert_d1_is_understood_and_nobody_else(
    lenient: Partner, sending: tuple[Body, int, Card], pin: str, data: strategies.DataObject
) -> None:
    body, changes, card = sending
    partner = lenient.with_profile(body)
    sent = partner.writer(changes, card).payload(pin, with_counter=data.draw(strategies.booleans()))
    how: dict[str, Any] = {"changes": changes, "card": card}
    assert partner.send(sent, **how).sealed_pin is None

    names = [name for name in sent if name != COUNTER and is_checked(partner, name)]
    name = data.draw(strategies.sampled_from(names))
    bit = data.draw(strategies.integers(0, 4 * len(str(sent[name])) - 1))
    assert issubclass(partner.refusal(flipped(sent, name, bit), **how), PinRejected)

    counter = partner.profile.counter.expected(changes)
    off_by_one = counter + data.draw(strategies.sampled_from([-1, 1]))
    assert issubclass(partner.refusal({**sent, COUNTER: off_by_one}, **how), PinRejected)
    if 0 <= off_by_one <= partner.profile.counter.max:
        writer = replace(partner.writer(changes, card), counter=off_by_one)
        stale = writer.payload(pin, with_counter=data.draw(strategies.booleans()))
        assert partner.refusal(stale, **how) is NotGenuine


def is_checked(partner: Partner, name: str) -> bool:
    """Whether the profile checks a member: mac_only leaves what its MAC does not cover."""
    part = {BLOCK: "pinBlock", PRW: "prw", RANDOM: "random"}.get(name)
    return partner.profile.verify == "full" or part is None or part in partner.profile.mac.input


@pytest.mark.parametrize("device", ["software token"], indirect=True)
@settings(max_examples=300)
@given(sending=sendings(), pin=pins, data=strategies.data())
def test_what_d1_builds_by_any_profile_is_taken_and_no_changed_bit_of_it(
    lenient: Partner, sending: tuple[Body, int, Card], pin: str, data: strategies.DataObject
) -> None:
    assert_d1_is_understood_and_nobody_else(lenient, sending, pin, data)


@pytest.mark.parametrize("device", ["SoftHSM2"], indirect=True)
@settings(max_examples=50)
@given(sending=sendings(), pin=pins, data=strategies.data())
def test_the_same_in_an_hsm_token(
    lenient: Partner, sending: tuple[Body, int, Card], pin: str, data: strategies.DataObject
) -> None:
    assert_d1_is_understood_and_nobody_else(lenient, sending, pin, data)
