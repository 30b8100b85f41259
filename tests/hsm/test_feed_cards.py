"""Cards as feeds describe them: what is read, and how what is refused is named."""

from collections.abc import Mapping
from itertools import product

import pytest

from hsm.errors import CardRefused
from hsm.feed_cards import OTHER_MEMBERS, RECORD_MEMBERS, read_card
from hsm.port import CardRef
from tests.pans import PAN

CARD: Mapping[str, object] = {"cardId": "card-1", "pan": PAN, "expiry": "1230"}
FULL: Mapping[str, object] = {
    **CARD,
    "psn": 99,
    "state": "active",
    "encryptedPinBlock": "f.g.h.i.j",
    "type": "ISO_0",
    "pinStatus": "W",
    "cardholder": "auth0|5f7c8ec7",
    "cardType": "METAL",
    "plasticId": "9" * 38,
    "personalised": False,
}
KNOWN = ", ".join((*RECORD_MEMBERS, *OTHER_MEMBERS))
HOLDS_PAN = "a member beside pan contains the PAN"


def refusal(**members: object) -> str:
    with pytest.raises(CardRefused) as refused:
        read_card("testbank01", {**FULL, **members})
    assert PAN not in str(refused.value)
    return str(refused.value)


def test_a_card_may_have_every_member() -> None:
    read = read_card("testbank01", FULL)
    assert read.card == CardRef("testbank01", "card-1")
    record = read.record
    assert (record.pan.reveal(), record.psn, record.expiry) == (PAN, 99, "1230")
    assert (record.plastic_id, record.cardholder_id) == ("9" * 38, "auth0|5f7c8ec7")
    assert read.others == {name: FULL[name] for name in OTHER_MEMBERS}


def test_a_card_has_a_few_members_at_least() -> None:
    for absent in ({}, dict.fromkeys(FULL.keys() - CARD.keys())):
        read = read_card("testbank01", {**absent, **CARD})
        record = read.record
        assert (record.psn, record.plastic_id, record.cardholder_id) == (0, None, None)
        assert read.others == {}


@pytest.mark.parametrize(
    ("written", "read"), [("007", "7"), ("00", "0"), (4711, "4711"), (10**37, "1" + "0" * 37)]
)
def test_a_plastic_id_is_a_number_however_it_is_written(written: object, read: str) -> None:
    members = {**CARD, "plasticId": written}
    assert read_card("testbank01", members).record.plastic_id == read


OF_ANOTHER_KIND: tuple[object, ...] = (-1, 1.5, True, [], {})
NO_SUCH_TEXT = ("", "12\uff130", "x" * 256, "\0", "a\nb")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(RECORD_MEMBERS, OF_ANOTHER_KIND),
        *product(RECORD_MEMBERS, NO_SUCH_TEXT),
        *product(["pan"], ["4000006", "4111 1111 1111 1111", "4" * 20, int(PAN), "４" * 16]),  # noqa: RUF001
        *product(["psn"], [100, "1"]),
        *product(["expiry"], ["0030", "1330", "130", "01302", " 0130", "0130\n", "0x30", 1230]),
        *product(["plasticId"], ["9" * 39, "-1", "1 ", "٣"]),
        *product(["cardId"], ["c" * 49, "card 1", "card.1"]),
    ],
)
def test_a_bad_member_is_named_with_what_it_holds_and_never_shown(name: str, value: object) -> None:
    assert refusal(**{name: value}) == f"refused member: {name} ({RECORD_MEMBERS[name]})"


@pytest.mark.parametrize(("name", "value"), [*product(OTHER_MEMBERS, (1, 1.5, [], {}))])
def test_a_member_that_is_passed_on_is_text_or_a_truth(name: str, value: object) -> None:
    assert refusal(**{name: value}) == f"refused member: {name}"


@pytest.mark.parametrize("name", ["cardId", "pan", "expiry"])
def test_a_member_that_is_missing_is_named_with_what_it_holds(name: str) -> None:
    for missing in ({key: FULL[key] for key in FULL if key != name}, {**FULL, name: None}):
        with pytest.raises(CardRefused) as refused:
            read_card("testbank01", missing)
        assert str(refused.value) == f"missing member: {name} ({RECORD_MEMBERS[name]})"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("expiryDate", ": expiryDate "),
        ("panJwe", ": panJwe "),
        ("Expiry", ": Expiry "),
        ("card_id", ": card_id "),
        # What may be a value is not shown.
        ("4111111111111111", " "),
        ("pin73918264", " "),
        ("a b", " "),
        ("", " "),
        ("\x1b[2J", " "),
        ("x" * 41, " "),
    ],
)
def test_a_member_that_is_unknown_is_named_unless_it_may_be_a_value(name: str, shown: str) -> None:
    assert refusal(**{name: PAN}) == f"unknown member{shown}(known are {KNOWN})"


@pytest.mark.parametrize("members", [None, [], "card", 7], ids=repr)
def test_a_card_is_an_object(members: object) -> None:
    with pytest.raises(CardRefused, match=r"^not a JSON object$"):
        read_card("testbank01", members)


@pytest.mark.parametrize("pan", ["4111111111111112", "1411111111111111", "40000003"])
def test_a_pan_whose_check_digit_is_wrong_is_refused(pan: str) -> None:
    assert refusal(pan=pan) == "the PAN's check digit is wrong"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(["cardId", "cardholder", *OTHER_MEMBERS], [PAN, f"card-{PAN}", f"9{PAN}9"]),
        ("plasticId", PAN),
        ("plasticId", f"77{PAN}"),
        ("plasticId", int(PAN)),
        ("cardId", f"c-{PAN[:4]}-{PAN[4:10]}_{PAN[10:]}"),
        ("cardholder", f"auth0|{PAN[:8]} {PAN[8:]}"),
        ("type", "４" + PAN[1:]),  # noqa: RUF001 - a digit that is not ASCII
    ],
)
def test_no_other_member_holds_the_pan(name: str, value: object) -> None:
    assert refusal(**{name: value}) == HOLDS_PAN
    assert read_card("testbank01", {**FULL, "plasticId": PAN[1:]})
