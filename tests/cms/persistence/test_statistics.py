"""What Postgres knows of the tables after an operator had it look."""

import psycopg
import pytest

from cms.persistence import admin
from cms.persistence.statements import Statement
from cms.persistence.statements.d1 import READ_COUNTER, READ_FOR_SET
from tests.issuer_records import run_sql

ISSUER = "testbank01"
CARDS = 200


@pytest.fixture
def cards(database_url: str) -> str:
    """A database into which many cards came at once."""
    run_sql(database_url, "INSERT INTO issuers (issuer_id, name) VALUES (%s, 'A bank')", ISSUER)
    run_sql(
        database_url,
        "INSERT INTO cards (issuer_id, card_id, state, sealed_record, last_four, expiry, psn)"
        " SELECT %s, 'card-' || n, 'active', repeat('x', 380)::bytea, '1111', '0131', 0"
        " FROM generate_series(1, %s) n",
        *(ISSUER, CARDS),
    )
    return database_url


def plan(url: str, statement: Statement) -> str:
    with psycopg.connect(url) as connection:
        return str(connection.execute(b"EXPLAIN (GENERIC_PLAN) " + statement.numbered).fetchall())


def test_a_card_is_found_by_its_key_and_not_among_all_of_its_issuer(cards: str) -> None:
    with admin.transaction(cards) as database:
        admin.analyze(database)
    assert "Index Scan using cards_pkey" in plan(cards, READ_COUNTER)


def test_a_history_that_has_not_begun_is_not_planned_to_be_read_whole(cards: str) -> None:
    with admin.transaction(cards) as database:
        admin.analyze(database)
    assert "Seq Scan" not in plan(cards, READ_FOR_SET)
    run_sql(cards, "ANALYZE")
    assert "Seq Scan on pin_changes" in plan(cards, READ_FOR_SET)
