"""Why the database cannot be used, and which SQLSTATE says so.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes". A code has five characters;
the first two are its class, which says enough where the code itself is not listed.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import psycopg


class Cause(StrEnum):
    """What is wrong, as the log names it."""

    NO_CONNECTION = "NO_CONNECTION"
    """None was free, or could be made, in time."""
    NO_ANSWER = "NO_ANSWER"
    """A statement did not end before our deadline: it may be committed, now or later."""
    CONNECTION_LOST = "CONNECTION_LOST"
    """It ended, or is not in the state we left it in; a statement on its way may be committed."""
    SERVER_ENDS = "SERVER_ENDS"
    """The server shuts down, crashed, or is starting."""
    SERVER_FULL = "SERVER_FULL"
    """It has no disk, memory or connection left."""
    SERVER_BROKEN = "SERVER_BROKEN"
    """Its disk fails, or it refuses the question whether it can be used."""
    READ_ONLY = "READ_ONLY"
    """It is a standby, or was made read-only: what we are connected to is not the primary."""
    NOT_REPLICATED = "NOT_REPLICATED"
    """Commits wait for a synchronous standby that is not there."""
    NOT_DURABLE = "NOT_DURABLE"
    """It may lose a commit that it reported: a PIN change could vanish."""
    NOT_UTF8 = "NOT_UTF8"
    """The database has another encoding: it does not hold every text, or none as text."""
    STATEMENT_STOPPED = "STATEMENT_STOPPED"
    """This statement alone: it waited too long for a lock, or lost against another."""
    STALE_STATEMENT = "STALE_STATEMENT"
    """What was prepared is not there, is there already, or is no longer valid: it did not run."""


CAUSES: Final[Mapping[str, Cause]] = {
    "08": Cause.CONNECTION_LOST,
    # Of our statements only prepared ones meet it: "cached plan must not change result type".
    "0A000": Cause.STALE_STATEMENT,
    # Autocommit leaves no transaction behind; one that is there is somebody else's.
    "25": Cause.CONNECTION_LOST,
    "25006": Cause.READ_ONLY,
    "26": Cause.STALE_STATEMENT,
    "28": Cause.NO_CONNECTION,
    "40": Cause.STATEMENT_STOPPED,
    "42P05": Cause.STALE_STATEMENT,
    "53": Cause.SERVER_FULL,
    "55": Cause.STATEMENT_STOPPED,
    "57": Cause.SERVER_ENDS,
    "57014": Cause.STATEMENT_STOPPED,
    "58": Cause.SERVER_BROKEN,
}

WRONG_CONNECTION: Final = frozenset(
    {Cause.NO_ANSWER, Cause.CONNECTION_LOST, Cause.SERVER_ENDS, Cause.READ_ONLY}
)
"""Not only this statement fails: the connection is closed, and so are those made before."""


class DatabaseFailed(Exception):
    """The database cannot do what it was asked."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


def cause_of(error: psycopg.Error) -> Cause | None:
    """Tell why a statement failed; None is a defect of the statement or a rule it broke."""
    code = error.sqlstate or ""
    known = CAUSES.get(code) or CAUSES.get(code[:2])
    if known is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Cause.CONNECTION_LOST
    return known
