"""PINs that are made of cards without one, and PINs that go to the personalisation bureau.

The vault makes both; nobody else sees a PIN. What a file for the bureau looks like says
:mod:`hsm.mailers`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cms.domain.cards import CardState
from cms.operator.batch_file import BatchFile
from cms.operator.command_line import Refused
from cms.persistence import admin, card_feeds, made_pins, mailers
from cms.persistence.admin import Database
from cms.persistence.card_scripts import CHANGED_MEANWHILE
from cms.persistence.mailers import MAILER, PinToMail
from cms.services.audit import Reason
from hsm.admin_client import AdminCalls
from hsm.messages import ExportMailers, GeneratePin
from hsm.port import MAILERS_MAX, CardRef

OLD_COUNTER: Final = "its counter is not the newest of its history"
NOT_OPENED: Final = "its PIN or its record does not open"


@dataclass(frozen=True, slots=True)
class RefusedPin:
    """A PIN that does not go to the bureau, and why."""

    card_id: str
    reason: str


def make_pin(database: Database, vault: AdminCalls, card: CardRef) -> None:
    """Have a PIN made of a card that has none, and store it; commits.

    Raises:
        Refused: there is no such card, it has one, is closed, or changed meanwhile.
        AdminError: the issuer is unknown or suspended, or the history of the card does not fit.
        HsmError: the vault makes none.
    """
    admin.require_active(database, card.issuer_id)
    before = card_feeds.cards_before(database, card.issuer_id, [card.card_id]).get(card.card_id)
    # No transaction is open while the vault works.
    database.commit()
    if before is None:
        raise Refused("no such card")
    if before.has_pin or before.state is CardState.CLOSED:
        raise Refused("the card has a PIN, or is closed")
    counter = before.next_counter
    change = vault.call(GeneratePin(card, before.sealed_record, counter))
    if not made_pins.store(database, card, before.sealed_record, counter, change):
        raise Refused(CHANGED_MEANWHILE)
    database.commit()


@dataclass(frozen=True)
class MailerExport:
    """Writes PINs of an issuer into a file for its bureau.

    *card_ids* are those that are asked for again, for a *reason*; None: those that are due.
    """

    database: Database
    vault: AdminCalls
    issuer_id: str
    file: BatchFile
    card_ids: Sequence[str] | None = None
    reason: str | None = None

    def run(self, tell: Callable[[int], object]) -> Iterator[RefusedPin]:
        """Write part after part, and tell of each PIN that cannot go; commits on the way.

        Args:
            tell: called with how many cards are done, after each part.

        Raises:
            AdminError: the issuer is suspended.
            ManifestRefused: the issuer's manifest names no bureau, or is not in force.
            LimitReached: the bureau gets no more today.
            VaultUnavailable: the HSM token is unavailable, or lacks a key of the bureau's.
        """
        mailers.note(self.database, self.issuer_id, self.file.mailed, self.reason)
        self.database.commit()
        after = ""
        while not self.file.is_whole:
            admin.require_active(self.database, self.issuer_id)
            # One more tells whether this part is the last.
            found = self._next(after)
            self.database.commit()
            if not found and self.file.is_empty:
                return
            batch, is_last = found[:MAILERS_MAX], len(found) <= MAILERS_MAX
            yield from self._write(batch, is_last=is_last)
            tell(len(batch))
            after = batch[-1].stored.card.card_id if batch else after

    def without_pin(self) -> Sequence[str]:
        """Name the cards that were asked for and have no PIN, or are not there."""
        asked, database = {*(self.card_ids or ())}, self.database
        found = mailers.named(database, self.issuer_id, asked, after="", count_max=len(asked))
        return sorted(asked - {one.stored.card.card_id for one in found})

    def _next(self, after: str) -> Sequence[PinToMail]:
        count_max = MAILERS_MAX + 1
        if self.card_ids is None:
            return mailers.due(self.database, self.issuer_id, after=after, count_max=count_max)
        left = {*self.card_ids} - self.file.mailed.keys()
        return mailers.named(self.database, self.issuer_id, left, after=after, count_max=count_max)

    def _write(self, batch: Sequence[PinToMail], *, is_last: bool) -> Iterator[RefusedPin]:
        current = [one.stored for one in batch if one.stored.counter == one.newest]
        part = self.file.next_part(is_last=is_last)
        made = self.vault.call(ExportMailers(self.issuer_id, current, part))
        mailed = self.file.append(made.text)
        mailers.note(self.database, self.issuer_id, mailed, self.reason)
        old = [one.stored.card.card_id for one in batch if one.stored.counter != one.newest]
        for card_id in (*old, *made.refused):
            card = CardRef(self.issuer_id, card_id)
            admin.audit_failed(self.database, card, MAILER, Reason.SEAL_BROKEN)
        self.database.commit()
        yield from (RefusedPin(card_id, OLD_COUNTER) for card_id in old)
        yield from (RefusedPin(card_id, NOT_OPENED) for card_id in made.refused)
