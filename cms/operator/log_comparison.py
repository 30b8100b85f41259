"""Compares the audit of an issuer with what the vaults wrote, by the receipts in its rows.

A row can be deleted, changed or made up by whoever owns the database; a line of a vault's log
cannot. A hand-out has one line and one row. A PIN that was set has a line, and a row if it was
stored; where two set a PIN of a card at once, one is not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cms.domain.cards import Verb
from cms.persistence.admin import EXPORT, LOADED, ReceiptRow
from cms.persistence.card_scripts import BUILD
from cms.persistence.made_pins import MADE
from cms.persistence.mailers import MAILER
from hsm.log.lines import Action, Line

RECENT: Final = timedelta(seconds=60)
"""So long a line may be there and its row not yet, while a request runs; clocks differ, too."""
APART_MAX: Final = timedelta(minutes=10)
"""Between a line and its row: an import, or an export, stores the rows of many cards at once."""

HAND_OUTS: Final[Mapping[Action, str]] = {
    Action.EXPORT: Verb.GET_PIN,
    Action.IMAGE: Verb.GET_PIN,
    Action.TEXT: Verb.GET_PIN,
    Action.VALUES: EXPORT,
    Action.MAILER: MAILER,
    Action.SCRIPT: BUILD,
    Action.SERVER: Verb.GET_PIN,
    Action.DEVICE: Verb.GET_PIN,
}
"""What the row of each is called."""
SETS: Final = frozenset({Verb.SET_PIN, LOADED, MADE})
"""What the row of a PIN that was set is called: afterwards, with its card, or made here."""
EVENTS: Final = frozenset({*HAND_OUTS.values(), *SETS})


@dataclass
class Comparison:
    """The lines of an issuer, by their receipts, read from *began_at* on; and what became of them.

    Args:
        lines: from the logs of all hosts.
        began_at: when reading began. What is newer than a minute before is not judged.
    """

    lines: Mapping[str, Line]
    began_at: datetime
    rows: int = 0
    """How many were compared."""
    _event_ids: dict[str, int] = field(default_factory=dict, init=False)
    """The row that has each receipt."""

    def differences(self, rows: Iterable[ReceiptRow]) -> Iterator[str]:
        """Say of each row, and then of each line, what is wrong with it, if anything is."""
        for row in rows:
            self.rows += 1
            fault = self._fault(row)
            if fault is not None:
                yield f"event {row.event_id}, {row.event} of card {row.card_id}: {fault}"
        for receipt, line in self.lines.items():
            if line.event.what in HAND_OUTS and receipt not in self._event_ids:
                if self._is_recent(line.at):
                    continue
                event = line.event
                yield (
                    f"line {receipt}, {event.what} of card {event.card_id}, counter"
                    f" {event.counter}, {line.at.isoformat(timespec='seconds')}: no row"
                )

    def not_stored(self) -> int:
        """Count the PINs that the vault sealed and of which no row says that they are stored."""
        return sum(
            line.event.what is Action.SET and receipt not in self._event_ids
            for receipt, line in self.lines.items()
        )

    def _fault(self, row: ReceiptRow) -> str | None:
        if row.receipt is None:
            return "no receipt"
        line = self.lines.get(row.receipt)
        if line is None:
            return None if self._is_recent(row.at) else f"no line has its receipt, {row.receipt}"
        other = self._event_ids.setdefault(row.receipt, row.event_id)
        if other != row.event_id:
            return f"event {other} has its receipt"
        return None if _tell_the_same(row, line) else f"line {line.receipt} tells something else"

    def _is_recent(self, time: datetime) -> bool:
        # Not what somebody dated into the future.
        return self.began_at - RECENT <= time <= datetime.now(UTC) + RECENT


def _tell_the_same(row: ReceiptRow, line: Line) -> bool:
    event = line.event
    names = SETS if event.what is Action.SET else {HAND_OUTS.get(event.what)}
    return (
        row.event in names
        and abs(row.at - line.at) <= APART_MAX
        and (row.card_id, row.counter) == (event.card_id, event.counter)
        and event.client_id in (None, row.actor)
    )
