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
from hsm.log.host_log import HostLog
from hsm.log.writer import VaultLog
from hsm.port import CardRef
from tests.attacks.database_owner import DatabaseOwner
from tests.attacks.table import Attacker
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import run_sql

ATTACKER = Attacker(
    who="whoever owns the database and would change what its audit says",
    gets="all rows of the audit",
    does_not=(
        "delete the row of a PIN that was handed out, change its card, counter, client, "
        "event or time, or make one up, without that the comparison with the vaults' logs"
        " shows it. What [a line does not tell](docs/auditing.md#compare-the-two) it can "
        "change, as what the client called its user"
    ),
)

pytestmark = pytest.mark.anyio
PIN = "4071"


@pytest.fixture(autouse=True)
def _a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new is judged at once."""
    monkeypatch.setattr(log_comparison, "RECENT", timedelta(0))


def differences(url: str, card: CardRef) -> Sequence[str]:
    """Have an auditor compare what is told of a card."""
    host_log = HostLog(Path(os.environ["HSM_STATE_DIRECTORY"]) / "log")
    lines = {
        line.receipt: line
        for line in host_log.lines()
        if (line.event.issuer_id, line.event.card_id) == (card.issuer_id, card.card_id)
    }
    with admin.transaction(url) as database:
        rows = admin.receipt_rows(database, card.issuer_id, EVENTS)
        of_card = [row for row in rows if row.card_id == card.card_id]
        return list(Comparison(lines, datetime.now(UTC)).differences(of_card))


def write_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VaultLog, "append", lambda *_, **__: "7.ab")


def hide(url: str, card: CardRef) -> None:
    """Delete the rows that tell of a hand-out."""
    run_sql(url, "ALTER TABLE audit_events DISABLE TRIGGER append_only")
    run_sql(
        url,
        "DELETE FROM audit_events WHERE issuer_id = %s AND card_id = %s AND event = 'pin.get'",
        *(card.issuer_id, card.card_id),
    )
    run_sql(url, "ALTER TABLE audit_events ENABLE TRIGGER append_only")


async def test_it_cannot_hide_that_d1_got_a_pin(owner: DatabaseOwner) -> None:
    url, card = owner.d1_face.url, CardRef(owner.issuer_id, "card-1")
    assert (await owner.bank.put_pin(PIN)).status_code == 204
    assert await owner.bank.pin() == PIN
    assert differences(url, card) == []
    hide(url, card)
    (found,) = differences(url, card)
    assert "pin.export of card card-1" in found
    assert found.endswith(": no row")


async def test_it_cannot_hide_that_somebody_saw_or_set_a_pin(
    d1_face: D1Face, hosted_face: HostedFace
) -> None:
    card_id, holder = await hosted_face.holder(pin=PIN)
    card = CardRef(d1_face.sample_issuer.issuer_id, card_id)
    image = await hosted_face.image(await hosted_face.control_token("pin", holder))
    assert image.headers["x-pin-result"] == "shown"
    assert (await hosted_face.submit(await hosted_face.session(holder), "9382")).status_code == 204
    assert differences(d1_face.url, card) == []
    hide(d1_face.url, card)
    (found,) = differences(d1_face.url, card)
    assert f"pin.image of card {card_id}" in found


async def test_without_a_log_of_the_vault_it_can_hide_it(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, card = owner.d1_face.url, CardRef(owner.issuer_id, "card-1")
    assert (await owner.bank.put_pin(PIN)).status_code == 204
    write_no_log(monkeypatch)
    assert await owner.bank.pin() == PIN
    hide(url, card)
    assert differences(url, card) == []


async def test_it_cannot_say_that_a_pin_was_handed_out_that_was_not(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, card = owner.d1_face.url, CardRef(owner.issuer_id, "card-2")
    owner.run(
        "INSERT INTO audit_events (issuer_id, at, event, card_id, actor, counter, receipt)"
        " VALUES (%s, now() - interval '1 hour', 'pin.get', 'card-2', 'x', 1, '7.ab')",
        owner.issuer_id,
    )
    (found,) = differences(url, card)
    assert found.endswith(", pin.get of card card-2: no line has its receipt, 7.ab")
    # Who believes the audit alone sees nothing wrong in it.
    monkeypatch.setattr(Comparison, "_fault", lambda *_: None)
    assert differences(url, card) == []
