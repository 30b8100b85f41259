"""``python -m cms audit compare``: two records of what was handed out."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import LiteralString

import pytest

from cms.sandbox.machine.softhsm import SoftHsm
from hsm.log.files import files_of
from hsm.pkcs11.token import Pkcs11Token
from tests.cms.operator.operator_at_work import Answer, Operator
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import load_manifest, open_issuer, run_sql
from tests.operators import now, open_vault, reopen_vault

pytestmark = pytest.mark.anyio
ISSUER, PINS = "testbank01", ("4071", "9382", "2846")
KEY = ("issuer_id", "version")


def an_hour_ago() -> datetime:
    return now() - timedelta(hours=1)


def make_older(url: str) -> None:
    """Have the rows of this minute be of an hour ago, as their lines are."""
    run_sql(url, "ALTER TABLE audit_events DISABLE TRIGGER append_only")
    run_sql(
        url,
        "UPDATE audit_events SET at = at - interval '1 hour'"
        " WHERE at > now() - interval '30 minutes'",
    )


@dataclass
class Stage:
    """An issuer whose PINs were set and handed out an hour ago, by the vault of one host."""

    operator: Operator
    pin_service: PinService
    log: Path

    def compare(self, *more: str | Path) -> Answer:
        return self.operator("audit", "compare", ISSUER, "--log", self.log, *more)

    def differences(self) -> list[str]:
        """What it says, before it counts."""
        answer = self.compare()
        *found, _, _, count = answer.out.splitlines()
        assert count == f"differences: {len(found)}"
        assert (answer.code, answer.err) == (1 if found else 0, "")
        return found

    def as_owner(self, statement: LiteralString, *parameters: object) -> None:
        """Do what whoever owns the database can."""
        url = self.pin_service.url
        run_sql(url, "ALTER TABLE audit_events DISABLE TRIGGER append_only")
        run_sql(url, statement, *parameters)

    def row(self, event: str) -> tuple[int, str]:
        """The id and receipt of the first row of an event."""
        (row, *_) = run_sql(
            self.pin_service.url,
            "SELECT event_id, receipt FROM audit_events WHERE event = %s ORDER BY event_id",
            event,
        )
        return row[0], row[1]


@pytest.fixture
async def stage(
    operator: Operator, database_url: str, hsm_token: Pkcs11Token, tmp_path: Path
) -> AsyncIterator[Stage]:
    open_vault(hsm_token, tmp_path, an_hour_ago)
    sample_issuer = open_issuer(database_url, reopen_vault(hsm_token, tmp_path))
    vault = reopen_vault(hsm_token, tmp_path, an_hour_ago)
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        for pin in PINS:
            await pin_service.put(pin_service.sample_issuer.pin_jwe(pin))
            assert await pin_service.pin() == pin
        make_older(database_url)
        yield Stage(operator, pin_service, tmp_path / "log")


async def test_audit_and_log_tell_the_same(stage: Stage) -> None:
    assert stage.compare() == Answer(
        0, "compared: 6 rows with 6 lines\nset and not stored: 0\ndifferences: 0\n", ""
    )


async def test_a_deleted_row_is_a_hand_out_that_the_audit_does_not_tell(stage: Stage) -> None:
    event_id, receipt = stage.row("pin.get")
    stage.as_owner("DELETE FROM audit_events WHERE event_id = %s", event_id)
    (found,) = stage.differences()
    assert found.startswith(f"line {receipt}, pin.export of card card-1, counter 1, ")
    assert found.endswith(": no row")


async def test_a_comparison_is_told_as_json(stage: Stage) -> None:
    event_id, receipt = stage.row("pin.get")
    stage.as_owner("DELETE FROM audit_events WHERE event_id = %s", event_id)
    answer = stage.compare("--json")
    compared = json.loads(answer.out)
    (found,) = compared.pop("differences")
    assert found.startswith(f"line {receipt}, pin.export of card card-1")
    assert compared == {"faults": [], "rows": 5, "lines": 6, "not_stored": 0}
    assert answer.code == 1


async def test_a_set_without_a_row_is_one_that_was_not_stored(stage: Stage) -> None:
    stage.as_owner("DELETE FROM audit_events WHERE event_id = %s", stage.row("pin.set")[0])
    answer = stage.compare()
    assert (answer.code, answer.out.splitlines()[-2:]) == (
        0,
        ["set and not stored: 1", "differences: 0"],
    )


@pytest.mark.parametrize("event", ["pin.get", "pin.set"])
@pytest.mark.parametrize(
    ("receipt", "fault"),
    [
        (None, "no receipt"),
        ("3.00000000000000000000000000000000", "no line has its receipt, 3." + "0" * 32),
    ],
)
@pytest.mark.parametrize("at", ["-1 hour", "+1 year"])
async def test_a_row_that_was_made_up_has_no_line(
    stage: Stage, event: str, receipt: str | None, fault: str, at: str
) -> None:
    stage.as_owner(
        "INSERT INTO audit_events (issuer_id, at, event, card_id, actor, counter, receipt)"
        " VALUES (%s, now() + %s::interval, %s, 'card-2', 'x', 1, %s)",
        *(ISSUER, at, event, receipt),
    )
    (found,) = stage.differences()
    assert found.endswith(f", {event} of card card-2: {fault}")


async def test_a_row_with_the_receipt_of_another_is_one_too_many(stage: Stage) -> None:
    event_id, receipt = stage.row("pin.get")
    stage.as_owner(
        "INSERT INTO audit_events (issuer_id, event, card_id, actor, counter, receipt)"
        " VALUES (%s, 'pin.get', 'card-1', 'testbank01', 1, %s)",
        *(ISSUER, receipt),
    )
    (found,) = stage.differences()
    assert found.endswith(f", pin.get of card card-1: event {event_id} has its receipt")


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("pin.get", "card_id = 'card-2'"),
        ("pin.get", "counter = 2"),
        ("pin.get", "event = 'pin.set'"),
        ("pin.get", "event = 'verification.export'"),
        ("pin.get", "at = at - interval '11 minutes'"),
        ("pin.get", "at = at + interval '11 minutes'"),
        ("pin.set", "at = at - interval '11 minutes'"),
        ("pin.set", "actor = 'x'"),
        ("pin.set", "event = 'pin.get'"),
    ],
)
async def test_a_row_that_was_changed_does_not_tell_what_its_line_does(
    stage: Stage, event: str, change: LiteralString
) -> None:
    event_id, receipt = stage.row(event)
    stage.as_owner(f"UPDATE audit_events SET {change} WHERE event_id = %s", event_id)
    (found,) = stage.differences()
    assert found.startswith(f"event {event_id}, ")
    assert found.endswith(f": line {receipt} tells something else")


async def test_a_row_that_was_renamed_is_missing(stage: Stage) -> None:
    stage.as_owner(
        "UPDATE audit_events SET event = 'pin.get.failed' WHERE event_id = %s",
        stage.row("pin.get")[0],
    )
    (found,) = stage.differences()
    assert found.endswith(": no row")


async def test_what_is_newer_than_a_minute_is_not_judged(
    operator: Operator, database_url: str, hsm_token: Pkcs11Token, tmp_path: Path
) -> None:
    """While a request runs its line is there, and its row not yet."""
    vault = open_vault(hsm_token, tmp_path)
    async with PinService.opened(database_url, vault) as pin_service:
        stage = Stage(operator, pin_service, tmp_path / "log")
        await pin_service.put(pin_service.sample_issuer.pin_jwe(PINS[0]))
        await pin_service.pin()
        stage.as_owner("DELETE FROM audit_events WHERE event_id = %s", stage.row("pin.get")[0])
        assert stage.differences() == []


async def test_the_logs_of_several_hosts_are_compared_together(
    stage: Stage, hsm_token: Pkcs11Token, tmp_path: Path
) -> None:
    there = tmp_path / "other-host"
    there.mkdir()
    vault = open_vault(hsm_token, there, an_hour_ago)
    pin_service, url = stage.pin_service, stage.pin_service.url
    issuer = await pin_service.vault.run(lambda here: here.read_manifest(ISSUER))
    members = issuer.model_dump(mode="json")
    load_manifest(vault, ISSUER, **{name: members[name] for name in members if name not in KEY})
    async with PinService.over(pin_service.sample_issuer, url, vault) as other:
        assert await other.pin() == PINS[-1]
    alone = stage.compare()
    # The row is new: only a minute later would it be missed.
    make_older(url)
    assert (alone.code, stage.compare().code) == (0, 1)
    for words in [(there / "log",), ("--log", there / "log")]:
        both = stage.compare(*words)
        assert (both.code, both.out.splitlines()[0]) == (0, "compared: 7 rows with 7 lines")


def changed(lines: Sequence[bytes]) -> Sequence[bytes]:
    return [*lines[:2], lines[2].replace(b"card-1", b"card-2"), *lines[3:]]


async def test_all_chains_of_a_host_are_compared(
    stage: Stage, hsm_token: Pkcs11Token, tmp_path: Path
) -> None:
    """Two processes of a host; the chain of one is missing then."""
    pin_service = stage.pin_service
    vault = reopen_vault(hsm_token, tmp_path, an_hour_ago)
    async with PinService.over(pin_service.sample_issuer, pin_service.url, vault) as beside:
        assert await beside.pin() == PINS[-1]
    make_older(pin_service.url)
    assert (stage.log / "1").is_dir()
    assert (stage.compare().code, stage.compare().out.splitlines()[0]) == (
        0,
        "compared: 7 rows with 7 lines",
    )
    (stage.log / "1").rename(tmp_path / "moved")
    assert stage.compare() == Answer(1, f"{stage.log / '1'}: this chain is missing\n", "")


async def test_a_log_whose_lines_do_not_follow_one_another_is_not_compared(stage: Stage) -> None:
    (path,) = files_of(stage.log / "0")
    path.write_bytes(b"".join(changed(path.read_bytes().splitlines(keepends=True))))
    fault = "the line before it is not the one that it followed"
    assert stage.compare() == Answer(1, f"{path}:4: {fault}\n", "")


async def test_what_cannot_be_compared_is_refused(stage: Stage) -> None:
    none = stage.log / "none"
    assert "No such file" in stage.operator.refused("audit", "compare", ISSUER, "--log", none)
    told = stage.operator.refused("audit", "compare", "testbank02", "--log", stage.log)
    assert told == "no such issuer"


async def test_the_comparison_needs_no_hsm_token(stage: Stage, softhsm: SoftHsm) -> None:
    assert stage.compare().code == 0
    with pytest.MonkeyPatch.context() as patch:
        for name in softhsm.environment:
            patch.delenv(name)
        assert stage.compare().code == 0
