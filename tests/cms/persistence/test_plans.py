"""How statements are planned for a table that has grown, and of which there are no statistics yet.

A new deployment is so until autovacuum has looked at its tables.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, LiteralString

import psycopg
import pytest

from cms.persistence import admin, connection
from cms.persistence.address import connection_string
from cms.persistence.connection import PLANNED_ANEW_FROM, STATEMENT_SECONDS_MAX, Connection
from cms.persistence.statements import Statement
from cms.persistence.statements.control_token import READ_ISSUED_CONTROL_TOKEN
from hsm.port import CardRef
from tests.cms.persistence.patience import without_deadlines
from tests.cms.persistence.rendered_sql import request_statements
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

CARD: Final = CardRef("testbank01", "card-1")
ROWS: Final = 10_000
MANY_CONTROL_TOKENS: Final[LiteralString] = (
    "INSERT INTO control_tokens (issuer_id, token_hash, card_id, client_id, face, purpose, style,"
    " embedded, counter, grant_id, sealed_grant, expires_at)"
    " SELECT %s, sha256(n::text::bytea), %s, 'client', 'hosted', 'view', '{}', false, 0, '', '',"
    " now() FROM generate_series(1, %s::int) n"
)


STATEMENTS: Final = {
    name: statement
    for name, statement in request_statements().items()
    if "control_tokens" in statement.sql
}
PARTIAL_INDEX: Final[LiteralString] = (
    "CREATE INDEX ON control_tokens (issuer_id, card_id)"
    " WHERE consumed_at IS NULL AND ended_at IS NULL"
)
FINDS_FEW: Final = ("token_hash", "session_hash", "card_id")
"""Of an issuer's control tokens, each of these columns tells one, or those of one card."""


@pytest.fixture
def empty_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with a card and no control token, of which no statistics are made."""
    without_deadlines(monkeypatch)
    run_sql(database_url, "ALTER TABLE control_tokens SET (autovacuum_enabled = false)")
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, CARD.issuer_id, "A bank")
        store_card(database, CARD)
    return database_url


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[Connection]:
    opened = await Connection.open(connection_string(empty_database))
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


@pytest.mark.anyio
async def test_a_table_that_has_grown_is_not_read_whole(
    empty: Connection, database_url: str
) -> None:
    await read_control_tokens(empty, PLANNED_ANEW_FROM // 2)
    assert "token_hash" not in await key_of_its_plan(empty)
    run_sql(database_url, MANY_CONTROL_TOKENS, CARD.issuer_id, CARD.card_id, ROWS)
    await read_control_tokens(empty, PLANNED_ANEW_FROM)
    assert "token_hash" in await key_of_its_plan(empty)


@pytest.mark.anyio
async def test_it_is_read_whole_by_a_plan_that_stays(
    empty: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PLANNED_ANEW_FROM", 1_000_000)
    await read_control_tokens(empty, PLANNED_ANEW_FROM // 2)
    run_sql(database_url, MANY_CONTROL_TOKENS, CARD.issuer_id, CARD.card_id, ROWS)
    await read_control_tokens(empty, PLANNED_ANEW_FROM)
    assert "token_hash" not in await key_of_its_plan(empty)


def scans(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Find each part of a plan that reads control tokens."""
    # A bitmap is of an index, and its reader has its conditions again.
    if plan.get("Relation Name") == "control_tokens" and plan["Node Type"] != "ModifyTable":
        yield plan
    for part in plan.get("Plans", ()):
        yield from scans(part)


def read_of_an_issuer(url: str) -> set[str]:
    """Name the statements that read more of an issuer's control tokens than those of one card."""
    with psycopg.connect(url) as connection:
        plans = {}
        for name, statement in STATEMENTS.items():
            explain = b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + statement.numbered
            (((described,),),) = connection.execute(explain).fetchall()
            plans[name] = [*scans(described["Plan"])]
    assert all(plans.values())
    return {
        name
        for name, read in plans.items()
        for one in read
        if not any(x in str(one.get("Index Cond", one.get("Recheck Cond"))) for x in FINDS_FEW)
    }


def test_no_statement_reads_the_control_tokens_of_an_issuer(empty_database: str) -> None:
    run_sql(empty_database, MANY_CONTROL_TOKENS, CARD.issuer_id, CARD.card_id, ROWS)
    assert not read_of_an_issuer(empty_database)


def test_an_index_of_the_usable_ones_would_have_them_read(empty_database: str) -> None:
    run_sql(empty_database, PARTIAL_INDEX)
    run_sql(empty_database, MANY_CONTROL_TOKENS, CARD.issuer_id, CARD.card_id, ROWS)
    assert {"CONSUME_CONTROL_TOKEN", "READ_LIVE_CONTROL_TOKEN"} <= read_of_an_issuer(empty_database)
