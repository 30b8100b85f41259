"""What a vault host counts: failures within a window that moves, hand-outs of a day, uses of keys.

One SQLite file in the vault's state directory, which the workers of the host share. It outlives
them; a machine that loses power may forget the last moments (WAL, ``synchronous=NORMAL``), and is
never left with a file that cannot be read.

A failure is counted before it is known to be one, and taken back when it is none. So workers that
try at once are not all let through by the same count, and a worker that dies leaves its try
counted. What cannot be counted is refused.

The clock is the machine's. Put back, it makes no failure older and gives no day that is still in
the file a second time.
"""

import itertools
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from hsm import directories
from hsm.errors import CountsUnavailable, HsmError, LimitReached

FILE_NAME: Final = "counts.sqlite"
DAY_SECONDS: Final = 24 * 60 * 60
DAYS_STORED: Final = 2
"""Today and the day before: a clock that is put back a little finds what it counted."""
PRUNE_EVERY_SECONDS: Final = 60 * 60
WAIT_SECONDS_MAX: Final = 1.0
"""For other workers, each of which needs microseconds."""
PAGE_BYTES: Final = 1024
"""A change writes each page that it touches as a whole; a row has some 60 bytes."""
NUMBER_BITS: Final = 62
"""Of the number from which a process counts its tries: it meets no number of another one."""
# One B-tree a table, without an index beside it: most tries touch a page, and are taken back on it.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS failures (
    issuer_id TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    failed_at REAL NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (issuer_id, kind, key, failed_at, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hand_outs (
    day INTEGER NOT NULL,
    issuer_id TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (day, issuer_id, kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kid_uses (
    label TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL, last_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_uses (
    label TEXT NOT NULL, unit TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (label, unit)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Window:
    """Within *seconds*, *failures_max* failures of a kind and a key; then *refusal* is raised."""

    issuer_id: str
    kind: str
    key: str
    failures_max: int
    seconds: int
    """At most a day."""
    refusal: type[HsmError]


@dataclass(frozen=True, slots=True)
class Try:
    """A try that is counted in a window until it is known how it ended."""

    window: Window
    began_at: float
    number: int
    """Tells it from others of the same moment."""
    is_last: bool
    """Whether the window is full with it."""


@dataclass(frozen=True, slots=True)
class Quota:
    """On a *day*, counted from 1970 in UTC, *hand_outs_max* hand-outs of a kind and a key."""

    day: int
    issuer_id: str
    kind: str
    key: str
    hand_outs_max: int


class Counts:
    """The counts of this host; the file is opened when it is needed first.

    Every method raises ``CountsUnavailable`` when the file cannot be read and written. Then nothing
    was counted, and the next call opens the file anew.

    Args:
        directory: where the file is; only the vault's user may write there.
        now: the time, UTC.
    """

    def __init__(self, directory: Path, now: Callable[[], datetime]) -> None:
        self._directory = directory
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._prune_at = 0.0
        self._numbers = itertools.count(secrets.randbits(NUMBER_BITS))

    def today(self) -> int:
        """Count the days since 1970, in UTC."""
        return int(self._now().timestamp()) // DAY_SECONDS

    def check(self) -> None:
        """Prove that it can count: nothing is."""
        with self._transaction(self._now().timestamp()):
            pass

    def begin(self, windows: Sequence[Window]) -> list[Try]:
        """Count a try in each of *windows*, no two alike, or in none when one of them is full.

        Raises:
            HsmError: the refusal of the first that is full.
        """
        now = self._now().timestamp()
        with self._transaction(now) as connection:
            tries = [self._try(connection, window, now) for window in windows]
            connection.executemany(
                "INSERT INTO failures (issuer_id, kind, key, failed_at, number)"
                " VALUES (?, ?, ?, ?, ?)",
                map(_row, tries),
            )
        return tries

    def take_back(self, tries: Iterable[Try]) -> None:
        """Forget tries that did not fail."""
        with self._transaction(self._now().timestamp()) as connection:
            connection.executemany(
                "DELETE FROM failures WHERE issuer_id = ? AND kind = ? AND key = ?"
                " AND failed_at = ? AND number = ?",
                map(_row, tries),
            )

    def forget(self, issuer_id: str, kinds: Iterable[str], key: str) -> None:
        """Forget the failures of some kinds of a key."""
        rows = [(issuer_id, kind, key) for kind in kinds]
        with self._transaction(self._now().timestamp()) as connection:
            connection.executemany(
                "DELETE FROM failures WHERE issuer_id = ? AND kind = ? AND key = ?", rows
            )

    def hand_out(self, quotas: Sequence[Quota]) -> list[int]:
        """Count a hand-out in each of *quotas*, or in none when one of them is used up.

        Returns:
            How many there are of each now.

        Raises:
            LimitReached: one was used up before.
        """
        with self._transaction(self._now().timestamp()) as connection:
            return [_hand_out(connection, quota) for quota in quotas]

    def add_kid_uses(self, uses: Mapping[str, int], at: float) -> None:
        """Add JWEs that keys opened, by label, the last of them *at* (:mod:`hsm.kid_uses`)."""
        with self._transaction(self._now().timestamp()) as connection:
            connection.executemany(
                "INSERT INTO kid_uses (label, number, last_at) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET number = number + excluded.number,"
                " last_at = excluded.last_at",
                [(label, number, at) for label, number in uses.items()],
            )

    def kid_uses(self) -> Mapping[str, tuple[int, float]]:
        """Return how many JWEs each key opened, and when the last, by label."""
        with self._transaction(self._now().timestamp()) as connection:
            rows = connection.execute("SELECT label, number, last_at FROM kid_uses").fetchall()
        return {label: (number, last_at) for label, number, last_at in rows}

    def add_key_uses(self, uses: Mapping[tuple[str, str], int]) -> list[int]:
        """Add uses, by label and unit; return how many there are of each now, in the same order."""
        with self._transaction(self._now().timestamp()) as connection:
            return [
                connection.execute(
                    "INSERT INTO key_uses (label, unit, number) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET number = number + excluded.number"
                    " RETURNING number",
                    (label, unit, number),
                ).fetchone()[0]
                for (label, unit), number in uses.items()
            ]

    def key_uses_of(self, label: str, unit: str) -> int:
        """Return how many uses of a key there are."""
        with self._transaction(self._now().timestamp()) as connection:
            found = connection.execute(
                "SELECT number FROM key_uses WHERE label = ? AND unit = ?", (label, unit)
            ).fetchone()
        return 0 if found is None else int(found[0])

    def key_uses(self) -> list[tuple[str, str, int]]:
        """List label, unit and number, by label."""
        with self._transaction(self._now().timestamp()) as connection:
            return connection.execute(
                "SELECT label, unit, number FROM key_uses ORDER BY label, unit"
            ).fetchall()

    def _try(self, connection: sqlite3.Connection, window: Window, now: float) -> Try:
        ((failures,),) = connection.execute(
            "SELECT count(*) FROM failures"
            " WHERE issuer_id = ? AND kind = ? AND key = ? AND failed_at > ?",
            (window.issuer_id, window.kind, window.key, now - window.seconds),
        )
        if failures >= window.failures_max:
            raise window.refusal
        return Try(window, now, next(self._numbers), failures + 1 == window.failures_max)

    @contextmanager
    def _transaction(self, now: float) -> Iterator[sqlite3.Connection]:
        """Keep what is counted within, unless an error leaves it."""
        try:
            connection = self._connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not 0 <= self._prune_at - now <= PRUNE_EVERY_SECONDS:
                    _prune(connection, now)
                    self._prune_at = now + PRUNE_EVERY_SECONDS
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError):
            self._close()
            raise CountsUnavailable("counts.sqlite cannot be read and written") from None

    def _open(self) -> sqlite3.Connection:
        path = self._directory / FILE_NAME
        # One after another: two workers cannot both make it a WAL, and neither would wait.
        with directories.locked(self._directory):
            with suppress(FileExistsError):
                _make(path, self._directory.stat().st_uid)
            # Transactions are ours. A vault is used by one thread, and may end on another.
            connection = sqlite3.connect(
                path, WAIT_SECONDS_MAX, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(_TABLES)
            except sqlite3.Error:
                connection.close()
                raise
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _row(one: Try) -> tuple[str, str, str, float, int]:
    window = one.window
    return window.issuer_id, window.kind, window.key, one.began_at, one.number


def _hand_out(connection: sqlite3.Connection, quota: Quota) -> int:
    """Count a hand-out; return how many there are now.

    Raises:
        LimitReached: it was used up before.
    """
    number: int = connection.execute(
        "INSERT INTO hand_outs (day, issuer_id, kind, key, number) VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT DO UPDATE SET number = number + 1 RETURNING number",
        (quota.day, quota.issuer_id, quota.kind, quota.key),
    ).fetchone()[0]
    if number > quota.hand_outs_max:
        raise LimitReached
    return number


def _prune(connection: sqlite3.Connection, now: float) -> None:
    """Delete what is over. What is of a time to come stays: the clock was put back."""
    connection.execute("DELETE FROM failures WHERE failed_at <= ?", (now - DAY_SECONDS,))
    first_day = int(now) // DAY_SECONDS - DAYS_STORED + 1
    connection.execute("DELETE FROM hand_outs WHERE day < ?", (first_day,))


def _make(path: Path, owner: int) -> None:
    """Make a file for *owner*; SQLite gives those beside it to the same.

    Raises:
        FileExistsError: there is one.
    """
    file = os.open(path, os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # Whoever types a command before the service counts may be root; it must be able to.
        os.fchown(file, owner, -1)
    finally:
        os.close(file)
