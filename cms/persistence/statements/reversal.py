"""A PIN that is put back, after the terminal reversed the change of it."""

from typing import Final

from sqlalchemy import String, literal, select

from cms.persistence.statements import compiled
from cms.persistence.statements.parts import change_pin

REVERSAL: Final = "reversal"
"""Why the PIN was set, in the audit row."""

_changed, _with_it = change_pin(reason=literal(REVERSAL, String))
REVERSE_PIN: Final = compiled(select(_changed.c.counter).add_cte(*_with_it))
"""One row, the new counter, if counter, state and record are still those read.

Else none, and no change. It is run by a command, which is the database's owner.
"""
