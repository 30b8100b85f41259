"""Whoever owns the database, and would have it say that a PIN was, or was not, handed out.

Every attack is made a second time without the vault's log, and then nothing shows.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cms.operator import log_comparison
from cms.operator.log_comparison import EVENTS, Comparison
from cms.persistence import admin
from hsm.log.chain import Chain
from hsm.log.writer import VaultLog, files_of
from tests.attacks.database_owner import DatabaseOwner

pytestmark = pytest.mark.anyio
PIN = "4071"


def differences(owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    """Have an auditor compare, a minute later."""
    monkeypatch.setattr(log_comparison, "RECENT", timedelta(0))
    paths = files_of(Path(os.environ["HSM_STATE_DIRECTORY"]) / "log")
    lines = {
        line.receipt: line
        for line in Chain().follow(paths)
        if line.event.issuer_id == owner.issuer_id
    }
    with admin.transaction(owner.d1_face.url) as database:
        rows = admin.receipt_rows(database, owner.issuer_id, EVENTS)
        return list(Comparison(lines, datetime.now(UTC)).differences(rows))


def write_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VaultLog, "append", lambda *_, **__: None)


def hide(owner: DatabaseOwner) -> None:
    """Delete the rows that tell of a hand-out."""
    owner.run("ALTER TABLE audit_events DISABLE TRIGGER append_only")
    owner.run(
        "DELETE FROM audit_events WHERE issuer_id = %s AND event = 'pin.get'", owner.issuer_id
    )
    owner.run("ALTER TABLE audit_events ENABLE TRIGGER append_only")


def blame(owner: DatabaseOwner) -> None:
    """Write a row as if a PIN had been handed out that was not."""
    owner.run(
        "INSERT INTO audit_events (issuer_id, at, event, card_id, actor, counter, receipt)"
        " VALUES (%s, now() - interval '1 hour', 'pin.get', 'card-2', 'x', 1, '7.ab')",
        owner.issuer_id,
    )


async def test_it_cannot_hide_that_a_pin_was_handed_out(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await owner.bank.put_pin(PIN)).status_code == 204
    assert await owner.bank.pin() == PIN
    assert differences(owner, monkeypatch) == []
    hide(owner)
    (found,) = differences(owner, monkeypatch)
    assert "pin.export of card card-1" in found
    assert found.endswith(": no row")


async def test_without_a_log_of_the_vault_it_can_hide_it(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await owner.bank.put_pin(PIN)).status_code == 204
    write_no_log(monkeypatch)
    assert await owner.bank.pin() == PIN
    hide(owner)
    assert differences(owner, monkeypatch) == []


async def test_it_cannot_say_that_a_pin_was_handed_out_that_was_not(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    blame(owner)
    (found,) = differences(owner, monkeypatch)
    assert found.endswith(", pin.get of card card-2: no line has its receipt, 7.ab")
    # Who believes the audit alone sees nothing wrong in it.
    monkeypatch.setattr(Comparison, "_fault", lambda *_: None)
    assert differences(owner, monkeypatch) == []
