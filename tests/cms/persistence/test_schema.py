"""The migrations make what tables.py says, and the database itself holds the rules."""

from collections.abc import Iterator, Mapping
from typing import LiteralString

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.errors import (
    CheckViolation,
    ForeignKeyViolation,
    NotNullViolation,
    RaiseException,
    StringDataRightTruncation,
    UniqueViolation,
)

from cms.persistence import tables
from cms.persistence.admin import connect
from cms.persistence.migrate import upgrade
from cms.sandbox.machine.postgres import Postgres
from tests.deployment import TEMPLATE
from tests.given_database import downgrade
from tests.issuer_records import run_sql

CATALOG: Mapping[str, LiteralString] = {
    "columns": "SELECT table_name, ordinal_position, column_name, data_type,"
    " character_maximum_length, is_nullable, column_default, is_identity"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
    " FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}
ALEMBICS_OWN = "alembic_version"

CARD = (
    "INSERT INTO cards (issuer_id, card_id, state, sealed_record, last_four, expiry, psn)"
    " VALUES ('testbank01', 'card-1', 'active', '', '1111', '1230', 0)"
)


CHANGE = (
    "INSERT INTO pin_changes (issuer_id, card_id, counter, actor, request_key)"
    " VALUES ('testbank01', 'card-1', %s, 'somebody', %s)"
)


@pytest.fixture(scope="module")
def with_card(postgres: Postgres) -> Iterator[str]:
    """A database with a card that has a history; the tests leave it as it is."""
    postgres.create_database("with_card", template=TEMPLATE)
    url = postgres.url("with_card")
    run_sql(url, "INSERT INTO issuers (issuer_id, name) VALUES ('testbank01', 'A bank')")
    run_sql(url, CARD)
    run_sql(url, CHANGE, 1, b"key")
    run_sql(
        url, "INSERT INTO audit_events (issuer_id, event, actor) VALUES ('testbank01', 'x', 'y')"
    )
    yield url
    postgres.drop_database("with_card")


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    """A database without tables."""
    postgres.create_database("empty")
    yield postgres.url("empty")
    postgres.drop_database("empty")


def catalog(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Describe all tables of a database but for alembic's own."""
    return {
        name: sorted(row for row in map(repr_row, run_sql(url, query)) if ALEMBICS_OWN not in row)
        for name, query in CATALOG.items()
    }


def repr_row(row: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(map(str, row))


def test_the_migrations_make_what_the_tables_say(database_url: str, empty: str) -> None:
    with connect(database_url).connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
    # Alembic does not compare check constraints.
    with connect(empty).begin() as connection:
        tables.metadata.create_all(connection)
    assert catalog(database_url) == catalog(empty)


def test_the_schema_goes_away_and_comes_back(empty: str) -> None:
    upgrade(empty)
    made = catalog(empty)
    assert len(made["columns"]) > 40
    downgrade(empty)
    assert catalog(empty) == {"columns": [], "constraints": [], "indexes": []}
    assert run_sql(empty, "SELECT FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    upgrade(empty)
    assert catalog(empty) == made


def test_a_newest_schema_is_left_as_it_is(with_card: str) -> None:
    upgrade(with_card)
    assert run_sql(with_card, "SELECT counter FROM pin_changes") == [(1,)]


def test_every_key_starts_with_the_issuer(database_url: str) -> None:
    keys = run_sql(
        database_url,
        "SELECT conrelid::regclass::text, a.attname FROM pg_constraint c JOIN pg_attribute a"
        " ON a.attrelid = conrelid AND a.attnum = conkey[1] WHERE contype IN ('p', 'u')"
        " AND connamespace = 'public'::regnamespace AND conrelid::regclass::text <> %s",
        ALEMBICS_OWN,
    )
    assert {column for _, column in keys} == {"issuer_id"}
    assert {table for table, _ in keys} == set(tables.metadata.tables)


@pytest.mark.parametrize("table", ["pin_changes", "audit_events"])
@pytest.mark.parametrize("verb", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_history_and_audit_take_inserts_only(with_card: str, table: str, verb: str) -> None:
    with psycopg.connect(with_card) as connection:
        before = connection.execute(f"SELECT * FROM {table}").fetchall()
        connection.commit()
        with pytest.raises(RaiseException, match=f"{table} takes inserts only"):
            connection.execute(verb.format(table))
        connection.rollback()
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == before
        assert len(before) == 1


@pytest.mark.parametrize("table", ["issuers", "cards"])
def test_history_does_not_go_with_what_it_is_about(with_card: str, table: str) -> None:
    with psycopg.connect(with_card) as connection:
        with pytest.raises(RaiseException, match="takes inserts only"):
            connection.execute(f"TRUNCATE {table} CASCADE")
        connection.rollback()
        with pytest.raises(ForeignKeyViolation):
            connection.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE cards SET state = 'new'", CheckViolation),
        ("UPDATE cards SET state = NULL", NotNullViolation),
        ("UPDATE cards SET counter = -1", CheckViolation),
        ("UPDATE cards SET sealed_record = NULL", NotNullViolation),
        ("UPDATE cards SET last_four = '4111111111111111'", StringDataRightTruncation),
        ("UPDATE cards SET card_id = repeat('x', 49)", StringDataRightTruncation),
        ("UPDATE cards SET issuer_id = 'testbank02'", ForeignKeyViolation),
        ("UPDATE issuers SET state = 'closed'", CheckViolation),
        ("UPDATE issuers SET issuer_id = 'testbank001'", StringDataRightTruncation),
        (CARD, UniqueViolation),
        ("UPDATE cards SET card_type = 'PLASTIC'", CheckViolation),
        ("UPDATE cards SET card_type = NULL", NotNullViolation),
        ("UPDATE cards SET personalised = NULL", NotNullViolation),
        ("UPDATE cards SET plastic_id = repeat('1', 39)", StringDataRightTruncation),
        ("INSERT INTO manifests VALUES ('testbank01', 0, '')", CheckViolation),
        ("INSERT INTO manifests VALUES ('testbank02', 1, '')", ForeignKeyViolation),
        ("INSERT INTO manifest_hosts VALUES ('testbank02', 'h', 1, '')", ForeignKeyViolation),
    ],
)
def test_the_database_refuses(
    with_card: str, statement: LiteralString, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error):
        run_sql(with_card, statement)


def test_a_request_is_in_a_cards_history_once_and_so_is_a_counter(with_card: str) -> None:
    with pytest.raises(UniqueViolation, match="request_key"):
        run_sql(with_card, CHANGE, 2, b"key")
    with pytest.raises(UniqueViolation, match="pin_changes_pkey"):
        run_sql(with_card, CHANGE, 1, b"another key")
    with psycopg.connect(with_card) as connection:
        connection.execute(CHANGE, (2, b"another key"))
        connection.execute(CARD.replace("card-1", "card-2"))
        connection.execute(CHANGE.replace("card-1", "card-2"), (1, b"key"))
        connection.rollback()
