"""What lists and shows print: as lines, as JSON, of an issuer that there is, into a pipe."""

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from tests.cms.operator.operator_at_work import ROOT, Operator
from tests.issuer_records import SampleIssuer, run_sql

ISSUER = "testbank01"
#: The stable names. What is sealed is not among them.
MEMBERS: Mapping[Sequence[str], Sequence[str]] = {
    ("issuers", "list"): ["issuer_id", "name", "state", "created_at"],
    ("issuers", "show", ISSUER): ["issuer_id", "name", "state", "created_at"],
    ("cards", "list", ISSUER): (
        cards := [
            *("issuer_id", "card_id", "state", "last_four", "expiry", "psn", "pin_type"),
            *("pin_changed_at", "counter", "created_at", "cardholder_id"),
            *("card_type", "plastic_id", "personalised"),
        ]
    ),
    ("cards", "show", ISSUER, "card-1"): cards,
    ("audit", "list", ISSUER): [
        *("issuer_id", "event_id", "at", "event", "card_id", "actor", "correlation_id"),
        *("counter", "reason", "audit_user", "error_id", "receipt"),
    ],
}


@pytest.mark.parametrize("command", MEMBERS, ids=" ".join)
def test_every_list_and_show_is_an_array_of_objects_too(
    operator: Operator, sample_issuer: SampleIssuer, command: Sequence[str]
) -> None:
    printed: list[dict[str, Any]] = json.loads(operator.must(*command, "--json"))
    assert printed
    for row in printed:
        assert {*MEMBERS[command]} <= row.keys()
        assert not [name for name in row if name.startswith("sealed") or "hash" in name]
        assert row["issuer_id"] == ISSUER
    lines = operator.must(*command).splitlines()
    if command[1] == "list":
        assert len(lines) == len(printed)


def test_values_of_json_are_of_their_kind(operator: Operator, sample_issuer: SampleIssuer) -> None:
    (card,) = json.loads(operator.must("cards", "show", ISSUER, "card-1", "--json"))
    assert (card["psn"], card["cardholder_id"], card["personalised"]) == (0, None, False)
    assert card["created_at"].endswith("+00:00")


def test_a_list_of_nothing_is_an_empty_array(operator: Operator, database_url: str) -> None:
    assert json.loads(operator.must("issuers", "list", "--json")) == []
    operator.must("issuers", "add", ISSUER, "--name", "Nothing yet")
    assert json.loads(operator.must("cards", "list", ISSUER, "--json")) == []
    assert json.loads(operator.must("manifest", "list", "--json")) == []


@pytest.mark.parametrize("noun", ["cards", "audit"])
def test_an_issuer_that_there_is_not_has_no_list(
    operator: Operator, sample_issuer: SampleIssuer, noun: str
) -> None:
    for issuer in ("testbank02", "", "x" * 400):
        for more in ((), ("--json",)):
            assert operator.refused(noun, "list", issuer, *more) == "no such issuer"
    assert operator.refused(noun, "list", "\udcff") == "an argument is not text"


# Audit


@pytest.fixture
def _events(sample_issuer: SampleIssuer, database_url: str) -> None:
    """Ten events, a day apart, of two cards and two requests."""
    for number in range(10):
        run_sql(
            database_url,
            "INSERT INTO audit_events (issuer_id, at, event, card_id, actor, correlation_id)"
            " VALUES ('testbank01', '2020-01-01T00:00Z'::timestamptz + %s * interval '1 day',"
            " %s, %s, 'x', %s)",
            number,
            ("pin.get", "pin.set")[number % 2],
            f"card-{number % 2 + 1}",
            f"request-{number // 5}",
        )


@pytest.mark.usefixtures("_events")
@pytest.mark.parametrize(
    ("words", "days"),
    [
        (("--until", "2020-01-04T00:00:00Z"), [1, 2, 3]),
        (("--since", "2020-01-09T01:00:00+01:00", "--until", "2021-01-01T00:00:00Z"), [9, 10]),
        (("--event", "pin.set"), [2, 4, 6, 8, 10]),
        (("--card", "card-1", "--until", "2021-01-01T00:00:00Z"), [1, 3, 5, 7, 9]),
        (("--correlation-id", "request-1"), [6, 7, 8, 9, 10]),
        (("--correlation-id", "request-1", "--event", "pin.get"), [7, 9]),
        (("--card", "card-9"), []),
        (("--event", "pin.set", "--limit", "5"), [2, 4, 6, 8, 10]),
    ],
)
def test_audit_events_are_found(
    operator: Operator, words: Sequence[str], days: Sequence[int]
) -> None:
    found = json.loads(operator.must("audit", "list", ISSUER, "--json", *words))
    assert [int(event["at"][8:10]) for event in found] == days


@pytest.mark.usefixtures("_events")
def test_the_newest_events_are_listed_and_that_there_are_more_is_said(operator: Operator) -> None:
    answer = operator("audit", "list", ISSUER, "--event", "pin.set", "--limit", "2", "--json")
    assert [event["at"][8:10] for event in json.loads(answer.out)] == ["08", "10"]
    assert (answer.code, answer.err) == (
        0,
        "there are older events than these 2: see --limit and --until\n",
    )


@pytest.mark.parametrize("limit", ["0", "-1", "x", "100001", "9" * 5000, "\u0661"])
def test_a_limit_is_a_number(operator: Operator, limit: str) -> None:
    answer = operator("audit", "list", ISSUER, "--limit", limit)
    assert (answer.code, answer.out) == (2, "")


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_has_a_zone(operator: Operator, sample_issuer: SampleIssuer, option: str) -> None:
    for time in ("2020-01-01T00:00:00", "yesterday", ""):
        refusal = operator.refused("audit", "list", ISSUER, option, time)
        assert refusal == "a time is written as 2026-01-31T12:00:00+01:00"


# Terminals


@pytest.mark.usefixtures("operator", "sample_issuer")
def test_at_a_terminal_a_list_is_a_table_with_headings() -> None:
    heading, line = at_a_terminal(120, "cms", "issuers", "list")
    assert heading.split() == ["ISSUER_ID", "NAME", "STATE", "CREATED_AT"]
    for column in ("NAME", "STATE", "CREATED_AT"):
        at = heading.index(column)
        assert (line[at - 2 : at], line[at] == " ") == ("  ", False)


@pytest.mark.usefixtures("operator", "sample_issuer")
def test_where_a_terminal_is_too_narrow_a_row_is_a_line_for_each_column() -> None:
    lines = at_a_terminal(60, "cms", "cards", "list", ISSUER)
    assert lines[0].split() == ["issuer_id", ISSUER]
    assert "" in lines
    assert max(map(len, lines)) <= 60


@pytest.mark.usefixtures("operator")
def test_the_keys_are_a_table_too() -> None:
    # Tests before this one may have left keys with long names.
    heading, *lines = at_a_terminal(4000, "hsm", "list")
    assert heading.split() == ["KEY", "KIND", "FINGERPRINT", "ATTRIBUTES"]
    (d1,) = (line for line in lines if line.startswith("d1.g1 "))
    assert d1[heading.index("ATTRIBUTES") :] == "as they must be"


def test_nothing_that_is_stored_steers_a_terminal(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    run_sql(database_url, "UPDATE issuers SET name = %s", "Bank\x1b[2J\nissuer_id=another")
    for command in (("list",), ("show", ISSUER)):
        printed = operator.must("issuers", *command)
        assert "Bank\\x1b[2J\\nissuer_id=another" in printed
    assert not [line for line in at_a_terminal(120, "cms", "issuers", "list") if "\x1b" in line]


def at_a_terminal(columns: int, *words: str) -> list[str]:
    """Run a module at a terminal of so many columns, and return the lines that it shows."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    code, said = into(its, *words)
    assert (code, said) == (0, "")
    shown = b""
    # At its end a terminal that nobody holds any more is an error.
    with suppress(OSError):
        while read := os.read(ours, 65536):
            shown += read
    os.close(ours)
    return shown.decode().splitlines()


# Pipes


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    "words",
    [
        ("cms", "cards", "list", ISSUER),
        ("cms", "cards", "list", ISSUER, "--json"),
        ("cms", "audit", "list", ISSUER),
        ("cms", "issuers", "show", ISSUER),
        ("cms", "--help"),
        ("hsm", "list"),
        ("hsm", "jwks", "d1"),
        ("hsm", "--help"),
    ],
    ids=" ".join,
)
def test_a_pipe_that_nobody_reads_ends_a_command_without_a_word(
    sample_issuer: SampleIssuer, words: Sequence[str]
) -> None:
    assert into_a_closed_pipe(*words) == (141, "")


@pytest.mark.usefixtures("operator", "sample_issuer")
@pytest.mark.parametrize("words", [("cms", "cards", "list", ISSUER), ("hsm", "list")], ids=" ".join)
def test_a_disk_that_is_full_is_said_in_one_line(words: Sequence[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    assert into(full, *words) == (2, "standard output: No space left on device\n")


def into_a_closed_pipe(*words: str) -> tuple[int, str]:
    read, write = os.pipe()
    os.close(read)
    return into(write, *words)


def into(output: int, *words: str) -> tuple[int, str]:
    """Run a module, and return its exit code and what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        # COLUMNS is that of the terminal at which the tests run.
        env={
            name: value
            for name, value in os.environ.items()
            if name not in ("COLUMNS", "PYTHONUNBUFFERED")
        },
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    os.close(output)
    return done.returncode, done.stderr
