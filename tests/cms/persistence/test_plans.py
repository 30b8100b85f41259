"""What was planned while a table was empty is planned anew when it is full, without statistics."""

from collections.abc import AsyncIterator
from typing import Final, LiteralString

import pytest

from cms.persistence import admin, connection
from cms.persistence.address import connection_string
from cms.persistence.connection import PLANNED_ANEW_FROM, STATEMENT_SECONDS_MAX, Connection
from cms.persistence.statements import Statement
from cms.persistence.statements.control_token import READ_ISSUED_CONTROL_TOKEN
from hsm.port import CardRef
from tests.cms.persistence.patience import without_deadlines
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

pytestmark = pytest.mark.anyio
CARD: Final = CardRef("testbank01", "card-1")
ROWS: Final = 10_000
MANY_CONTROL_TOKENS: Final[LiteralString] = (
    "INSERT INTO control_tokens (issuer_id, token_hash, card_id, client_id, face, purpose, style,"
    " embedded, counter, grant_id, sealed_grant, expires_at)"
    " SELECT %s, sha256(n::text::bytea), %s, 'client', 'hosted', 'view', '{}', false, 0, '', '',"
    " now() FROM generate_series(1, %s::int) n"
)


@pytest.fixture
async def empty(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    """A connection to a database without control tokens, of which no statistics are made."""
    without_deadlines(monkeypatch)
    run_sql(database_url, "ALTER TABLE control_tokens SET (autovacuum_enabled = false)")
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, CARD.issuer_id, "A bank")
        store_card(database, CARD)
    opened = await Connection.open(connection_string(database_url))
    yield opened
    opened.close()


async def read_control_tokens(opened: Connection, times: int) -> None:
    values = {"issuer_id": CARD.issuer_id, "token_hash": b"none"}
    for _ in range(times):
        await opened.rows(READ_ISSUED_CONTROL_TOKEN, values, seconds=STATEMENT_SECONDS_MAX)


async def key_of_its_plan(opened: Connection) -> str:
    """Return by what the connection's plan has an index asked for control tokens."""
    name, _ = opened._prepared[READ_ISSUED_CONTROL_TOKEN]
    explain = Statement.of(f"EXPLAIN EXECUTE {name.decode()}('', '')", {})
    lines = await opened.rows(explain, {}, seconds=STATEMENT_SECONDS_MAX)
    return next(str(line) for (line,) in lines if "Index Cond" in line)


async def test_a_table_that_has_grown_is_not_read_whole(
    empty: Connection, database_url: str
) -> None:
    await read_control_tokens(empty, PLANNED_ANEW_FROM // 2)
    assert "token_hash" not in await key_of_its_plan(empty)
    run_sql(database_url, MANY_CONTROL_TOKENS, CARD.issuer_id, CARD.card_id, ROWS)
    await read_control_tokens(empty, PLANNED_ANEW_FROM)
    assert "token_hash" in await key_of_its_plan(empty)


async def test_it_is_read_whole_by_a_plan_that_stays(
    empty: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PLANNED_ANEW_FROM", 1_000_000)
    await read_control_tokens(empty, PLANNED_ANEW_FROM // 2)
    run_sql(database_url, MANY_CONTROL_TOKENS, CARD.issuer_id, CARD.card_id, ROWS)
    await read_control_tokens(empty, PLANNED_ANEW_FROM)
    assert "token_hash" not in await key_of_its_plan(empty)
