"""Cards in the database of a test that needs no vault: what is sealed there opens nowhere."""

from cms.persistence import card_feeds
from cms.persistence.admin import Database
from hsm.port import CardRef

COLUMNS = {
    "state": "active",
    "sealed_record": b"sealed record",
    "last_four": "1111",
    "expiry": "1230",
    "psn": 0,
}


def store_card(database: Database, card: CardRef, **columns: object) -> None:
    """Add a card, with these columns beside or in place of those of every one here."""
    row = {**COLUMNS, **columns, "card_id": card.card_id}
    card_feeds.add_cards(database, card.issuer_id, [row])
