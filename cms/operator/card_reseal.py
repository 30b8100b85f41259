"""What is stored of cards goes under the active keys: read, resealed by the vault, stored.

A batch of cards is stored in a transaction of its own, each card only if it is still as it was
read; one that changed meanwhile is taken again in the next pass. Whoever is interrupted starts
again: what is under the active keys is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cms.operator.pace import Pace
from cms.persistence import reseal
from cms.persistence.admin import Database
from hsm.admin_client import AdminCalls
from hsm.messages import ERRORS, Reseal
from hsm.port import Beginnings, CardRef, ResealedCard, StoredCard

CARDS_AT_ONCE: Final = 500
"""In a transaction."""
PASSES_MAX: Final = 5
NOT_NEWEST: Final = "its counter is not the newest of its history"


@dataclass(slots=True)
class Report:
    """What became of the cards of one issuer."""

    resealed: int = 0
    skipped: int = 0
    """Under the active keys already."""
    refused: dict[CardRef, str] = field(default_factory=dict)
    """Of which not all was resealed, and why."""
    left: int = 0
    """That are not under the active keys, whatever the reason."""


@dataclass
class CardReseal:
    """Reseals cards of issuers; no transaction is open while the vault works."""

    database: Database
    vault: AdminCalls
    pace: Pace

    def count_left(self, issuer_id: str) -> int:
        """Count the cards of an issuer that are not under the active keys."""
        left = reseal.count_left(self.database, issuer_id, self._ask_beginnings())
        self.database.commit()
        return left

    def run(self, issuer_id: str, show: Callable[[int], object]) -> Report:
        """Reseal the cards of an issuer.

        Args:
            issuer_id: whose cards.
            show: is told of the first pass how many more cards it has seen.

        Raises:
            VaultUnavailable: the vault is unavailable; what was stored stays so.
        """
        report, before = Report(), self.count_left(issuer_id)
        report.skipped = reseal.count_cards(self.database, issuer_id) - before
        for _ in range(PASSES_MAX):
            stored = sum(self._batches(issuer_id, report, show))
            show = _show_nothing
            report.resealed += stored
            report.left = self.count_left(issuer_id)
            if report.left <= len(report.refused):
                break
        return report

    def _batches(
        self, issuer_id: str, report: Report, show: Callable[[int], object]
    ) -> Iterator[int]:
        """Reseal a batch after the other; yield how many cards of each were stored."""
        after, beginnings = "", self._ask_beginnings()
        while True:
            found = reseal.cards_left(
                self.database, issuer_id, beginnings, after=after, count_max=CARDS_AT_ONCE
            )
            self.database.commit()
            if not found:
                return
            after = found[-1][0].card.card_id
            for stored, newest in found:
                if stored.counter != newest:
                    report.refused[stored.card] = NOT_NEWEST
            sound = [stored for stored, newest in found if stored.counter == newest]
            changes = [*self._changes(sound, report)]
            yield reseal.store_resealed(self.database, issuer_id, changes)
            self.database.commit()
            show(len(found))

    def _changes(
        self, cards: Sequence[StoredCard], report: Report
    ) -> Iterator[tuple[StoredCard, StoredCard]]:
        """Have the vault reseal cards; yield those of which a part was, and how they are then."""
        start = 0
        while some := cards[start : start + self.pace.count]:
            start += len(some)
            with self.pace.call(len(some)):
                answer = self.vault.call(Reseal(some))
            for stored, resealed in zip(some, answer.cards, strict=True):
                report.refused.pop(stored.card, None)
                if resealed.refused:
                    report.refused[stored.card] = _reasons(resealed)
                changed = changed_by(stored, resealed)
                if changed != stored:
                    yield stored, changed

    def _ask_beginnings(self) -> Beginnings:
        return self.vault.call(Reseal([])).beginnings


def changed_by(stored: StoredCard, resealed: ResealedCard) -> StoredCard:
    """Return how a card is to be stored then."""
    return replace(
        stored,
        sealed_record=resealed.sealed_record or stored.sealed_record,
        sealed_pin=resealed.sealed_pin or stored.sealed_pin,
        values={**stored.values, **resealed.values},
    )


def _reasons(resealed: ResealedCard) -> str:
    """Say why, part by part."""
    return "; ".join(f"{part}: {ERRORS[name].__doc__}" for part, name in resealed.refused.items())


def _show_nothing(_: int) -> None:
    """Later passes see cards a second time."""
