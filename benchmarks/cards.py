"""Cards a second that come in by feeds, on one core and through one Postgres.

*make-feed* reads JSON lines and writes feeds; *seal_cards* is the vault's part of an import;
*import, new* and *import, renewal* are all of it, from the feed to the commit of each. Cards bring
no PIN; half of those that are renewed change their holder.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final

from sqlalchemy import Connection

from benchmarks.deployment import (
    ISSUER,
    database,
    described,
    directory_and_hsm_token,
    make_issuer,
    serving_vault,
)
from benchmarks.measure import heading, machine
from cms.operator.card_import import CardImport
from cms.persistence import admin
from hsm.admin_client import AdminClient
from hsm.feed_writer import FeedWriter
from hsm.feeds import CARDS_MAX
from hsm.messages import SealCards

ROUNDS: Final = 5
FEEDS: Final = 8
"""In a round."""
CARDS: Final = FEEDS * CARDS_MAX
GOAL_A_SECOND: Final = 3000
"""Of new cards, in a worker."""
SILENCE_SECONDS: Final = 60.0


def lines(first: int, holder: str | None = None) -> Sequence[bytes]:
    """Describe the cards of a round, a line each; half of them get another holder, if any."""
    cards = (described(number) for number in range(first, first + CARDS))
    return [
        json.dumps(card | ({"cardholder": holder} if holder and number % 2 else {})).encode()
        for number, card in enumerate(cards)
    ]


def feeds(writer: FeedWriter, described_cards: Sequence[bytes]) -> list[str]:
    """Write feeds of cards that are right."""
    return [str(one) for one in writer.feeds(described_cards, lambda _: None)]


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Note how long the block takes."""
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


def load(connection: Connection, vault: AdminClient, made: Sequence[str]) -> None:
    """Import feeds; each card must be taken."""
    importing = CardImport(connection, vault, ISSUER)
    results = [*importing.run(feed.encode() for feed in made)]
    assert sum(one.added + one.renewed for one in results) == CARDS, "a card was refused"


def main() -> int:
    """Measure and print."""
    heading(f"Cards by feeds · {machine()}")
    seconds: dict[str, list[float]] = defaultdict(list)
    with directory_and_hsm_token() as (directory, hsm_token):
        issuer = make_issuer(directory, hsm_token, "https://localhost", cards=0)
        writer = issuer.feed_writer
        with (
            database(directory, issuer) as (url, _),
            serving_vault(directory, 1, "https://localhost"),
            AdminClient(directory / "sockets", SILENCE_SECONDS) as vault,
            admin.connect(url).connect() as connection,
        ):
            for number in range(ROUNDS):
                new = lines(number * CARDS)
                with timed(seconds["make-feed"]):
                    made = feeds(writer, new)
                with timed(seconds["seal_cards"]):
                    for feed in made:
                        vault.call(SealCards(feed, ISSUER))
                with timed(seconds["import, new"]):
                    load(connection, vault, made)
                made = feeds(writer, lines(number * CARDS, f"holder-{number}"))
                with timed(seconds["import, renewal"]):
                    load(connection, vault, made)
    print(f"{'':<20}{'goal/s':>8}{'median/s':>10}   rounds")
    for name, each in seconds.items():
        goal = GOAL_A_SECOND if name == "import, new" else ""
        listed = " ".join(f"{CARDS / taken:.0f}" for taken in each)
        print(f"{name:<20}{goal:>8}{CARDS / median(each):>10.0f}   {listed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
