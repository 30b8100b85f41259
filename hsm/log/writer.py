"""The log that the vault of a host writes, in a chain of its own for each process.

:mod:`hsm.log.files` says where it is, :mod:`hsm.log.lines` what a line is.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from hsm import metrics
from hsm.log import own_chain
from hsm.log.files import usable
from hsm.log.lines import Action, Event, Mac
from hsm.log.own_chain import OwnChain
from hsm.pkcs11.keys import KeyLabel

REFUSALS_SECONDS: Final = 60
"""Refusals alike in this time are one line."""

_Refused: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Reason, issuer, face, client."""


@dataclass(slots=True)
class _Waiting:
    """Refusals that no line tells yet."""

    since: datetime
    count: int = 0


@dataclass(slots=True)
class VaultLog:
    """The log of this host, as one process writes it.

    Every method raises ``LogUnavailable`` when the log is not there, cannot be written, is not as
    this process left it, or ends later than now; and ``VaultUnavailable`` when the HSM token does
    not answer.
    """

    directory: Path
    """Where it is; only the vault's user may read or write there."""
    mac: Mac
    label: Callable[[], KeyLabel]
    """Names the active key of role ``log-mac``."""
    now: Callable[[], datetime]
    """The time, UTC."""
    to_disk: Callable[[int], None] = os.fdatasync
    """Brings a file to the disk, which is named by its descriptor, before the answer is given. One
    that only promises to do so duplicates the descriptor: that file may be closed meanwhile."""
    _chain: OwnChain | None = field(default=None, init=False)
    _refused: dict[_Refused, _Waiting] = field(default_factory=dict, init=False)

    def begin(self) -> None:
        """Begin the log of a host that has none: its first line. One that is there stays."""
        with usable():
            own_chain.begin(self.directory, self.now(), self.label(), self.mac)

    def check(self) -> None:
        """Look whether there is a log to append to; only the line of a new chain is written."""
        with usable():
            self._own_chain(self.now())

    def append(self, event: Event, *, durable: bool) -> str:
        """Append a line; return its receipt.

        Args:
            event: what the line tells.
            durable: whether it must survive a loss of power.
        """
        now = self.now()
        with usable():
            chain = self._own_chain(now)
            for refused in self._due(now):
                chain.write(refused, now, self.label(), self.mac)
                metrics.log_line(refused.what)
            receipt = chain.write(event, now, self.label(), self.mac).receipt
            metrics.log_line(event.what)
            if durable:
                self.to_disk(chain.file)
        return receipt

    def refuse(
        self,
        reason: str,
        issuer_id: str | None = None,
        face: str | None = None,
        client_id: str | None = None,
    ) -> str | None:
        """Tell of a refusal: at once, or with others like it when 60 seconds are over.

        Args:
            reason: what was refused.
            issuer_id: of a manifest; None: what was refused did not tell.
            face: where.
            client_id: one of that manifest, so that what a caller makes up is not written.

        Returns:
            The receipt of the line; None where it is only counted. What is counted and not told
            when this process ends is lost.
        """
        key, now = (reason, issuer_id, face, client_id), self.now()
        waiting = self._refused.get(key)
        if waiting is not None and not _is_over(waiting, now):
            waiting.count += 1
            return None
        count = 1 if waiting is None else waiting.count + 1
        self._refused[key] = _Waiting(now)
        return self.append(_refusal(key, count), durable=False)

    def _due(self, now: datetime) -> Iterator[Event]:
        """Tell of refusals that wait since 60 seconds and more."""
        for key, waiting in list(self._refused.items()):
            if _is_over(waiting, now):
                del self._refused[key]
                if waiting.count:
                    yield _refusal(key, waiting.count)

    def _own_chain(self, now: datetime) -> OwnChain:
        """Hold a chain that a line of *now* can be appended to."""
        if self._chain is None:
            self._chain = own_chain.take(self.directory, now, self.label(), self.mac)
        own_chain.check_clock(now, self._chain.find_end())
        return self._chain


def _is_over(waiting: _Waiting, now: datetime) -> bool:
    # Either way: a clock may be set back.
    return abs(now - waiting.since) >= timedelta(seconds=REFUSALS_SECONDS)


def _refusal(key: _Refused, count: int) -> Event:
    reason, issuer_id, face, client_id = key
    return Event(
        *(Action.REFUSED, issuer_id, None, face, client_id),
        reason=reason,
        count=count,
    )
