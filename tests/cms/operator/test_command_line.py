"""``python -m cms issuers|cards|clients|config|audit``: what an operator types and gets back.

Most commands run inside this process, over its token; those of the last part are real ones.
"""

import argparse
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cms.__main__ import main
from cms.domain.cards import NEXT_STATES, CardState
from cms.domain.errors import ServiceUnavailable
from cms.operator import card_import, cli, commands
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.services.credentials import HASHER
from hsm import demo_env
from hsm.config.json_file import to_json
from hsm.errors import VaultUnavailable
from hsm.port import ConfigKind, SealedConfig
from hsm.vault import Vault
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import PANS, SampleIssuer, certificate, config, open_issuer, run_sql

ROOT = Path(__file__).parents[3]
#: Eight digits, so that nothing else reads like it.
PIN = "73918264"
NEW_PAN = "6011111111111117"


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@dataclass
class Operator:
    """Somebody at the command line; what they saw is kept."""

    capture: pytest.CaptureFixture[str]
    seen: list[str] = field(default_factory=list)

    def __call__(self, *words: object) -> Answer:
        self.capture.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as usage:
            code = int(str(usage.code))
        answer = Answer(code, *self.capture.readouterr())
        self.seen += [answer.out, answer.err]
        return answer

    def must(self, *words: object) -> str:
        """Run a command that succeeds and says nothing on standard error."""
        answer = self(*words)
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    def refused(self, *words: object) -> str:
        """Run a command that is refused with one line, and return the line."""
        answer = self(*words)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.count("\n") == 1
        return answer.err.strip()


@pytest.fixture
def operator(
    database_url: str,
    vault: Vault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Operator]:
    """Somebody who was never shown a PAN or a PIN when the test is over."""
    file = tmp_path / "database-url"
    file.write_text(database_url + "\n")
    monkeypatch.setenv("CMS_DATABASE_URL_FILE", str(file))
    monkeypatch.setattr(commands, "open_vault", lambda: vault)
    operator = Operator(capsys)
    yield operator
    seen = "".join(operator.seen)
    for secret in (*PANS, NEW_PAN, PIN, iso0_block(PIN, NEW_PAN)):
        assert secret not in seen
    assert "Traceback" not in seen


@pytest.fixture
def sample_issuer(database_url: str, vault: Vault) -> SampleIssuer:
    sample_issuer = open_issuer(database_url, vault)
    sample_issuer.pans["new-1"] = NEW_PAN
    return sample_issuer


# Issuers


def test_an_issuer_is_added_and_shown(operator: Operator) -> None:
    operator.must("issuers", "add", "newbank001", "--name", "New Bank")
    assert re.search(r"state +active", operator.must("issuers", "show", "newbank001"))
    assert "issuer_id=newbank001  name=New Bank  state=active" in operator.must("issuers", "list")
    assert "event=issuer.added" in operator.must("audit", "list", "newbank001")


def test_an_issuer_is_suspended_and_resumed(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    operator.must("issuers", "suspend", sample_issuer.issuer_id)
    assert re.search(r"state +suspended", operator.must("issuers", "show", sample_issuer.issuer_id))
    operator.must("issuers", "resume", sample_issuer.issuer_id)
    assert re.search(r"state +active", operator.must("issuers", "show", sample_issuer.issuer_id))
    seen = operator.must("audit", "list", sample_issuer.issuer_id)
    assert seen.index("issuer.suspended") < seen.index("issuer.active")


def test_an_issuer_is_added_once(operator: Operator, sample_issuer: SampleIssuer) -> None:
    adding = ("issuers", "add", sample_issuer.issuer_id, "--name", "x")
    assert operator.refused(*adding) == "duplicate issuer"
    assert "A test bank" in operator.must("issuers", "show", sample_issuer.issuer_id)


@pytest.mark.parametrize("issuer", ["", "newbank01", "newbank0001"])
def test_an_issuer_id_has_ten_characters(operator: Operator, issuer: str) -> None:
    refusal = operator.refused("issuers", "add", issuer, "--name", "x")
    assert refusal == "an issuer id has exactly 10 characters"
    assert operator.must("issuers", "list") == ""


def test_an_unknown_issuer_cannot_be_shown_or_changed(operator: Operator) -> None:
    for verb in ("show", "suspend", "resume"):
        assert operator.refused("issuers", verb, "newbank001") == "no such issuer"


# Cards


def test_a_card_moves_only_where_its_state_lets_it(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    for start in CardState:
        for goal in CardState:
            run_sql(database_url, "UPDATE cards SET state = %s WHERE card_id = 'card-1'", start)
            move = ("cards", "state", sample_issuer.issuer_id, "card-1", goal)
            if goal in NEXT_STATES[start]:
                operator.must(*move)
            else:
                assert operator.refused(*move) == f"a card that is {start} cannot become {goal}"
            end = goal if goal in NEXT_STATES[start] else start
            shown = operator.must("cards", "show", sample_issuer.issuer_id, "card-1")
            assert re.search(f"state +{end}\n", shown)
    moves = sorted(f"card.{goal}" for goals in NEXT_STATES.values() for goal in goals)
    assert moves == [
        event
        for (event,) in run_sql(
            database_url,
            "SELECT event FROM audit_events WHERE card_id = 'card-1' AND event <> 'card.added'"
            " ORDER BY event",
        )
    ]


@pytest.mark.parametrize(
    "card", [("testbank01", "card-9"), ("testbank02", "card-1"), ("testbank01", "no card")]
)
def test_a_card_that_is_not_there_cannot_be_shown_or_moved(
    operator: Operator, sample_issuer: SampleIssuer, card: tuple[str, str]
) -> None:
    assert operator.refused("cards", "show", *card) == "no such card"
    assert operator.refused("cards", "state", *card, "blocked") == "no such card"


def test_cards_are_listed_without_what_is_sealed(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    listed = operator.must("cards", "list", sample_issuer.issuer_id).splitlines()
    assert [line.split()[1] for line in listed] == [f"card_id=card-{n}" for n in range(1, 5)]
    assert "last_four=1111" in listed[0]
    for shown in (
        "\n".join(listed),
        operator.must("cards", "show", sample_issuer.issuer_id, "card-1"),
    ):
        assert "sealed" not in shown
    assert operator.must("cards", "list", "testbank02") == ""


def test_a_card_is_added_with_a_pan_from_a_file(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN) + "\n")
    adding = (
        "cards",
        "add",
        sample_issuer.issuer_id,
        "new-1",
        "--expiry",
        "0131",
        "--pan-jwe",
        file,
    )
    more = ("--state", "active", "--cardholder", "somebody", "--type", "METAL")
    operator.must(*adding, "--psn", "7", *more)
    shown = operator.must("cards", "show", sample_issuer.issuer_id, "new-1")
    for expected in (
        *("last_four +1117", "expiry +0131", "psn +7", "state +active"),
        *("cardholder_id +somebody", "card_type +METAL"),
    ):
        assert re.search(expected, shown)
    assert operator.refused(*adding) == "duplicate card"


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"issuer": "testbank02"}, "unknown issuer"),
        ({"issuer": "testbank"}, "refused member: cardId"),
        ({"card": "no card"}, "refused member: cardId"),
        ({"card": f"card-{NEW_PAN}"}, "the card id or the plastic id contains the PAN"),
        ({"expiry": "1330"}, "refused member: expiry"),
        ({"sequence": "100"}, "refused member: psn"),
        ({"pan": "6011111111111118"}, "the PAN's check digit is wrong"),
        ({"pan": "1234567"}, "panJwe does not hold a PAN encrypted to the intake key"),
    ],
)
def test_a_card_that_is_refused_is_not_stored(
    operator: Operator,
    sample_issuer: SampleIssuer,
    tmp_path: Path,
    given: Mapping[str, str],
    refusal: str,
) -> None:
    before = operator.must("cards", "list", sample_issuer.issuer_id)
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(given.get("pan", NEW_PAN)))
    answer = main_refused(
        operator,
        ("cards", "add", given.get("issuer", sample_issuer.issuer_id), given.get("card", "new-1")),
        ("--expiry", given.get("expiry", "0131"), "--pan-jwe", file),
        ("--psn", given.get("sequence", "0")),
    )
    assert answer == refusal
    assert operator.must("cards", "list", sample_issuer.issuer_id) == before


def main_refused(operator: Operator, *parts: tuple[object, ...]) -> str:
    return operator.refused(*(word for part in parts for word in part))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (None, False)),
        (("--plastic-id", "9" * 38), ("9" * 38, False)),
        (("--plastic-id", "0", "--personalised"), ("0", True)),
        (("--plastic-id", "007"), ("7", False)),
        (("--state", "active"), (None, True)),
        (("--state", "active", "--no-personalised"), (None, False)),
    ],
)
def test_a_card_may_have_a_plastic_id_and_be_personalised(
    operator: Operator,
    sample_issuer: SampleIssuer,
    database_url: str,
    tmp_path: Path,
    words: tuple[str, ...],
    expected: tuple[object, ...],
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN))
    card = (sample_issuer.issuer_id, "new-1")
    operator.must("cards", "add", *card, "--expiry", "0131", "--pan-jwe", file, *words)
    stored = run_sql(
        database_url, "SELECT plastic_id, personalised FROM cards WHERE card_id = 'new-1'"
    )
    assert stored == [expected]


@pytest.mark.parametrize(
    ("plastic_id", "refusal"),
    [
        ("9" * 39, "refused member: plasticId"),
        ("", "refused member: plasticId"),
        ("x", "refused member: plasticId"),
        (NEW_PAN, "the card id or the plastic id contains the PAN"),
        (f"77{NEW_PAN}", "the card id or the plastic id contains the PAN"),
    ],
)
def test_a_plastic_id_that_is_refused_stores_no_card(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path, plastic_id: str, refusal: str
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN))
    before = operator.must("cards", "list", sample_issuer.issuer_id)
    adding = (
        "cards",
        "add",
        sample_issuer.issuer_id,
        "new-1",
        "--expiry",
        "0131",
        "--pan-jwe",
        file,
    )
    assert operator.refused(*adding, "--plastic-id", plastic_id) == refusal
    assert operator.must("cards", "list", sample_issuer.issuer_id) == before


def test_a_plastic_id_is_one_cards_of_its_issuer(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "pan.jwe"
    file.write_text(sample_issuer.pan_jwe(NEW_PAN))
    options = ("--expiry", "0131", "--pan-jwe", file, "--plastic-id", "77")
    operator.must("cards", "add", sample_issuer.issuer_id, "new-1", *options)
    refusal = operator.refused("cards", "add", sample_issuer.issuer_id, "new-2", *options)
    assert refusal == "another card has this plastic id"


def test_a_card_is_noted_as_personalised(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    run_sql(database_url, "UPDATE cards SET personalised = false")
    card = (sample_issuer.issuer_id, "card-1")
    for _ in range(2):
        assert operator.must("cards", "personalised", *card) == ""
    personalised = run_sql(database_url, "SELECT card_id FROM cards WHERE personalised")
    assert personalised == [("card-1",)]
    assert operator.must("audit", "list", sample_issuer.issuer_id).count("card.personalised") == 2
    for unknown in ((sample_issuer.issuer_id, "none"), ("testbank02", "card-1")):
        assert operator.refused("cards", "personalised", *unknown) == "no such card"


def test_a_file_that_holds_no_jwe_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "pan.jwe"
    for content in (b"", b"junk", b"\xff\xfe\0", b"a" * 100_000, NEW_PAN.encode()):
        file.write_bytes(content)
        adding = (
            "cards",
            "add",
            sample_issuer.issuer_id,
            "new-1",
            "--expiry",
            "0131",
            "--pan-jwe",
            file,
        )
        assert operator.refused(*adding) == (
            "panJwe does not hold a PAN encrypted to the intake key"
        )


# Cards in bulk


Rows = list[object]


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
            sequenceNumber=99,
            cardholder="x",
            cardType="VIRTUAL",
        ),
        "",
        row(sample_issuer, "new-2", extra="ignored", plasticId="77", personalised=True),
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


BAD_ROWS: Mapping[str, tuple[Callable[[SampleIssuer], object], str]] = {
    "Luhn": (lambda b: row(b, pan="6011111111111118"), "the PAN's check digit is wrong"),
    "PAN short": (
        lambda b: row(b, pan="1234567"),
        "panJwe does not hold a PAN encrypted to the intake key",
    ),
    "PAN in card id": (
        lambda b: row(b, f"c-{NEW_PAN}"),
        "the card id or the plastic id contains the PAN",
    ),
    "PAN in plastic id": (
        lambda b: row(b, plasticId=NEW_PAN),
        "the card id or the plastic id contains the PAN",
    ),
    "plastic id that is no number": (lambda b: row(b, plasticId="x1"), "refused member: plasticId"),
    "produced as text": (lambda b: row(b, personalised="true"), "refused member: personalised"),
    "duplicate": (lambda b: row(b, "card-1"), "duplicate card"),
    "card id with a blank": (lambda b: row(b, "card 1"), "refused member: cardId"),
    "card id missing": (lambda _: {"expiry": "0131"}, "refused member: cardId"),
    "card id a number": (lambda b: row(b, cardId=7), "refused member: cardId"),
    "card id long": (lambda b: row(b, "c" * 49), "refused member: cardId"),
    "JWE missing": (lambda b: row(b, panJwe=None), "refused member: panJwe"),
    "JWE junk": (
        lambda b: row(b, panJwe="a.b.c.d.e"),
        "panJwe does not hold a PAN encrypted to the intake key",
    ),
    "clear PAN": (
        lambda b: row(b, panJwe=NEW_PAN),
        "panJwe does not hold a PAN encrypted to the intake key",
    ),
    "PAN to D1's key": (
        lambda b: row(b, panJwe=b.pin_jwe(PIN, "new-1")),
        "panJwe does not hold a PAN encrypted to the intake key",
    ),
    "expiry month": (lambda b: row(b, expiry="1331"), "refused member: expiry"),
    "expiry digits": (lambda b: row(b, expiry="01/31"), "refused member: expiry"),
    "expiry number": (lambda b: row(b, expiry=131), "refused member: expiry"),
    "sequence number": (lambda b: row(b, sequenceNumber=100), "refused member: psn"),
    "sequence below": (lambda b: row(b, sequenceNumber=-1), "refused member: psn"),
    "sequence text": (lambda b: row(b, sequenceNumber="1"), "refused member: psn"),
    "sequence true": (lambda b: row(b, sequenceNumber=True), "refused member: psn"),
    "state unknown": (lambda b: row(b, state="new"), "refused member: state"),
    "state null": (lambda b: row(b, state=None), "refused member: state"),
    "not JSON": (lambda _: "{", "not a JSON object"),
    "JSON text": (lambda _: '"card"', "not a JSON object"),
    "JSON list": (lambda _: "[]", "not a JSON object"),
    "member twice": (lambda _: '{"cardId": "a", "cardId": "b"}', "not a JSON object"),
    "brackets": (lambda _: "[" * 60_000, "not a JSON object"),
    "long line": (lambda b: row(b, note="x" * 65_536), "not a JSON object"),
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
    "PIN a number": (lambda b: row(b, encryptedPinBlock=1), "refused member: encryptedPinBlock"),
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


def test_a_pin_needs_the_issuers_configuration(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    operator.must("issuers", "add", "testbank02", "--name", "No configuration yet")
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
        "line 1: a PIN needs the issuer's configuration, sealed and valid now\n",
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
    monkeypatch.setattr(commands, "PROGRESS_EVERY_ROWS", 2)
    monkeypatch.setattr(card_import, "COMMIT_EVERY_ROWS", 3)
    answer = load(*(row(sample_issuer, f"new-{number}") for number in range(7)))
    assert answer == Answer(0, "7 cards stored, 0 lines refused\n", "2 lines\r4 lines\r6 lines\r")
    assert len(cards_and_audit(database_url)[0]) == 4 + 7


def test_an_import_that_breaks_off_keeps_what_it_committed_and_can_be_repeated(
    load: Callable[..., Answer],
    sample_issuer: SampleIssuer,
    database_url: str,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(card_import, "COMMIT_EVERY_ROWS", 2)
    rows = [row(sample_issuer, f"new-{number}") for number in range(5)]
    monkeypatch.setattr(commands, "open_vault", lambda: OutOfBreath(vault, verbs=3))
    assert load(*rows) == Answer(2, "", "the token is away\n")
    assert len(cards_and_audit(database_url)[0]) == 4 + 2
    monkeypatch.setattr(commands, "open_vault", lambda: vault)
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


# Clients


def test_a_client_gets_a_secret_that_only_its_owner_can_read(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    client = ("testbank01", "testbank01-d1")
    assert (
        operator.must("clients", "add", *client, "--subject", "CN=d1", "--secret-file", file) == ""
    )
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    ((stored,),) = run_sql(
        database_url, "SELECT secret_hash FROM clients WHERE client_id = 'testbank01-d1'"
    )
    assert len(secret) >= 43  # 256 bits
    assert stored.startswith("$argon2id$")
    assert HASHER.verify(stored, secret)
    shown = operator.must("clients", "show", *client) + operator.must("clients", "list", client[0])
    assert re.search(r"auth +oauth", shown)
    assert secret not in shown
    assert "argon2" not in shown


def test_two_clients_get_different_secrets(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    secrets = []
    for name in ("a", "b"):
        client = ("testbank01", f"testbank01-{name}")
        file = tmp_path / name
        operator.must("clients", "add", *client, "--subject", "CN=d1", "--secret-file", file)
        secrets.append(file.read_text())
    assert secrets[0] != secrets[1]


def test_a_client_is_named_by_its_certificates(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    pem = tmp_path / "client.pem"
    loaded = x509.load_der_x509_certificate(certificate("d1 of a bank").der)
    pem.write_bytes(loaded.public_bytes(serialization.Encoding.PEM))
    client = ("testbank01", "testbank01-d1")
    operator.must("clients", "add", *client, "--certificate", pem, "--subject", "dns:d1.test")
    shown = operator.must("clients", "show", *client)
    assert re.search(r"auth +certificate", shown)
    assert "['dns:d1.test', 'CN=d1 of a bank']" in shown


def test_a_client_is_disabled_and_enabled(operator: Operator, sample_issuer: SampleIssuer) -> None:
    client = (sample_issuer.issuer_id, sample_issuer.client_id)
    operator.must("clients", "disable", *client)
    assert re.search("state +disabled", operator.must("clients", "show", *client))
    operator.must("clients", "enable", *client)
    assert re.search("state +active", operator.must("clients", "show", *client))
    seen = operator.must("audit", "list", sample_issuer.issuer_id)
    assert seen.index("client.disabled") < seen.index("client.active")
    disabled = next(line for line in seen.splitlines() if "client.disabled" in line)
    assert f"reason={sample_issuer.client_id}" in disabled


@pytest.mark.parametrize(
    ("client", "more", "refusal"),
    [
        ("testbank02-d1", ["--subject", "CN=d1"], "a client id starts with the id of its issuer"),
        ("testbank01-d1", [], "a client needs --subject or --certificate"),
        ("testbank01", ["--subject", "CN=d1"], "duplicate client"),
        (
            "testbank01" + "x" * 31,
            ["--subject", "CN=d1"],
            "a value does not fit its column",
        ),
    ],
)
def test_a_client_that_is_refused_leaves_neither_a_row_nor_a_file(
    operator: Operator,
    sample_issuer: SampleIssuer,
    tmp_path: Path,
    client: str,
    more: list[str],
    refusal: str,
) -> None:
    file = tmp_path / "secret"
    before = operator.must("clients", "list", sample_issuer.issuer_id)
    adding = ("clients", "add", sample_issuer.issuer_id, client, "--secret-file", file, *more)
    assert operator.refused(*adding) == refusal
    assert not file.exists()
    assert operator.must("clients", "list", sample_issuer.issuer_id) == before


def test_a_client_of_an_unknown_issuer_is_refused(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    adding = ("clients", "add", "testbank02", "testbank02", "--subject", "CN=d1")
    assert operator.refused(*adding, "--secret-file", file) == "unknown issuer"
    assert not file.exists()


def test_a_secret_file_is_never_overwritten(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("of somebody else")
    adding = ("clients", "add", "testbank01", "testbank01-d1", "--subject", "CN=d1")
    assert operator.refused(*adding, "--secret-file", file) == f"{file}: File exists"
    assert file.read_text() == "of somebody else"
    assert operator.refused("clients", "show", "testbank01", "testbank01-d1") == "no such client"


def test_a_file_that_is_no_certificate_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    pem = tmp_path / "client.pem"
    pem.write_text("junk")
    adding = ("clients", "add", "testbank01", "testbank01-d1", "--certificate", pem)
    assert operator.refused(*adding) == "not a PEM certificate"


def test_an_unknown_client_cannot_be_changed(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    for verb in ("show", "enable", "disable"):
        assert (
            operator.refused("clients", verb, sample_issuer.issuer_id, "nobody") == "no such client"
        )


# Apps


def test_an_app_is_registered_with_its_origins_and_without_a_secret(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    app = ("testbank01", "testbank01-app")
    origins = (
        *("--redirect-origin", "https://app.example", "--redirect-origin", "com.example.app:"),
        *("--embed-origin", "https://web.example:8443", "--embed-origin", "http://localhost:3000"),
    )
    operator.must("clients", "add-app", *app, *origins, "--sandbox")
    shown = operator.must("clients", "show", *app)
    assert re.search(r"auth +public\n", shown)
    assert re.search(r"redirect_origins +\['https://app.example', 'com.example.app:'\]\n", shown)
    assert re.search(
        r"embed_origins +\['https://web.example:8443', 'http://localhost:3000'\]\n", shown
    )
    assert re.search(r"failure_image_status +410\n", shown)
    assert "event=client.added" in operator.must("audit", "list", "testbank01")


def test_an_apps_failure_images_may_come_with_200(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    app = ("testbank01", "testbank01-app")
    operator.must("clients", "add-app", *app, "--failure-image-status", "200")
    assert re.search(r"failure_image_status +200\n", operator.must("clients", "show", *app))


ORIGIN_REFUSED = "an origin is written as a browser does"
KEY_REFUSED = "a client key is visible ASCII and starts with the id of its issuer"


@pytest.mark.parametrize(
    ("key", "more", "refusal"),
    [
        ("testbank02-app", (), KEY_REFUSED),
        ("testbank01 app", (), KEY_REFUSED),
        ("testbank01-äpp", (), KEY_REFUSED),
        ("testbank01" + "x" * 31, (), "a value does not fit its column"),
        ("testbank01", (), "duplicate client"),
        ("testbank01-app", ("--redirect-origin", "https://app.example/"), ORIGIN_REFUSED),
        ("testbank01-app", ("--redirect-origin", "javascript:"), ORIGIN_REFUSED),
        ("testbank01-app", ("--redirect-origin", "http://localhost:3000"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "com.example.app:"), ORIGIN_REFUSED),
        ("testbank01-app", ("--embed-origin", "*"), ORIGIN_REFUSED),
    ],
)
def test_an_app_that_is_refused_leaves_no_row(
    operator: Operator, sample_issuer: SampleIssuer, key: str, more: tuple[str, ...], refusal: str
) -> None:
    before = operator.must("clients", "list", sample_issuer.issuer_id)
    assert operator.refused("clients", "add-app", sample_issuer.issuer_id, key, *more).startswith(
        refusal
    )
    assert operator.must("clients", "list", sample_issuer.issuer_id) == before


# Servers


def add_backend(operator: Operator, file: Path, *more: object, user: str = "testbank01-x") -> str:
    return operator.must(
        "clients", "add-backend", "testbank01", user, "--password-file", file, *more
    )


def test_a_server_gets_a_password_that_only_its_owner_can_read_and_a_frame_key(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    origins = ("https://desk.example", "https://desk.example:8443")
    framed = (word for origin in origins for word in ("--frame-origin", origin))
    key = add_backend(operator, file, *framed).strip()
    assert re.fullmatch("testbank01-[A-Za-z0-9_-]{16}", key)
    assert file.stat().st_mode & 0o777 == 0o600
    password = file.read_text().strip()
    assert len(password) >= 43  # 256 bits
    ((auth, hashed, frame_key, frames, button, seconds, style),) = run_sql(
        database_url,
        "SELECT auth, secret_hash, frame_key, embed_origins, show_button, hide_seconds, view_style"
        " FROM clients WHERE client_id = 'testbank01-x'",
    )
    assert (auth, frame_key, frames) == ("basic", key, [*origins])
    assert (button, seconds, style) == (True, 30, {})
    assert HASHER.verify(hashed, password)
    shown = operator.must("clients", "show", "testbank01", "testbank01-x")
    assert password not in shown
    assert "argon2" not in shown
    assert "event=client.added" in operator.must("audit", "list", "testbank01")


def test_a_server_without_frames_has_no_frame_key(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    assert add_backend(operator, tmp_path / "password") == ""


def test_what_a_server_wants_of_its_page_is_stored(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    style = tmp_path / "style.json"
    style.write_text('{"digitColor": "#123", "widthPx": 600}')
    wishes = ("--no-button", "--hide-seconds", "5", "--style", style, "--sandbox")
    frame = ("--frame-origin", "http://localhost:3000", "--frame-key", "testbank01.our_key")
    assert add_backend(operator, tmp_path / "p", *wishes, *frame) == "testbank01.our_key\n"
    ((button, seconds, stored),) = run_sql(
        database_url, "SELECT show_button, hide_seconds, view_style FROM clients WHERE auth='basic'"
    )
    assert (button, seconds) == (False, 5)
    colours = {"digitColor": "#112233", "backgroundColor": "#ffffff", "frameColor": "#000000"}
    assert stored == {**colours, "widthPx": 600}


USER_REFUSED = "a user name is letters"
FRAME_KEY_REFUSED = "a frame key is up to 64"
FRAMED = ("--frame-origin", "https://desk.example", "--frame-key")


@pytest.mark.parametrize(
    ("user", "more", "style", "refusal"),
    [
        ("testbank02-x", (), None, USER_REFUSED),
        ("testbank01:x", (), None, USER_REFUSED),
        ("testbank01 x", (), None, USER_REFUSED),
        ("testbank01-ä", (), None, USER_REFUSED),
        ("testbank01" + "x" * 31, (), None, USER_REFUSED),
        ("testbank01", (), None, "duplicate client"),
        ("testbank01-x", ("--frame-origin", "https://desk.example/"), None, ORIGIN_REFUSED),
        ("testbank01-x", ("--frame-origin", "*"), None, ORIGIN_REFUSED),
        ("testbank01-x", ("--frame-origin", "com.example.app:"), None, ORIGIN_REFUSED),
        ("testbank01-x", ("--frame-origin", "http://localhost:3000"), None, ORIGIN_REFUSED),
        (
            "testbank01-x",
            ("--frame-key", "testbank01-key"),
            None,
            "a frame key needs --frame-origin",
        ),
        ("testbank01-x", (*FRAMED, "testbank02-key"), None, FRAME_KEY_REFUSED),
        ("testbank01-x", (*FRAMED, "testbank01&key"), None, FRAME_KEY_REFUSED),
        ("testbank01-x", (*FRAMED, "testbank01" + "x" * 55), None, FRAME_KEY_REFUSED),
        ("testbank01-x", (), "[]", "a style is a JSON object"),
        ("testbank01-x", (), "junk", "a style is a JSON object"),
        ("testbank01-x", (), '{"digitColor": "red"}', "digitColor: "),
        ("testbank01-x", (), '{"widthPx": 119}', "widthPx: "),
        ("testbank01-x", (), '{"digitColor": "#fff"}', ""),  # as the background
    ],
)
def test_a_server_that_is_refused_leaves_neither_a_row_nor_a_file(
    operator: Operator,
    sample_issuer: SampleIssuer,
    tmp_path: Path,
    user: str,
    more: tuple[str, ...],
    style: str | None,
    refusal: str,
) -> None:
    file, before = tmp_path / "password", operator.must("clients", "list", sample_issuer.issuer_id)
    words: tuple[object, ...] = ("--password-file", file, *more)
    if style is not None:
        (tmp_path / "style").write_text(style)
        words = (*words, "--style", tmp_path / "style")
    refused = operator.refused("clients", "add-backend", "testbank01", user, *words)
    assert refused.startswith(refusal)
    assert not file.exists()
    assert operator.must("clients", "list", sample_issuer.issuer_id) == before


def test_a_frame_key_is_one_servers(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    key = (*FRAMED, "testbank01-key")
    add_backend(operator, tmp_path / "a", *key)
    file = tmp_path / "b"
    adding = ("clients", "add-backend", "testbank01", "testbank01-y", "--password-file", file)
    assert "frame" in operator.refused(*adding, *key)
    assert not file.exists()


def test_a_password_file_is_never_overwritten(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("of somebody else")
    adding = ("clients", "add-backend", "testbank01", "testbank01-x", "--password-file", file)
    assert operator.refused(*adding) == f"{file}: File exists"
    assert file.read_text() == "of somebody else"
    assert operator.refused("clients", "show", "testbank01", "testbank01-x") == "no such client"


# Configuration


def policy(vault: Vault, version: int = 2, **body: object) -> SealedConfig:
    return vault.seal_config(config("testbank01", ConfigKind.POLICY, body, version))


def write(path: Path, sealed: SealedConfig) -> Path:
    path.write_text(to_json(sealed))
    return path


def test_a_sealed_configuration_is_stored_listed_and_shown(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault, length_max=6))
    operator.must("config", "load", file)
    listed = operator.must("config", "list", sample_issuer.issuer_id).splitlines()
    assert [line.split()[1:3] for line in listed] == [
        ["kind=policy", "version=1"],
        ["kind=policy", "version=2"],
        ["kind=recipient", "version=1"],
        ["kind=wire", "version=1"],
    ]
    assert '"length_max":6' in operator.must("config", "show", sample_issuer.issuer_id, "policy", 2)
    assert "reason=policy 2" in operator.must("audit", "list", sample_issuer.issuer_id)


def test_a_version_is_never_replaced(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault, version=1, length_max=6))
    assert operator.refused("config", "load", file) == "duplicate vault_config"
    assert '"length_max":8' in operator.must("config", "show", sample_issuer.issuer_id, "policy", 1)


def test_what_was_not_sealed_is_not_stored(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "draft.json"
    file.write_text(to_json(config("testbank01", ConfigKind.POLICY, {}, version=2)))
    refusal = operator.refused("config", "load", file)
    assert refusal == "not sealed: use python -m hsm config seal first"


@pytest.mark.anyio
async def test_what_was_edited_after_sealing_is_refused_by_the_vault(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    edited = replace(policy(vault, refuse_runs=True), body=b'{"refuse_runs":false}')
    operator.must("config", "load", write(tmp_path / "policy.json", edited))
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        with pytest.raises(ServiceUnavailable):
            await pin_service.put(sample_issuer.pin_jwe("1234"))
        assert await pin_service.counter() == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"body": 1}'])
def test_a_file_that_is_no_configuration_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(content)
    assert operator.refused("config", "load", file) == "not a configuration"


def test_a_file_that_is_not_text_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(b"\xff")
    assert operator.refused("config", "load", file) == "the file is not text"


def test_a_configuration_that_the_database_cannot_hold_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault, version=2**63))
    assert operator.refused("config", "load", file) == "a value does not fit its column"


def test_a_configuration_of_an_unknown_issuer_is_refused(
    operator: Operator, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault))
    assert operator.refused("config", "load", file) == "unknown issuer"


@pytest.mark.parametrize("version", ["7", "one", str(2**70)])
def test_a_configuration_that_is_not_there_cannot_be_shown(
    operator: Operator, sample_issuer: SampleIssuer, version: str
) -> None:
    answer = operator("config", "show", sample_issuer.issuer_id, "policy", version)
    assert (answer.code, answer.out) == (2, "")


# Settings


def test_a_command_without_settings_says_which(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CMS_DATABASE_URL_FILE")
    assert operator.refused("issuers", "list") == (
        "settings that are missing or wrong: CMS_DATABASE_URL_FILE"
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://cms:s3cret@/cms?host=/nowhere",
        "postgresql://cms:s3cret@127.0.0.1:1/cms",
    ],
)
def test_a_database_that_is_unavailable_is_said_in_one_line(
    operator: Operator, tmp_path: Path, url: str
) -> None:
    (tmp_path / "database-url").write_text(url)
    assert operator.refused("issuers", "list") == "the database is away"
    assert "s3cret" not in "".join(operator.seen)


def test_a_database_url_that_cannot_be_read_is_not_shown(
    operator: Operator, tmp_path: Path
) -> None:
    for text in ("s3cret", "https://s3cret@host/db", "postgresql://s3cret:x@[h/", "postgresql://%"):
        (tmp_path / "database-url").write_text(text)
        assert operator.refused("issuers", "list") == "the database URL cannot be read"


def test_a_database_without_tables_is_said_so(
    operator: Operator, postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / "database-url").write_text(postgres.url("postgres"))
    assert operator.refused("issuers", "list") == (
        "the database has no tables: run alembic upgrade head"
    )


def test_the_database_url_may_be_any_that_postgres_reads(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    for text in (
        database_url.replace("postgresql://", "postgres://"),
        psycopg.conninfo.make_conninfo(database_url),
    ):
        (tmp_path / "database-url").write_text(text)
        assert sample_issuer.issuer_id in operator.must("issuers", "list")


# No secret on a command line


def test_no_argument_takes_a_pan_a_pin_or_a_secret() -> None:
    parser, _ = cli.operator_parser()
    named = {argument for argument in arguments_of(parser) if re.search("pan|pin|secret", argument)}
    assert named == {"pan_jwe", "secret_file"}  # both are paths


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from arguments_of(sub)
        else:
            yield action.dest


# Real processes, with the token that the environment names


def run_module(*words: object, **environment: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.anyio
async def test_sealing_loading_and_importing_are_commands(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    draft, sealed, cards = (tmp_path / name for name in ("draft", "sealed", "cards"))
    draft.write_text(
        to_json(config(sample_issuer.issuer_id, ConfigKind.POLICY, {"length_min": 6}, 2))
    )
    answer = run_module("hsm", "config", "seal", draft)
    assert (answer.code, answer.err) == (0, "")
    sealed.write_text(answer.out)
    assert run_module("cms", "config", "load", sealed) == Answer(0, "", "")
    rows = [
        row(sample_issuer, state="active", encryptedPinBlock=sample_issuer.pin_jwe(PIN, "new-1")),
        row(sample_issuer, "new-2", encryptedPinBlock=sample_issuer.pin_jwe("40719", "new-1")),
    ]
    cards.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_module("cms", "cards", "import", sample_issuer.issuer_id, cards) == Answer(
        2, "1 cards stored, 1 lines refused\n", "line 2: encryptedPinBlock cannot be used\n"
    )
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        assert await pin_service.pin("new-1") == PIN


def test_a_pan_is_typed_at_a_prompt_that_shows_nothing(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    code, shown = type_in(sample_issuer, "new-1", "6011 1111 1111 1117\n")
    assert (code, shown) == (0, "PAN (not shown): \r\n")
    assert "last_four             1117" in operator.must(
        "cards", "show", sample_issuer.issuer_id, "new-1"
    )


def test_what_was_typed_and_is_no_pan_is_not_shown(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    code, shown = type_in(sample_issuer, "new-1", "6011x\n")
    assert (code, shown) == (2, "PAN (not shown): \r\nThe PAN could not be taken.\r\n")


def test_a_prompt_that_gets_no_answer_is_a_refusal(
    operator: Operator, sample_issuer: SampleIssuer
) -> None:
    code, shown = type_in(sample_issuer, "new-1", "\x04")
    assert code == 2
    assert "Traceback" not in shown


def type_in(sample_issuer: SampleIssuer, card_id: str, text: str) -> tuple[int, str]:
    """Add a card at a terminal; return the exit code and all that the terminal showed."""
    ours, theirs = pty.openpty()
    adding = ("cms", "cards", "add", sample_issuer.issuer_id, card_id, "--expiry", "0131")
    command = ["setsid", "--ctty", "--wait", sys.executable, "-m", *adding]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"PAN" not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, text.encode())
        try:
            while True:
                shown += os.read(ours, 1024)
        except OSError:  # the terminal's other end was closed
            os.close(ours)
        return process.wait(60), shown.decode()
