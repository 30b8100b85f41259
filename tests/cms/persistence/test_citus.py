"""Tables and statements keep the rules of Citus, and each rule catches what breaks it.

No Citus runs here: ``make citus-test`` runs the project's statements on one (docs/scaling.md).
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from cms.persistence.migrate import PYPROJECT
from cms.persistence.tables import metadata
from tests.cms.persistence.citus_rules import faults, table_faults
from tests.cms.persistence.rendered_sql import request_statements

ROOT: Final = Path(__file__).resolve().parents[3]
DISTRIBUTE: Final = (ROOT / "deploy" / "citus" / "distribute.sql").read_text(encoding="utf-8")
REFERENCE: Final = re.findall(r"create_reference_table\('(\w+)'\)", DISTRIBUTE)
DISTRIBUTED: Final = re.findall(r"create_distributed_table\('(\w+)', 'issuer_id'", DISTRIBUTE)
#: They ask a server of itself, and no table of ours.
OF_A_SERVER: Final = {"READ_CONNECTION", "LIMIT_CONNECTION", "READ_FITNESS"}
STATEMENTS: Final = {
    name: statement.sql
    for name, statement in request_statements().items()
    if name not in OF_A_SERVER
}
FOREIGN_KEY: Final = re.compile(r"ALTER TABLE (\w+)\s+(DROP|ADD) CONSTRAINT (\w+)")


def migration() -> Sequence[str]:
    """Render what the migrations do, a statement each."""
    buffer = io.StringIO()
    options = {"as_sql": True, "output_buffer": buffer, "target_metadata": metadata}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    scripts = list(ScriptDirectory.from_config(Config(toml_file=PYPROJECT)).walk_revisions())
    with Operations.context(context):
        for script in reversed(scripts):
            script.module.upgrade()
    return [each.strip() for each in re.split(r";\n\n", buffer.getvalue()) if each.strip()]


DDL: Final = migration()


def of_kind(*kinds: str) -> Sequence[str]:
    return [each for each in DDL if each.startswith(kinds)]


def test_every_table_is_split_by_issuer_or_copied_to_every_server() -> None:
    ours = {*metadata.tables, "alembic_version"}
    assert sorted([*REFERENCE, *DISTRIBUTED]) == sorted(ours)


def test_the_tables_can_be_split_by_issuer() -> None:
    made = of_kind("CREATE TABLE", "CREATE INDEX", "CREATE UNIQUE INDEX")
    assert len(made) >= len(metadata.tables)
    assert table_faults(made, DISTRIBUTED) == []


def test_foreign_keys_are_away_for_as_long_as_tables_are_being_split() -> None:
    changes = FOREIGN_KEY.findall(DISTRIBUTE)
    dropped = [(table, name) for table, what, name in changes if what == "DROP"]
    added = [(table, name) for table, what, name in changes if what == "ADD"]
    expected = [
        (table.name, key.name)
        for table in metadata.tables.values()
        for key in table.foreign_key_constraints
    ]
    assert sorted(dropped) == sorted(added) == sorted(expected)
    places = [DISTRIBUTE.index(word) for word in ("DROP CONSTRAINT", "ADD CONSTRAINT")]
    split = [DISTRIBUTE.index(f"create_distributed_table('{name}'") for name in DISTRIBUTED]
    assert places[0] < min(split)
    assert max(split) < places[1]


def test_triggers_are_on_tables_for_which_they_are_allowed() -> None:
    assert len(of_kind("CREATE TRIGGER")) == 2
    assert DISTRIBUTE.index("enable_unsafe_triggers = on") < DISTRIBUTE.index("create_distributed")


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_runs_on_one_shard(name: str) -> None:
    assert faults(STATEMENTS[name], DISTRIBUTED) == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_forgot_one_comparison_would_be_found(name: str) -> None:
    sql = STATEMENTS[name]
    for comparison in re.finditer(r"(\w+)\.issuer_id = %\(issuer_id\)s::VARCHAR", sql):
        if comparison[1] in {"issuers", "manifests"}:
            continue
        forgetful = sql[: comparison.start()] + "true" + sql[comparison.end() :]
        assert f"{comparison[1]} is on no one shard" in faults(forgetful, DISTRIBUTED)


MINE = "cards.issuer_id = %(issuer_id)s::VARCHAR"
LAZY = "a function that is not immutable, in CASE or COALESCE"
OF_COLUMN = "a function that is not immutable, of a column"


def broken_statements() -> Iterator[tuple[str, str, list[str]]]:
    """Name what breaks a rule, and what is said of it."""
    yield (
        "joined without the parameter",
        f"SELECT cards.state FROM cards JOIN pin_changes AS p ON p.issuer_id = cards.issuer_id"
        f" WHERE {MINE}",
        ["p is on no one shard"],
    )
    yield (
        "of every issuer",
        "DELETE FROM control_tokens WHERE control_tokens.expires_at < now()",
        ["control_tokens is on no one shard"],
    )
    yield (
        "a subquery that is correlated only",
        f"SELECT (SELECT max(p.counter) FROM pin_changes AS p WHERE p.issuer_id = cards.issuer_id)"
        f" FROM cards WHERE {MINE}",
        ["p is on no one shard"],
    )
    yield (
        "an outer join",
        f"SELECT cards.state FROM cards LEFT JOIN issuers AS i ON i.issuer_id = cards.issuer_id"
        f" WHERE {MINE}",
        ["an outer join"],
    )
    yield (
        "volatile",
        f"UPDATE cards SET pin_changed_at = clock_timestamp() WHERE {MINE}",
        ["clock_timestamp may be volatile"],
    )
    yield (
        "drawn in an insert",
        "INSERT INTO audit_events (issuer_id, event_id) SELECT %(issuer_id)s, nextval('s')",
        ["nextval may be volatile"],
    )
    yield (
        "random",
        f"UPDATE cards SET card_id = gen_random_uuid() WHERE {MINE}",
        ["Uuid may be volatile"],
    )
    yield (
        "time in CASE",
        f"UPDATE cards SET pin_changed_at = CASE WHEN cards.counter > 1 THEN now() END"
        f" WHERE {MINE}",
        [LAZY],
    )
    yield (
        "time in COALESCE",
        f"DELETE FROM cards WHERE {MINE} AND coalesce(cards.pin_changed_at, now()) < %(then)s",
        [LAZY],
    )
    yield (
        "time and interval, of a column",
        f"UPDATE cards SET pin_changed_at = cards.created_at + '1 day'::interval WHERE {MINE}",
        [OF_COLUMN],
    )
    yield (
        "as many seconds as a column says",
        f"UPDATE cards SET pin_changed_at = now() + cards.psn * '1 s'::interval WHERE {MINE}",
        [OF_COLUMN],
    )
    yield (
        "time in RETURNING",
        f"UPDATE cards SET psn = 0 WHERE {MINE} RETURNING now()",
        ["a function that is not immutable, in RETURNING"],
    )
    yield (
        "time in ON CONFLICT",
        "INSERT INTO cards (issuer_id, psn) VALUES (%(issuer_id)s, 1)"
        " ON CONFLICT (issuer_id) DO UPDATE SET created_at = now()",
        ["a function that is not immutable, in ON CONFLICT"],
    )
    yield (
        "what another part wrote",
        f"WITH done AS (UPDATE cards SET state = 'closed' WHERE {MINE} RETURNING cards.card_id)"
        f" SELECT cards.state FROM cards WHERE {MINE}",
        ["cards is read after it was written"],
    )
    yield (
        "a lock of two tables",
        f"SELECT cards.state FROM cards, issuers WHERE {MINE} FOR UPDATE",
        ["a lock of more than one table"],
    )
    yield (
        "given to another issuer",
        f"UPDATE cards SET issuer_id = %(other)s WHERE {MINE}",
        ["SET issuer_id"],
    )
    yield (
        "an insert of no issuer",
        "INSERT INTO audit_events (event) SELECT 'x'",
        ["INSERT INTO audit_events without issuer_id"],
    )
    yield (
        "a subquery in VALUES",
        "INSERT INTO audit_events (issuer_id, event) VALUES (%(issuer_id)s, (SELECT 'x'))",
        ["a subquery in VALUES"],
    )
    yield (
        "a row that another issuer may have",
        "INSERT INTO cards (issuer_id, card_id) VALUES (%(issuer_id)s, 'x')"
        " ON CONFLICT (card_id) DO NOTHING",
        ["ON CONFLICT without issuer_id"],
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [pytest.param(sql, said, id=name) for name, sql, said in broken_statements()],
)
def test_a_statement_that_breaks_a_rule_is_found(sql: str, expected: list[str]) -> None:
    assert faults(sql, DISTRIBUTED) == expected


CARDS = "CREATE TABLE cards (issuer_id VARCHAR(10) NOT NULL, card_id TEXT, {})"


@pytest.mark.parametrize(
    ("ddl", "expected"),
    [
        (CARDS.format("PRIMARY KEY (card_id)"), ["cards has a key without issuer_id"]),
        (
            CARDS.format("PRIMARY KEY (issuer_id, card_id), UNIQUE (card_id)"),
            ["cards has a key without issuer_id"],
        ),
        (CARDS.format("psn TEXT PRIMARY KEY"), ["cards has a key without issuer_id"]),
        (
            "CREATE TABLE cards (issuer_id TEXT, PRIMARY KEY (issuer_id))",
            ["cards has no issuer_id of its own"],
        ),
        (
            CARDS.format("FOREIGN KEY (card_id) REFERENCES cards (card_id)"),
            ["cards refers to cards without issuer_id"],
        ),
        (
            CARDS.format("FOREIGN KEY (issuer_id) REFERENCES cards (card_id)"),
            ["cards refers to cards without issuer_id"],
        ),
        (CARDS.format("n SERIAL"), ["cards.n is drawn from fewer than 64 bits"]),
        (
            CARDS.format("n INTEGER GENERATED ALWAYS AS IDENTITY"),
            ["cards.n is drawn from fewer than 64 bits"],
        ),
        (CARDS.format("n UUID DEFAULT gen_random_uuid()"), ["cards.n has a volatile default"]),
    ],
)
def test_a_table_that_breaks_a_rule_is_found(ddl: str, expected: list[str]) -> None:
    assert table_faults([ddl], ["cards"]) == expected


def test_a_unique_index_of_a_split_table_names_its_issuer() -> None:
    made = CARDS.format("PRIMARY KEY (issuer_id, card_id)")
    index = "CREATE UNIQUE INDEX x ON cards ({})"
    assert table_faults([made, index.format("issuer_id, card_id")], ["cards"]) == []
    found = table_faults([made, index.format("card_id")], ["cards"])
    assert found == ["cards has a unique index without issuer_id"]


def test_a_table_that_is_copied_refers_to_none_that_is_split() -> None:
    made = CARDS.format("PRIMARY KEY (issuer_id, card_id)")
    copied = "CREATE TABLE hosts (issuer_id VARCHAR(10), FOREIGN KEY (issuer_id) REFERENCES {})"
    found = table_faults([made, copied.format("cards (issuer_id)")], ["cards"])
    assert found == ["hosts, of which each server has a copy, refers to cards"]
