"""What is stored of cards goes under the active keys: read, resealed by the vault, stored.

A batch of cards is stored in a transaction of its own, each card only if it is still as it was
read; one that changed meanwhile is taken again in the next pass. Whoever is interrupted starts
again: what is under the active keys is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeAlias

from cms.operator.pace import Pace
from cms.persistence import earlier_pins, reseal
from cms.persistence.admin import Database
from hsm.admin_client import AdminCalls
from hsm.messages import ERRORS, Reseal
from hsm.port import Beginnings, CardRef, ResealedCard, StoredCard

CARDS_AT_ONCE: Final = 200
"""In a transaction, which holds their rows until its commit."""
PASSES_MAX: Final = 5
_Answers: TypeAlias = Sequence[tuple[StoredCard, ResealedCard]]
NOT_NEWEST: Final = "its counter is not the newest of its history"


@dataclass(slots=True)
class Report:
    """What became of the cards of one issuer."""

    resealed: int = 0
    skipped: int = 0
    """Under the active keys already."""
    refused: dict[tuple[CardRef, int], str] = field(default_factory=dict)
    """Of which not all was resealed, by card and counter, and why."""
    left: int = 0
    """That are not under the active keys, whatever the reason."""


class Stock(Protocol):
    """What is stored in one table, as :mod:`cms.persistence.reseal` reads and writes cards."""

    def count_all(self, database: Database, issuer_id: str) -> int:
        """Count all that an issuer has."""
        ...

    def count_left(self, database: Database, issuer_id: str, beginnings: Beginnings) -> int:
        """Count what is not under the active keys."""
        ...

    def read_left(
        self,
        database: Database,
        issuer_id: str,
        beginnings: Beginnings,
        *,
        after: str,
        count_max: int,
    ) -> Sequence[tuple[StoredCard, int]]:
        """Read the next of it."""
        ...

    def store(
        self,
        database: Database,
        issuer_id: str,
        changes: Sequence[tuple[StoredCard, StoredCard]],
    ) -> int:
        """Store what is resealed."""
        ...


#: Cards first: an earlier PIN needs its card's record.
STOCKS: Final[Sequence[Stock]] = (reseal, earlier_pins)


@dataclass
class CardReseal:
    """Reseals cards of issuers; while the vault has a batch, the one before is stored."""

    database: Database
    vault: AdminCalls
    pace: Pace

    def count_left(self, issuer_id: str) -> int:
        """Count what an issuer has that is not under the active keys."""
        return sum(self._count_left(stock, issuer_id) for stock in STOCKS)

    def run(self, issuer_id: str, show: Callable[[int], object]) -> Report:
        """Reseal the cards of an issuer, and the earlier PINs that wait for a chip.

        Args:
            issuer_id: whose cards.
            show: is told, in the first pass, how many more are done with.

        Raises:
            VaultUnavailable: the vault is unavailable; what was stored stays so.
        """
        report = Report()
        for stock in STOCKS:
            self._run(stock, issuer_id, report, show)
        return report

    def _run(
        self, stock: Stock, issuer_id: str, report: Report, show: Callable[[int], object]
    ) -> None:
        left, refused_before = self._count_left(stock, issuer_id), len(report.refused)
        report.skipped += stock.count_all(self.database, issuer_id) - left
        for _ in range(PASSES_MAX):
            if left <= len(report.refused) - refused_before:
                break
            self._pass(stock, issuer_id, report, show)
            show = _show_nothing
            left = self._count_left(stock, issuer_id)
        report.left += left

    def _count_left(self, stock: Stock, issuer_id: str) -> int:
        left = stock.count_left(self.database, issuer_id, self._ask_beginnings())
        self.database.commit()
        return left

    def _pass(
        self, stock: Stock, issuer_id: str, report: Report, show: Callable[[int], object]
    ) -> None:
        """Reseal all that is left, once."""
        waiting: Future[_Answers] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="vault") as thread:
            for cards in self._batches(stock, issuer_id, report):
                begun = thread.submit(self._resealed, cards)
                if waiting is not None:
                    show(self._store(stock, issuer_id, waiting.result(), report))
                waiting = begun
            if waiting is not None:
                show(self._store(stock, issuer_id, waiting.result(), report))

    def _batches(
        self, stock: Stock, issuer_id: str, report: Report
    ) -> Iterator[Sequence[StoredCard]]:
        """Read what is left; refuse what is in rows that were put back."""
        after, beginnings = "", self._ask_beginnings()
        while found := stock.read_left(
            self.database, issuer_id, beginnings, after=after, count_max=CARDS_AT_ONCE
        ):
            # No transaction waits for the vault.
            self.database.commit()
            after = found[-1][0].card.card_id
            for stored, newest in found:
                if stored.counter != newest:
                    report.refused[stored.card, stored.counter] = NOT_NEWEST
            yield [stored for stored, newest in found if stored.counter == newest]
        self.database.commit()

    def _resealed(self, cards: Sequence[StoredCard]) -> _Answers:
        """Have the vault reseal cards, in calls as long as others can bear."""
        answers: list[tuple[StoredCard, ResealedCard]] = []
        while some := cards[len(answers) : len(answers) + self.pace.count]:
            with self.pace.call(len(some)):
                answer = self.vault.call(Reseal(some))
            answers += zip(some, answer.cards, strict=True)
        return answers

    def _store(self, stock: Stock, issuer_id: str, answers: _Answers, report: Report) -> int:
        """Store what the vault resealed; return how many cards these are."""
        changes = []
        for stored, resealed in answers:
            key = (stored.card, stored.counter)
            report.refused.pop(key, None)
            if resealed.refused:
                report.refused[key] = _reasons(resealed)
            changed = changed_by(stored, resealed)
            if changed != stored:
                changes.append((stored, changed))
        report.resealed += stock.store(self.database, issuer_id, changes)
        self.database.commit()
        return len(answers)

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
