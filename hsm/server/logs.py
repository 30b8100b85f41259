"""What supervisor and workers write to standard error: a line of JSON for each thing."""

import json
import logging
from typing import Final

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Formatter(logging.Formatter):
    """Writes a record as JSON: time, level, event, process, and what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write no traceback: arguments can be in one."""
        members = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "event": record.getMessage(),
            "pid": record.process,
        }
        given = {name: value for name, value in vars(record).items() if name not in _OWN}
        return json.dumps({**members, **given}, default=str)


def configure() -> None:
    """Have this process write so."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
