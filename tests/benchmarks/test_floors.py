"""The statements that benchmarks run alone are those of the service, with all that they take."""

import pytest

from benchmarks import floors
from benchmarks.deployment import ISSUER
from cms.persistence import admin
from hsm.port import CardRef
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

CARDS = [f"card-{number:04}" for number in range(2)]
SECONDS = 0.0
"""Each connection runs them once."""


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the issuer of the benchmarks and two of its cards."""
    monkeypatch.setattr(floors, "CARDS", len(CARDS))
    monkeypatch.setattr(floors, "CONNECTIONS", len(CARDS))
    with admin.connect(database_url).begin() as connection:
        admin.add_issuer(connection, ISSUER, "Benchmark bank")
        for card_id in CARDS:
            store_card(connection, CardRef(ISSUER, card_id))
    return database_url


def test_the_statements_of_a_put_change_a_pin(url: str) -> None:
    assert floors.commit_seconds(url, 0, 1, SECONDS) >= 0
    ((changes,),) = run_sql(url, "SELECT count(*) FROM pin_changes")
    assert changes >= len(CARDS)


def test_the_statements_of_an_image_consume_control_tokens(url: str) -> None:
    hashes = floors.stock_tokens(url, CARDS)
    assert floors.consume_seconds(url, hashes, SECONDS) >= 0
    ((consumed,),) = run_sql(
        url, "SELECT count(*) FROM control_tokens WHERE consumed_at IS NOT NULL"
    )
    assert consumed >= len(CARDS)
