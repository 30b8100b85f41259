"""PIN verification values: made in the vault, sealed, opened by the authorisation host alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Final, get_type_hints

import psec
import pytest
from hypothesis import given, strategies

from cms.sandbox.partners.jwe import decrypt
from hsm.errors import CounterExhausted, KeyMissing, ManifestRefused, SealBroken, ValueNotPossible
from hsm.manifest.model import Manifest
from hsm.pkcs11.keys import KeyRole
from hsm.port import CardRef, SealedChange, SealedValue, ValueKind
from hsm.vault import Vault
from hsm.verbs import PinVault
from tests.contracts.edits import every_change
from tests.contracts.issuer import HOLDER, LONG_PINS, PIN
from tests.contracts.partner import CARD, CHANGES, ISSUER_ID, SECCOS_ROLES, Partner, cards
from tests.crypto.ciphers import triple
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.seccos.d1_side import Card
from tests.crypto.seccos.profiles import Body
from tests.crypto.strategies import pins
from tests.pans import PAN

pytestmark = takes_tdes_the_old_way

TABLE: Final = "0123456789012345"
ISSUERS_PRW: Final[Body] = {"prw_source": "issuer"}
PVV: Final[Body] = {"pvv": {"key_index": 1}}
OFFSET: Final[Body] = {"offset_3624": {"table": TABLE}}
PRW: Final[Body] = {"prw": True}
ALL: Final[Body] = {**PVV, **OFFSET, **PRW}
KINDS: Final = {
    "pvv": ValueKind.PVV,
    "offset_3624": ValueKind.OFFSET_3624,
    "prw": ValueKind.PRW,
}
NO_CHECKS: Final = {**LONG_PINS, "refuse_repeated": False, "refuse_runs": False}
#: Every way of setting a PIN that the vault reads.
SETTERS: Final[Mapping[str, Callable[..., SealedChange]]] = {
    "ISO-0": Partner.set_iso0,
    "SECCOS": Partner.set_seccos,
}
every_setter = pytest.mark.parametrize("set_pin", SETTERS.values(), ids=SETTERS)


@pytest.fixture(scope="module")
def makes_all(partner: Partner) -> Partner:
    """An issuer that asks for all values and makes them itself."""
    return partner.with_members(policy=LONG_PINS, seccos=ISSUERS_PRW, verification=ALL)


def psec_pvv(partner: Partner, pin: str, card: Card, index: int = 1, generation: int = 1) -> str:
    key = triple(partner.key(KeyRole.PVK, generation))
    return str(psec.pin.generate_visa_pvv(key, str(index), pin[:4], card.pan))


def psec_offset(
    partner: Partner,
    pin: str,
    card: Card,
    table: str = TABLE,
    digits: str = "",
    generation: int = 1,
) -> str:
    """Compute an offset over *digits*, or over the first 16 of the PAN; F fills them up."""
    key, digits = triple(partner.key(KeyRole.PVK_3624, generation)), digits or card.pan[:16]
    return str(psec.pin.generate_ibm3624_offset(key, table, pin, digits, 0, len(digits), "F"))


def own_prw(
    partner: Partner, pin: str, card: Card, changes: int, random: str, generation: int = 1
) -> str:
    """Compute the issuer's PRW as a host does that has the key and the layout."""
    writer = partner.writer(changes, card)
    keys = replace(writer.keys, prw=partner.key(KeyRole.PRW, generation))
    settings = writer.profile
    aes = settings.model_copy(update={"prw": settings.prw.model_copy(update={"alg": "aes-cmac"})})
    return replace(writer, keys=keys, profile=aes).prw(pin, random).upper()


# What is made


@every_setter
@pytest.mark.parametrize("digits", range(4, 13))
def test_all_that_is_asked_for_is_made_of_every_pin(
    makes_all: Partner, set_pin: Callable[..., SealedChange], digits: int
) -> None:
    pin = "407190283655"[:digits]
    change = set_pin(makes_all, pin)
    content = makes_all.exported(change)
    random = content["prw"]["random"]
    assert content.pop("script", None) is None or change.sealed_pin is None
    assert content == {
        "issuerId": ISSUER_ID,
        "cardId": makes_all.card.card_id,
        "counter": CHANGES + 1,
        "pvv": {"pvv": psec_pvv(makes_all, pin, CARD), "keyIndex": 1, "keyGeneration": 1},
        "offset-3624": {"offset": psec_offset(makes_all, pin, CARD), "keyGeneration": 1},
        "prw": {
            "prw": own_prw(makes_all, pin, CARD, CHANGES, random),
            "random": random,
            "counter": CHANGES,
            "source": "issuer",
            "keyGeneration": 1,
        },
    }
    assert len(bytes.fromhex(random)) == 4


@pytest.mark.parametrize(
    "asked", [names for size in range(4) for names in combinations(KINDS, size)], ids=" ".join
)
def test_what_is_not_asked_for_is_not_made(makes_all: Partner, asked: tuple[str, ...]) -> None:
    asking = makes_all.asking(**{name: ALL[name] for name in asked})
    expected = {KINDS[name] for name in asked}
    assert asking.set_iso0().values.keys() == expected
    # A PIN that came as SECCOS and is kept nowhere else always has its PRW.
    assert asking.set_seccos().values.keys() == expected | {ValueKind.SCRIPT, ValueKind.PRW}


def test_without_a_verification_profile_nothing_is_made(partner: Partner) -> None:
    assert partner.set_iso0().values == {}


def test_the_pin_itself_is_kept_only_where_it_did_not_come_as_seccos(makes_all: Partner) -> None:
    assert makes_all.set_iso0().sealed_pin is not None
    assert makes_all.set_seccos().sealed_pin is None


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("index", range(1, 7))
def test_index_and_key_of_a_pvv_are_those_of_the_profile(
    partner: Partner, index: int, generation: int
) -> None:
    asking = partner.asking(pvv={"key_index": index, "key_generation": generation})
    assert asking.exported(asking.set_iso0())["pvv"] == {
        "pvv": psec_pvv(partner, PIN, CARD, index, generation),
        "keyIndex": index,
        "keyGeneration": generation,
    }


@pytest.mark.parametrize("table", [TABLE, "9876543210987654", "0011223344556677"])
@pytest.mark.parametrize(
    ("template", "digits"),
    [
        ("{left:0:16}", CARD.pan[:16]),
        ("{left:4:11}FFFFF", CARD.pan[4:15]),
        ("{right:1:12}FFFF", CARD.pan[-13:-1]),
        ("5022654000{right:1:5}2", f"5022654000{CARD.pan[-6:-1]}2"),
    ],
)
@pytest.mark.parametrize("generation", [1, 2])
def test_table_digits_and_key_of_an_offset_are_those_of_the_profile(
    partner: Partner, table: str, template: str, digits: str, generation: int
) -> None:
    body = {"table": table, "validation_data": template}
    asking = partner.asking(offset_3624={**body, "key_generation": generation})
    expected = psec_offset(partner, PIN, CARD, table, digits, generation)
    content = asking.exported(asking.set_iso0())
    assert content["offset-3624"] == {"offset": expected, "keyGeneration": generation}


@pytest.mark.parametrize(
    ("prw", "random_bytes"),
    [
        ({"encoding": "ibm-literal", "random": "issuer"}, 4),
        ({"random": "none"}, 0),
        ({"counter_binding": "replace_random"}, 0),
        ({"alg": "iso9797-alg3"}, 4),
        ({"encoding": "template", "template": ["hex:A5", "pan", "cdt", "pinField", "random"]}, 4),
    ],
    ids=str,
)
@every_setter
def test_the_issuers_prw_is_laid_out_by_the_profile_and_always_an_aes_cmac(
    partner: Partner, set_pin: Callable[..., SealedChange], prw: Body, random_bytes: int
) -> None:
    body = {**ISSUERS_PRW, "prw": prw, "counter": {"rule": "next"}}
    asking = partner.with_profile(body).asking(prw=True, prw_key_generation=2)
    made = asking.exported(set_pin(asking))["prw"]
    random = made["random"]
    assert len(bytes.fromhex(random)) == random_bytes
    # Instead of the random there is the counter, which is the next one here.
    random = f"{CHANGES + 1:08X}" if prw.get("counter_binding") == "replace_random" else random
    assert made == {
        "prw": own_prw(asking, PIN, CARD, CHANGES, random, generation=2),
        "random": made["random"],
        "counter": CHANGES + 1,
        "source": "issuer",
        "keyGeneration": 2,
    }


def test_the_same_pin_has_another_prw_each_time(makes_all: Partner) -> None:
    one, other = (makes_all.exported(makes_all.set_iso0())["prw"] for _ in range(2))
    assert one["random"] != other["random"]
    assert one["prw"] != other["prw"]


tables = strategies.tuples(
    strategies.permutations("0123456789"), strategies.text("0123456789", min_size=6, max_size=6)
)


@pytest.mark.parametrize("device", ["software token"], indirect=True)
@given(
    set_pin=strategies.sampled_from([*SETTERS.values()]),
    pin=pins,
    card=cards(pan_digits_min=12),
    table=tables.map(lambda parts: "".join(parts[0]) + parts[1]),
    index=strategies.integers(1, 6),
    changes=strategies.integers(0, 0xFFFF),
)
def test_other_implementations_agree(
    partner: Partner,
    set_pin: Callable[..., SealedChange],
    pin: str,
    card: Card,
    table: str,
    index: int,
    changes: int,
) -> None:
    offset = {"table": table, "validation_data": "{right:1:7}FFFFFFFFF"}
    asked = {"pvv": {"key_index": index}, "offset_3624": offset, "prw": True}
    asking = partner.with_members(policy=NO_CHECKS, seccos=ISSUERS_PRW, verification=asked)
    content = asking.exported(set_pin(asking, pin, card, changes), changes + 1)
    assert content["pvv"]["pvv"] == psec_pvv(asking, pin, card, index)
    expected = psec_offset(asking, pin, card, table, card.pan[-8:-1])
    assert content["offset-3624"]["offset"] == expected
    prw = content["prw"]
    assert prw["prw"] == own_prw(asking, pin, card, changes, prw["random"])


# What cannot be made


@pytest.mark.needs(*SECCOS_ROLES)
def test_where_the_prw_is_d1s_only_d1_can_set_a_pin(partner: Partner) -> None:
    asking = partner.asking(prw=True)
    with pytest.raises(ValueNotPossible):
        asking.set_iso0()
    sent = asking.writer().payload(PIN)
    cached = asking.exported(asking.send(sent))["prw"]
    assert (cached["prw"], cached["source"]) == (str(sent["pinReferenceWord"]).upper(), "d1")


@pytest.mark.parametrize("asked", [PVV, OFFSET, {**PVV, **PRW}], ids=str)
def test_a_pin_that_stays_unread_gives_no_value(partner: Partner, asked: Body) -> None:
    unread = partner.with_profile({"verify": "mac_only"})
    assert unread.asking(**PRW).set_seccos().values.keys() == {ValueKind.PRW, ValueKind.SCRIPT}
    with pytest.raises(ValueNotPossible):
        unread.asking(**asked).set_seccos()


@every_setter
@pytest.mark.parametrize(
    ("pan", "asked"),
    [
        ("79927398713", PVV),
        ("79927398713", OFFSET),
        ("4000000000006", OFFSET),
        (PAN, {"offset_3624": {"table": TABLE, "validation_data": "{left:1:16}"}}),
        (PAN, {"offset_3624": {"table": TABLE, "validation_data": "{right:18:1}" + "F" * 15}}),
    ],
    ids=str,
)
def test_a_pan_that_is_too_short_for_a_value_is_refused(
    partner: Partner, set_pin: Callable[..., SealedChange], pan: str, asked: Body
) -> None:
    card = replace(CARD, pan=pan)
    with pytest.raises(ValueNotPossible):
        set_pin(partner.asking(**asked), PIN, card)
    assert set_pin(partner.asking(), PIN, card)


def test_a_prw_needs_a_seccos_profile(partner: Partner) -> None:
    asking = partner.asking(prw=True).with_members(seccos=None)
    with pytest.raises(ManifestRefused, match="no SECCOS profile"):
        asking.set_iso0()


def test_a_prw_needs_a_counter_that_the_profile_counts(partner: Partner) -> None:
    asking = partner.with_profile({**ISSUERS_PRW, "counter": {"max": 7}}).asking(prw=True)
    assert asking.set_iso0(changes=7).values
    with pytest.raises(CounterExhausted):
        asking.set_iso0(changes=8)


@every_setter
@pytest.mark.parametrize(
    "asked",
    [
        {"pvv": {"key_index": 1, "key_generation": 9}},
        {"offset_3624": {"table": TABLE, "key_generation": 9}},
        {"prw": True, "prw_key_generation": 9},
    ],
    ids=str,
)
def test_a_key_that_was_not_imported_is_missing(
    partner: Partner, set_pin: Callable[..., SealedChange], asked: Body
) -> None:
    with pytest.raises(KeyMissing):
        set_pin(partner.with_profile(ISSUERS_PRW).asking(**asked))


@pytest.mark.parametrize("asked", [PVV, OFFSET, PRW], ids=str)
def test_the_keys_of_another_issuer_are_of_no_use(mac_only: Partner, asked: Body) -> None:
    with pytest.raises(KeyMissing):
        mac_only.with_profile(ISSUERS_PRW).asking(**asked).set_iso0()


# Sealed values belong to one card, one change and one kind


@pytest.fixture(scope="module")
def values(makes_all: Partner) -> Mapping[ValueKind, SealedValue]:
    """Values of all four kinds, of change CHANGES + 1."""
    sealed = makes_all.set_seccos().values
    assert sealed.keys() == {*ValueKind}
    return sealed


def opened(
    partner: Partner,
    values: Mapping[ValueKind, SealedValue],
    card: CardRef | None = None,
    counter: int = CHANGES + 1,
    holder: str | None = HOLDER,
) -> Mapping[str, Any]:
    issuer, card = partner.issuer, card or partner.card
    record = issuer.seal_record(card=card, holder=holder)
    jwe = issuer.vault.export_values(values, record, card, counter).value
    content: Mapping[str, Any] = decrypt(jwe, partner.host_key)
    return content


@pytest.mark.parametrize("kind", ValueKind)
def test_each_value_can_be_exported_alone(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue], kind: ValueKind
) -> None:
    about = {"issuerId", "cardId", "counter"}
    assert opened(makes_all, {kind: values[kind]}).keys() == about | {kind}
    assert opened(makes_all, {}).keys() == about


@pytest.mark.parametrize("kind", ValueKind)
@pytest.mark.parametrize("counter", [0, CHANGES, CHANGES + 2, CHANGES + 1 + 2**32])
def test_a_value_does_not_open_at_another_counter(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue], kind: ValueKind, counter: int
) -> None:
    with pytest.raises(SealBroken):
        opened(makes_all, {kind: values[kind]}, counter=counter)


@pytest.mark.parametrize("kind", ValueKind)
@pytest.mark.parametrize("card_id", ["card-2", "card-", "card-11"])
def test_a_value_does_not_open_for_another_card(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue], kind: ValueKind, card_id: str
) -> None:
    with pytest.raises(SealBroken):
        opened(makes_all, {kind: values[kind]}, CardRef(ISSUER_ID, card_id))


@pytest.mark.parametrize("kind", ValueKind)
@pytest.mark.parametrize("holder", ["bob", None])
def test_a_value_does_not_open_for_another_holder(
    makes_all: Partner,
    values: Mapping[ValueKind, SealedValue],
    kind: ValueKind,
    holder: str | None,
) -> None:
    with pytest.raises(SealBroken):
        opened(makes_all, {kind: values[kind]}, holder=holder)


def test_a_value_opens_for_its_holder_when_all_else_of_the_record_is_another(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    issuer, card = makes_all.issuer, makes_all.card
    renewed = issuer.seal_record(card=card, psn=2, expiry="0131", plastic_id=None)
    assert issuer.vault.export_values(values, renewed, card, CHANGES + 1).value


def test_values_leave_with_a_record_of_their_card_only(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    issuer, card = makes_all.issuer, makes_all.card
    others = issuer.seal_record(card=CardRef(card.issuer_id, "card-2"))
    for exported in (values, {}):
        with pytest.raises(SealBroken):
            issuer.vault.export_values(exported, others, card, CHANGES + 1)


@pytest.mark.parametrize("kind", ValueKind)
def test_a_value_does_not_open_for_another_issuer(
    mac_only: Partner, values: Mapping[ValueKind, SealedValue], kind: ValueKind
) -> None:
    with pytest.raises(SealBroken):
        opened(mac_only, {kind: values[kind]})


@pytest.mark.parametrize("kind", ValueKind)
@pytest.mark.parametrize("other", ValueKind)
def test_a_value_does_not_open_as_another_kind(
    makes_all: Partner,
    values: Mapping[ValueKind, SealedValue],
    kind: ValueKind,
    other: ValueKind,
) -> None:
    if kind is other:
        assert kind in opened(makes_all, {kind: values[kind]})
        return
    with pytest.raises(SealBroken):
        opened(makes_all, {kind: values[other]})


def test_one_wrong_value_among_right_ones_lets_none_out(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    with pytest.raises(SealBroken):
        opened(makes_all, {**values, ValueKind.SCRIPT: values[ValueKind.PVV]})


def test_no_byte_of_a_sealed_value_can_be_changed(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    kind = ValueKind.OFFSET_3624
    for changed in every_change(values[kind]):
        with pytest.raises(SealBroken):
            opened(makes_all, {kind: SealedValue(changed)})
    assert kind in opened(makes_all, {kind: values[kind]})


def test_a_value_under_a_key_that_the_hsm_token_lacks_is_a_missing_key(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    later = SealedValue(values[ValueKind.PVV].replace(b"values.g1", b"values.g7"))
    with pytest.raises(KeyMissing):
        opened(makes_all, {ValueKind.PVV: later})


def test_sealed_pins_pans_and_values_cannot_take_each_others_place(makes_all: Partner) -> None:
    change = makes_all.set_iso0()
    assert change.sealed_pin is not None
    sealed_record = makes_all.issuer.seal_record(card=makes_all.card)
    for wrong in (change.sealed_pin, sealed_record):
        with pytest.raises(SealBroken):
            opened(makes_all, {ValueKind.PVV: SealedValue(wrong)})


def test_the_size_of_a_sealed_value_tells_nothing(makes_all: Partner) -> None:
    sizes = {
        len(value)
        for digits in range(4, 13)
        for set_pin in SETTERS.values()
        for value in set_pin(makes_all, "407190283655"[:digits]).values.values()
    }
    assert len(sizes) == 1


def test_the_size_of_an_export_tells_nothing_of_the_pin(makes_all: Partner) -> None:
    given = (makes_all.sealed_record, makes_all.card, CHANGES + 1)
    sizes = {
        len(makes_all.issuer.vault.export_values(change.values, *given).value)
        for digits in range(4, 13)
        for change in (makes_all.set_iso0("407190283655"[:digits]),)
    }
    assert len(sizes) == 1


def test_the_same_value_is_sealed_differently_each_time(partner: Partner) -> None:
    asking = partner.asking(**PVV, **OFFSET)
    one, other = asking.set_iso0(), asking.set_iso0()
    assert asking.exported(one) == asking.exported(other)
    for kind in (ValueKind.PVV, ValueKind.OFFSET_3624):
        assert one.values[kind] != other.values[kind]


def test_a_sealed_value_does_not_show_what_is_in_it(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    content = opened(makes_all, values)
    for kind, sealed in values.items():
        for text in map(str, content[kind].values()):
            assert len(text) < 4 or text.encode() not in bytes(sealed)


# The authorisation host


def test_values_leave_for_the_host_that_the_manifest_names_and_no_other(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    with pytest.raises(ManifestRefused, match="no authorisation host"):
        opened(makes_all.with_members(verification_host=None), values)
    assert opened(makes_all, values)


def test_values_do_not_leave_for_the_key_that_pins_leave_for(
    makes_all: Partner, values: Mapping[ValueKind, SealedValue]
) -> None:
    issuer, given = makes_all.issuer, (makes_all.sealed_record, makes_all.card, CHANGES + 1)
    jwe = issuer.vault.export_values(values, *given).value
    with pytest.raises(ValueError, match="for another key"):
        decrypt(jwe, issuer.d1_key)


# What is refused before it is signed

NO_TABLE: Final = "(16 digits, at least 8 of them different)"


@pytest.mark.parametrize("device", ["software token"], indirect=True)
@pytest.mark.parametrize(
    ("member", "body", "path"),
    [
        ("seccos", {"pin_block": {"session_key": "emv_csk_arqc"}}, "pin_block.session_key"),
        ("seccos", {"mac": {"session_key": "visa_xor"}}, "mac.session_key"),
        ("seccos", {"verify": "opaque"}, "verify"),
        ("seccos", {"pin_block": {"selfenc": "replace"}}, "verify"),
        ("seccos", {"prw": {"template": ["4111111111111111"]}}, "prw.template.0"),
        ("verification", {"offset_3624": {"table": "0" * 16}}, f"offset_3624.table {NO_TABLE}"),
        ("verification", {"offset_3624": {"table": TABLE[:15]}}, f"offset_3624.table {NO_TABLE}"),
        ("verification", {"pvv": {"key_index": 7}}, "pvv.key_index"),
        ("verification", {"pvv": {"key_index": True}}, "pvv.key_index"),
        ("verification", {"cvv": {"key_index": 1}}, "cvv"),
        ("verification_host", {"jwk": "4111111111111111"}, "jwk"),
    ],
    ids=str,
)
def test_a_body_that_could_not_work_is_refused_by_the_path_of_its_member(
    partner: Partner, member: str, body: Body, path: str
) -> None:
    with pytest.raises(ManifestRefused) as refusal:
        partner.with_members(**{member: body})
    assert str(refusal.value) == f"refused members: {member}.{path}"
    assert refusal.value.__suppress_context__


# The verbs

VERBS: Final = {
    "seal_cards",
    "keeps_pin",
    "set_pin_from_jwe",
    "forget_failures",
    "set_pin_from_page",
    "verify_bearer",
    "grant_bearer",
    "grant_server",
    "render_image",
    "digits_jwe",
    "export_jwe",
    "export_values",
    "generate_pin",
    "export_mailers",
    "build_script",
    "reverse_pin",
    "load_manifest",
    "load_minimum_versions",
    "key_uses",
    "metrics",
    "manifest_version",
    "read_manifest",
    "issue_token",
    "token_issuer",
    "public_jwks",
    "health",
    "export_server_block",
    "set_pin_from_server",
    "export_device_block",
    "make_device_key",
    "set_pin_from_device",
    "load_generations",
    "read_generations",
    "reseal",
}


def verbs_of(type_: type) -> set[str]:
    return {name for name in vars(type_) if not name.startswith("_")}


def test_the_vault_has_the_verbs_of_the_design_and_no_other() -> None:
    assert verbs_of(PinVault) == verbs_of(Vault)
    assert verbs_of(PinVault) <= VERBS


@pytest.mark.parametrize("verb", sorted(verbs_of(PinVault)))
def test_no_verb_answers_whether_a_pin_is_right(verb: str) -> None:
    hints = get_type_hints(getattr(PinVault, verb), localns={"Manifest": Manifest})
    # What that one compares are two records of a card; no PIN is opened for it.
    assert (hints["return"] is bool) == (verb == "keeps_pin")
    # What that one verifies is an access token of an identity provider.
    words = {*verb.split("_")} if verb != "verify_bearer" else set()
    assert not {"verify", "check", "compare", "match", "translate"} & words
