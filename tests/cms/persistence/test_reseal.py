"""Cards that are under other keys, and their new values in the database."""

from dataclasses import replace

import psycopg
import pytest

from cms.persistence import admin, reseal
from cms.persistence.tables import VALUE_COLUMNS
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import Beginnings, CardRef, SealedPin, SealedRecord, SealedValue, StoredCard
from hsm.sealed import beginning
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

ISSUER_ID, OTHER_ISSUER_ID = "testbank01", "testbank02"
ROLES = (KeyRole.RECORD, KeyRole.PIN, KeyRole.VALUES)
NEW = Beginnings(*(beginning(KeyLabel(role, 2)) for role in ROLES))
COLUMNS = ("sealed_record", "sealed_pin", *(column.name for column in VALUE_COLUMNS.values()))


def sealed(role: KeyRole, generation: int) -> bytes:
    return beginning(KeyLabel(role, generation)) + b"the rest"


def columns(generation: int) -> dict[str, bytes]:
    values = dict.fromkeys(COLUMNS[2:], sealed(KeyRole.VALUES, generation))
    record, pin = sealed(KeyRole.RECORD, generation), sealed(KeyRole.PIN, generation)
    return {"sealed_record": record, "sealed_pin": pin, **values}


@pytest.fixture
def url(database_url: str) -> str:
    """Two issuers, of which the first has five cards under the first generation."""
    with admin.transaction(database_url) as database:
        for issuer_id in (ISSUER_ID, OTHER_ISSUER_ID):
            admin.add_issuer(database, issuer_id, "A bank")
        for number in range(5):
            store_card(database, CardRef(ISSUER_ID, f"card-{number}"), **columns(1))
        store_card(database, CardRef(OTHER_ISSUER_ID, "card-0"), **columns(1))
    return database_url


def left(url: str, after: str = "", count_max: int = 100) -> list[StoredCard]:
    with admin.transaction(url) as database:
        found = reseal.read_left(database, ISSUER_ID, NEW, after=after, count_max=count_max)
        return [stored for stored, newest in found if newest == stored.counter]


def resealed(stored: StoredCard) -> StoredCard:
    return replace(
        stored,
        sealed_record=SealedRecord(sealed(KeyRole.RECORD, 2)),
        sealed_pin=stored.sealed_pin and SealedPin(sealed(KeyRole.PIN, 2)),
        values=dict.fromkeys(stored.values, SealedValue(sealed(KeyRole.VALUES, 2))),
    )


def store(url: str, cards: list[StoredCard]) -> int:
    with admin.transaction(url) as database:
        changes = [(stored, resealed(stored)) for stored in cards]
        return reseal.store(database, ISSUER_ID, changes)


def names(cards: list[StoredCard]) -> list[str]:
    return [stored.card.card_id for stored in cards]


def test_cards_are_read_page_by_page_with_all_that_is_stored_of_them(url: str) -> None:
    (first, second), rest = left(url, count_max=2), left(url, after="card-1")
    assert names([first, second, *rest]) == [f"card-{number}" for number in range(5)]
    assert first.sealed_record == columns(1)["sealed_record"]
    assert first.values.keys() == VALUE_COLUMNS.keys()


@pytest.mark.parametrize("column", COLUMNS)
def test_a_card_is_left_when_any_of_its_values_is(url: str, column: str) -> None:
    assert store(url, left(url)) == 5
    assert left(url) == []
    old = columns(1)[column]
    with psycopg.connect(url) as connection:
        connection.execute(
            psycopg.sql.SQL("UPDATE cards SET {} = %s WHERE card_id = 'card-3'").format(
                psycopg.sql.Identifier(column)
            ),
            (old,),
        )
    with admin.transaction(url) as database:
        assert reseal.count_left(database, ISSUER_ID, NEW) == 1
        assert reseal.count_all(database, ISSUER_ID) == 5
    assert names(left(url)) == ["card-3"]


def test_what_a_card_does_not_have_is_not_left(url: str) -> None:
    emptied = ", ".join(f"{column} = NULL" for column in COLUMNS[1:])
    run_sql(url, f"UPDATE cards SET {emptied}")
    assert store(url, left(url)) == 5
    assert left(url) == []
    rows = run_sql(url, "SELECT sealed_pin, sealed_pvv FROM cards WHERE issuer_id = 'testbank01'")
    assert rows == [(None, None)] * 5


@pytest.mark.parametrize("edit", ["counter = 1", *(f"{column} = 'new'" for column in COLUMNS)])
def test_a_card_that_changed_since_it_was_read_stays_as_it_is(url: str, edit: str) -> None:
    cards = left(url)
    run_sql(url, f"UPDATE cards SET {edit} WHERE card_id = 'card-2'")
    before = run_sql(url, "SELECT * FROM cards WHERE card_id = 'card-2'")
    assert store(url, cards) == 4
    assert run_sql(url, "SELECT * FROM cards WHERE card_id = 'card-2'") == before


def test_a_pin_that_was_forgotten_meanwhile_does_not_come_back(url: str) -> None:
    cards = left(url)
    run_sql(url, "UPDATE cards SET sealed_pin = NULL WHERE card_id = 'card-2'")
    assert store(url, cards) == 4
    assert run_sql(url, "SELECT sealed_pin FROM cards WHERE card_id = 'card-2'") == [(None,)]


def test_what_does_not_concern_what_is_sealed_may_change_meanwhile(url: str) -> None:
    cards = left(url)
    run_sql(url, "UPDATE cards SET state = 'blocked' WHERE card_id = 'card-2'")
    assert store(url, cards) == 5
    assert run_sql(url, "SELECT state FROM cards WHERE card_id = 'card-2'") == [("blocked",)]


def test_nobody_waits_for_a_card_that_somebody_holds(url: str) -> None:
    cards = left(url)
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM cards WHERE card_id = 'card-2' FOR UPDATE")
        assert store(url, cards) == 4
    assert names(left(url)) == ["card-2"]


def test_a_batch_of_one_issuer_is_one_row_of_its_audit(url: str) -> None:
    store(url, left(url))
    store(url, [])
    events = run_sql(
        url,
        "SELECT issuer_id, actor, reason, card_id FROM audit_events WHERE event = 'cards.resealed'",
    )
    assert events == [(ISSUER_ID, "operator", "5 cards", None)]
    theirs = run_sql(url, "SELECT sealed_pin FROM cards WHERE issuer_id = %s", OTHER_ISSUER_ID)
    assert theirs == [(columns(1)["sealed_pin"],)]
    with admin.transaction(url) as database:
        assert reseal.issuer_ids(database) == [ISSUER_ID, OTHER_ISSUER_ID]
