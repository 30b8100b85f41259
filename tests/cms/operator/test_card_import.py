"""Lines of a bulk import, without a database."""

import json
from collections.abc import Mapping
from itertools import product
from unittest.mock import MagicMock, create_autospec

import pytest

from cms.domain.cards import CardState, CardType
from cms.operator import card_import
from cms.operator.card_import import MEMBERS, CardImport, LineResult, NewCard, RowRefused, read_line
from hsm.errors import VaultUnavailable
from hsm.manifest.wire import WireProfile
from hsm.port import CardRef, SealedCard, SealedRecord
from hsm.vault import Vault

ROW: Mapping[str, object] = {"cardId": "card-1", "panJwe": "a.b.c.d.e", "expiry": "1230"}
FULL: Mapping[str, object] = {
    **ROW,
    "psn": 99,
    "state": "active",
    "encryptedPinBlock": "f.g.h.i.j",
    "type": "ISO_0",
    "cardholder": "auth0|5f7c8ec7",
    "cardType": "METAL",
    "plasticId": "9" * 38,
    "personalised": False,
}


def line(members: Mapping[str, object], **other: object) -> bytes:
    return json.dumps({**members, **other}).encode()


def test_a_line_with_the_members_that_must_be_there_is_an_inactive_card_without_a_pin() -> None:
    assert read_line("testbank01", line(ROW)) == NewCard(
        card=CardRef("testbank01", "card-1"),
        pan_jwe="a.b.c.d.e",
        psn=0,
        expiry="1230",
        state=CardState.INACTIVE,
        pin_jwe=None,
        pin_literal=None,
        cardholder_id=None,
        card_type=CardType.PHYSICAL,
        plastic_id=None,
        personalised=False,
    )


def test_a_line_may_have_every_member() -> None:
    assert read_line("testbank01", line(FULL) + b"\r\n") == NewCard(
        card=CardRef("testbank01", "card-1"),
        pan_jwe="a.b.c.d.e",
        psn=99,
        expiry="1230",
        state=CardState.ACTIVE,
        pin_jwe="f.g.h.i.j",
        pin_literal="ISO_0",
        cardholder_id="auth0|5f7c8ec7",
        card_type=CardType.METAL,
        plastic_id="9" * 38,
        personalised=False,
    )


@pytest.mark.parametrize(
    ("members", "personalised"),
    [
        ({}, False),
        ({"state": "inactive"}, False),
        ({"state": "active"}, True),
        ({"state": "active", "personalised": False}, False),
        ({"state": "inactive", "personalised": True}, True),
        ({"state": "active", "personalised": None}, True),
    ],
)
def test_a_card_in_service_is_personalised_unless_the_line_says_otherwise(
    members: Mapping[str, object], personalised: bool
) -> None:
    assert read_line("testbank01", line(ROW, **members)).personalised is personalised


@pytest.mark.parametrize(
    ("written", "stored"), [("007", "7"), ("00", "0"), (4711, "4711"), (10**37, "1" + "0" * 37)]
)
def test_a_plastic_id_is_a_number_however_it_is_written(written: object, stored: str) -> None:
    assert read_line("testbank01", line(ROW, plasticId=written)).plastic_id == stored


#: What only the vault and the wire profile can judge is any text to the reader.
TEXTS = {"panJwe", "encryptedPinBlock", "type", "cardholder"}
OF_ANOTHER_KIND: tuple[object, ...] = (-1, 1.5, True, [], {})
NO_SUCH_TEXT = ("", "12\uff130", "x" * 49, "\0")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(each for each in product(FULL, OF_ANOTHER_KIND) if each != ("personalised", True)),
        *product(sorted(FULL.keys() - TEXTS), NO_SUCH_TEXT),
        *product(["plasticId"], ["9" * 39, "-1", "1 ", "٣"]),
    ],
)
def test_a_bad_member_is_named_and_never_shown(name: str, value: object) -> None:
    with pytest.raises(RowRefused) as refused:
        read_line("testbank01", line(FULL, **{name: value}))
    assert str(refused.value) == f"refused member: {name} ({MEMBERS[name]})"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("cardId", "1 to 48 letters"), ("panJwe", "a compact JWE"), ("expiry", "MMYY")],
)
def test_a_member_that_is_missing_is_named_with_what_it_holds(name: str, wanted: str) -> None:
    members = {key: value for key, value in ROW.items() if key != name}
    for missing in (members, {**members, name: None}):
        with pytest.raises(RowRefused, match=rf"^missing member: {name} \({wanted}"):
            read_line("testbank01", line(missing))


def test_a_type_without_the_pin_block_that_it_is_of_is_refused() -> None:
    with pytest.raises(RowRefused, match=r"^missing member: encryptedPinBlock \("):
        read_line("testbank01", line(ROW, type="ISO0"))
    # A column that is empty says that there is no PIN.
    without = read_line("testbank01", line(ROW, type="ISO0", encryptedPinBlock=None))
    assert without.pin_jwe is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("expiryDate", ": expiryDate "),
        ("pan", ": pan "),
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
    with pytest.raises(RowRefused) as refused:
        read_line("testbank01", line(FULL, **{name: "4111111111111111"}))
    assert str(refused.value) == f"unknown member{shown}(known are {', '.join(MEMBERS)})"


def test_every_member_of_a_row_is_known() -> None:
    assert MEMBERS.keys() == FULL.keys()


@pytest.mark.parametrize("expiry", ["0030", "1330", "130", "01302", " 0130", "0130\n", "0x30"])
def test_an_expiry_is_month_and_year(expiry: str) -> None:
    with pytest.raises(RowRefused, match=r"^refused member: expiry \(MMYY\)$"):
        read_line("testbank01", line(ROW, expiry=expiry))


@pytest.mark.parametrize("cardholder", ["", "x" * 256, "\0", "a\nb"])
def test_a_cardholder_is_1_to_255_characters_of_ascii_that_print(cardholder: str) -> None:
    assert read_line("testbank01", line(ROW, cardholder="e" * 255)).cardholder_id == "e" * 255
    with pytest.raises(RowRefused, match=r"^refused member: cardholder \("):
        read_line("testbank01", line(ROW, cardholder=cardholder))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"null", b"[]", b"\xff", b'{"cardId": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000],
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(RowRefused, match=r"^not a JSON object$"):
        read_line("testbank01", text)


def test_a_line_of_64_kib_is_read_and_a_longer_one_is_not() -> None:
    room = 64 * 1024 - len(line(ROW, panJwe=""))
    assert read_line("testbank01", line(ROW, panJwe="x" * room))
    with pytest.raises(RowRefused, match=r"^not a JSON object$"):
        read_line("testbank01", line(ROW, panJwe="x" * (room + 1)))


@pytest.fixture
def vault() -> MagicMock:
    vault: MagicMock = create_autospec(Vault, instance=True)
    vault.seal_record.return_value = SealedCard(SealedRecord(b"sealed"), "1111")
    return vault


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the cards that reach the database, and each commit on the way."""
    stored: list[str] = []

    def add(database: MagicMock, card: CardRef, **columns: object) -> None:
        stored.append(card.card_id)

    monkeypatch.setattr(card_import, "add_card", add)
    return stored


def importing(vault: MagicMock, stored: list[str]) -> CardImport:
    database = MagicMock()
    database.commit.side_effect = lambda: stored.append("commit")
    return CardImport(database, vault, WireProfile())


def test_every_200th_line_and_the_end_commit(vault: MagicMock, stored: list[str]) -> None:
    lines = [line(ROW, cardId=f"card-{number}") for number in range(1, 402)]
    results = list(importing(vault, stored).run("testbank01", lines))
    assert results == [LineResult(number, None) for number in range(1, 402)]
    assert [place for place, name in enumerate(stored) if name == "commit"] == [200, 401, 403]


def test_a_line_is_counted_where_an_editor_counts_it(vault: MagicMock, stored: list[str]) -> None:
    lines = [b"\n", line(ROW) + b"\n", b"  \n", b"junk\n", line(ROW)]
    assert list(importing(vault, stored).run("testbank01", lines)) == [
        LineResult(2, None),
        LineResult(4, "not a JSON object"),
        LineResult(5, None),
    ]


def test_a_byte_order_mark_may_begin_the_file_and_nothing_else(
    vault: MagicMock, stored: list[str]
) -> None:
    mark = b"\xef\xbb\xbf"
    for first in (mark + line(ROW), mark + b"\n"):
        *_, last = importing(vault, stored).run("testbank01", [first, mark + line(ROW)])
        assert last == LineResult(2, "not a JSON object")
    assert list(importing(vault, stored).run("testbank01", [mark + line(ROW)])) == [
        LineResult(1, None)
    ]


def test_a_token_that_is_unavailable_ends_the_import(vault: MagicMock, stored: list[str]) -> None:
    vault.seal_record.side_effect = VaultUnavailable
    with pytest.raises(VaultUnavailable):
        list(importing(vault, stored).run("testbank01", [line(ROW), line(ROW)]))
    assert stored == []
