"""``python -m cms cards import``: lines of JSON become cards, or are named."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cms.operator import card_import, cards
from cms.services.manifests import ManifestFerry
from hsm.errors import VaultUnavailable
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import NEW_PAN, PIN, Answer, Operator, run_module
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import SampleIssuer, open_issuer, run_sql
from tests.operators import manifest, signed

PAN_IN_NAME = "the card id, the plastic id or the cardholder contains the PAN"


UNKNOWN_TYPE = "line 1: unknown type of PIN block\n"


@pytest.fixture
def load(operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path) -> Callable[..., Answer]:
    """Import rows: what is not text becomes a line of JSON."""

    def load(*rows: object) -> Answer:
        file = tmp_path / "cards.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file.write_text("".join(line + "\n" for line in lines))
        return operator("cards", "import", sample_issuer.issuer_id, file)

    return load


def row(
    sample_issuer: SampleIssuer, card_id: str = "new-1", pan: str = NEW_PAN, **members: object
) -> object:
    """Return a good row, with these members in place of its own."""
    return {"cardId": card_id, "panJwe": sample_issuer.pan_jwe(pan), "expiry": "0131"} | members


def test_cards_are_taken_in_from_json_lines(
    load: Callable[..., Answer], operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    answer = load(
        row(
            sample_issuer,
            "new-1",
            state="active",
            psn=99,
            cardholder="x",
            cardType="VIRTUAL",
        ),
        "",
        row(sample_issuer, "new-2", plasticId="77", personalised=True),
    )
    assert answer == Answer(0, "2 cards stored, 0 lines refused\n", "")
    assert run_sql(
        database_url,
        "SELECT card_id, state, psn, last_four, expiry, sealed_pin, counter,"
        " cardholder_id, card_type, plastic_id, personalised"
        " FROM cards WHERE card_id LIKE 'new%%' ORDER BY 1",
    ) == [
        ("new-1", "active", 99, "1117", "0131", None, 0, "x", "VIRTUAL", None, True),
        ("new-2", "inactive", 0, "1117", "0131", None, 0, None, "PHYSICAL", "77", True),
    ]


def test_postgres_is_told_that_cards_came(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str
) -> None:
    assert load(row(sample_issuer)).code == 0
    ((count,),) = run_sql(database_url, "SELECT count(*) FROM cards")
    ((counted,),) = run_sql(database_url, "SELECT reltuples FROM pg_class WHERE relname = 'cards'")
    assert counted == count


NO_PAN = "panJwe does not hold a PAN encrypted to the intake key"
CARD_ID = "refused member: cardId (1 to 48 letters, digits, '-' and '_')"
STATE = "refused member: state (inactive, active, blocked, closed)"
BAD_ROWS: Mapping[str, tuple[Callable[[SampleIssuer], object], str]] = {
    "Luhn": (lambda b: row(b, pan="6011111111111118"), "the PAN's check digit is wrong"),
    "PAN short": (lambda b: row(b, pan="1234567"), NO_PAN),
    "PAN in card id": (
        lambda b: row(b, f"c-{NEW_PAN}"),
        PAN_IN_NAME,
    ),
    "PAN in plastic id": (lambda b: row(b, plasticId=NEW_PAN), PAN_IN_NAME),
    "PAN with separators in card id": (
        lambda b: row(b, f"c-{NEW_PAN[:4]}-{NEW_PAN[4:10]}_{NEW_PAN[10:]}"),
        PAN_IN_NAME,
    ),
    "PAN in cardholder": (
        lambda b: row(b, cardholder=f"auth0|{NEW_PAN[:8]} {NEW_PAN[8:]}"),
        PAN_IN_NAME,
    ),
    "plastic id that is no number": (
        lambda b: row(b, plasticId="x1"),
        "refused member: plasticId (a number of up to 38 digits)",
    ),
    "personalised as text": (
        lambda b: row(b, personalised="true"),
        "refused member: personalised (true or false)",
    ),
    "duplicate": (lambda b: row(b, "card-1"), "duplicate card"),
    "card id with a blank": (lambda b: row(b, "card 1"), CARD_ID),
    "card id missing": (
        lambda _: {"expiry": "0131"},
        "missing member: cardId (1 to 48 letters, digits, '-' and '_')",
    ),
    "card id a number": (lambda b: row(b, cardId=7), CARD_ID),
    "card id long": (lambda b: row(b, "c" * 49), CARD_ID),
    "JWE missing": (lambda b: row(b, panJwe=None), "missing member: panJwe (a compact JWE)"),
    "JWE junk": (lambda b: row(b, panJwe="a.b.c.d.e"), NO_PAN),
    "clear PAN": (lambda b: row(b, panJwe=NEW_PAN), NO_PAN),
    "PAN to D1's key": (lambda b: row(b, panJwe=b.pin_jwe(PIN, "new-1")), NO_PAN),
    "expiry month": (lambda b: row(b, expiry="1331"), "refused member: expiry (MMYY)"),
    "expiry digits": (lambda b: row(b, expiry="01/31"), "refused member: expiry (MMYY)"),
    "expiry number": (lambda b: row(b, expiry=131), "refused member: expiry (MMYY)"),
    "PSN": (lambda b: row(b, psn=100), "refused member: psn (a number from 0 to 99)"),
    "PSN below 0": (lambda b: row(b, psn=-1), "refused member: psn (a number from 0 to 99)"),
    "PSN as text": (lambda b: row(b, psn="1"), "refused member: psn (a number from 0 to 99)"),
    "PSN true": (lambda b: row(b, psn=True), "refused member: psn (a number from 0 to 99)"),
    "state unknown": (lambda b: row(b, state="new"), STATE),
    "state null": (lambda b: row(b, state=None), STATE),
    "not JSON": (lambda _: "{", "not a JSON object"),
    "JSON text": (lambda _: '"card"', "not a JSON object"),
    "JSON list": (lambda _: "[]", "not a JSON object"),
    "member twice": (lambda _: '{"cardId": "a", "cardId": "b"}', "not a JSON object"),
    "brackets": (lambda _: "[" * 60_000, "not a JSON object"),
    "long line": (lambda b: row(b, panJwe="x" * 65_536), "not a JSON object"),
    "unknown member": (
        lambda b: row(b, expiryDate="0131"),
        f"unknown member: expiryDate (known are {', '.join(card_import.MEMBERS)})",
    ),
    "PAN as a member": (
        lambda b: row(b, **{NEW_PAN: ""}),
        f"unknown member (known are {', '.join(card_import.MEMBERS)})",
    ),
    "weak PIN": (
        lambda b: row(b, encryptedPinBlock=b.pin_jwe("1234", "new-1")),
        "the PIN policy forbids this PIN",
    ),
    "PIN of another PAN": (
        lambda b: row(b, encryptedPinBlock=b.pin_jwe(PIN, "card-2")),
        "encryptedPinBlock cannot be used",
    ),
    "PIN junk": (
        lambda b: row(b, encryptedPinBlock="junk"),
        "encryptedPinBlock cannot be used",
    ),
    "PIN a number": (
        lambda b: row(b, encryptedPinBlock=1),
        "refused member: encryptedPinBlock (a compact JWE)",
    ),
    "PIN of an unknown type": (
        lambda b: row(b, encryptedPinBlock=b.pin_jwe(PIN, "new-1"), type="ISO9"),
        "unknown type of PIN block",
    ),
    "SECCOS PIN": (
        lambda b: row(b, encryptedPinBlock=b.pin_jwe(PIN, "new-1"), type="3DES_SECCOS"),
        "this type of PIN block is not offered",
    ),
}


def test_each_bad_row_is_named_stores_nothing_and_stops_no_other(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str
) -> None:
    before = cards_and_audit(database_url)
    rows, complaints = ["", row(sample_issuer, "first")], []
    for bad, reason in BAD_ROWS.values():
        rows += [bad(sample_issuer)]
        complaints += [f"line {len(rows)}: {reason}\n"]
    answer = load(*rows, row(sample_issuer, "last"))
    assert answer.err.splitlines(keepends=True) == complaints
    assert (answer.code, answer.out) == (2, f"2 cards stored, {len(BAD_ROWS)} lines refused\n")
    cards, events = cards_and_audit(database_url)
    assert set(cards) - set(before[0]) == {("testbank01", "first", 0), ("testbank01", "last", 0)}
    assert set(events) - set(before[1]) == {("card.added", "first"), ("card.added", "last")}


def cards_and_audit(url: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    return (
        run_sql(url, "SELECT issuer_id, card_id, counter FROM cards"),
        run_sql(url, "SELECT event, card_id FROM audit_events"),
    )


@pytest.mark.anyio
async def test_a_card_comes_with_its_pin(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str, vault: Vault
) -> None:
    jwe = sample_issuer.pin_jwe(PIN, "new-1")
    answer = load(row(sample_issuer, state="active", encryptedPinBlock=jwe, type="iso_0"))
    assert answer.code == 0
    assert run_sql(
        database_url, "SELECT event, counter FROM audit_events WHERE card_id = 'new-1'"
    ) == [("card.added", None), ("pin.loaded", 0)]
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        assert await pin_service.counter("new-1") == 0
        assert await pin_service.pin("new-1") == PIN
        await pin_service.put(sample_issuer.pin_jwe("40719382", "new-1"), "new-1")
        assert await pin_service.counter("new-1") == 1
        assert await pin_service.pin("new-1") == "40719382"


def test_a_pin_needs_the_issuers_manifest(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    operator.must("issuers", "add", "testbank02", "--name", "No manifest yet")
    file = tmp_path / "cards.jsonl"
    rows = [
        row(sample_issuer, "new-1", encryptedPinBlock=sample_issuer.pin_jwe(PIN, "new-1")),
        row(sample_issuer, "new-2"),
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = operator("cards", "import", "testbank02", file)
    assert answer == Answer(
        2,
        "1 cards stored, 1 lines refused\n",
        "line 1: a PIN needs a manifest of the issuer that is in force on this host\n",
    )


def test_an_import_for_an_unknown_issuer_is_refused(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "cards.jsonl"
    file.write_text("{}\n")
    assert operator.refused("cards", "import", "testbank02", file) == "no such issuer"


def test_a_file_that_is_not_there_is_named(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "cards.jsonl"
    refusal = operator.refused("cards", "import", sample_issuer.issuer_id, file)
    assert refusal == f"{file}: No such file or directory"


def test_a_file_that_is_imported_again_reports_duplicates_and_changes_nothing(
    load: Callable[..., Answer], sample_issuer: SampleIssuer, database_url: str
) -> None:
    rows = [row(sample_issuer, f"new-{number}") for number in (1, 2)]
    assert load(*rows).code == 0
    before = cards_and_audit(database_url)
    assert load(*rows) == Answer(
        2,
        "0 cards stored, 2 lines refused\n",
        "line 1: duplicate card\nline 2: duplicate card\n",
    )
    assert cards_and_audit(database_url) == before


def test_a_long_import_shows_its_progress_and_commits_on_the_way(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cards, "PROGRESS_EVERY_ROWS", 2)
    monkeypatch.setattr(card_import, "COMMIT_EVERY_ROWS", 3)
    answer = load(*(row(sample_issuer, f"new-{number}") for number in range(7)))
    assert answer == Answer(0, "7 cards stored, 0 lines refused\n", "2 lines\r4 lines\r6 lines\r")
    assert len(cards_and_audit(database_url)[0]) == 4 + 7


def test_a_pin_without_a_type_has_the_first_of_the_issuers_own_literals(
    operator: Operator, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    named = open_issuer(database_url, vault, "namedbank1", wire={"put_pin": {"iso0": ["Block 0"]}})
    named.pans["new-1"] = NEW_PAN
    pin = named.pin_jwe(PIN, "new-1")
    holder = "h" * 255
    file = tmp_path / "cards.jsonl"
    for given, answer in (
        ({"type": ""}, Answer(2, "0 cards stored, 1 lines refused\n", UNKNOWN_TYPE)),
        ({"type": "ISO0"}, Answer(2, "0 cards stored, 1 lines refused\n", UNKNOWN_TYPE)),
        ({}, Answer(0, "1 cards stored, 0 lines refused\n", "")),
    ):
        members = {"encryptedPinBlock": pin, "cardholder": holder, **given}
        file.write_text(json.dumps(row(named, **members)) + "\n")
        assert operator("cards", "import", named.issuer_id, file) == answer
    assert run_sql(
        database_url,
        "SELECT cardholder_id, pin_type FROM cards WHERE issuer_id = 'namedbank1'"
        " AND card_id = 'new-1'",
    ) == [(holder, "ISO0")]


def test_an_import_that_breaks_off_keeps_what_it_committed_and_can_be_repeated(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(card_import, "COMMIT_EVERY_ROWS", 2)
    rows = [row(sample_issuer, f"new-{number}") for number in range(5)]
    monkeypatch.setattr("hsm.local.open_vault", lambda: OutOfBreath(vault, verbs=4))
    assert load(*rows) == Answer(2, "", "the token is away\n")
    assert len(cards_and_audit(database_url)[0]) == 4 + 2
    monkeypatch.setattr("hsm.local.open_vault", lambda: vault)
    assert load(*rows).out == "3 cards stored, 2 lines refused\n"


class OutOfBreath:
    """A vault that is unavailable after a number of verbs."""

    def __init__(self, vault: Vault, *, verbs: int) -> None:
        self._vault = vault
        self._left = verbs

    def __getattr__(self, verb: str) -> object:
        self._left -= 1
        if self._left < 0:
            raise VaultUnavailable("the token is away")
        return getattr(self._vault, verb)


@pytest.mark.anyio
async def test_loading_a_manifest_and_importing_cards_are_commands(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    file, lines = tmp_path / "manifest", tmp_path / "lines"
    body = vault.read_manifest(sample_issuer.issuer_id).model_dump(mode="json")
    issuer_id, version = body.pop("issuer_id"), body.pop("version") + 1
    body["policy"] = {"length_min": 6}
    file.write_text(signed(manifest(issuer_id, version, **body)))
    assert run_module("cms", "manifest", "load", file) == Answer(0, "", "")
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        await ManifestFerry(pin_service.store, pin_service.worker_thread, "here").carry()
    rows = [
        row(sample_issuer, state="active", encryptedPinBlock=sample_issuer.pin_jwe(PIN, "new-1")),
        row(sample_issuer, "new-2", encryptedPinBlock=sample_issuer.pin_jwe("40719", "new-1")),
    ]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_module("cms", "cards", "import", sample_issuer.issuer_id, lines) == Answer(
        2, "1 cards stored, 1 lines refused\n", "line 2: the PIN policy forbids this PIN\n"
    )
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        assert await pin_service.pin("new-1") == PIN
