"""With which exit codes workers end."""

from enum import IntEnum


class Exit(IntEnum):
    """Why a worker ended; any other code is an accident."""

    TOLD = 0
    LOGIN_REFUSED = 3
    NOT_FOR_PRODUCTION = 4
    DISK_FAILED = 5
