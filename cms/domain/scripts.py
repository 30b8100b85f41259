"""The life of a script: a PIN on its way to the chip of its card.

::

    pending ──▶ built ──▶ delivered ──▶ confirmed
                  ▲  └───────┼─────────────▲
                  └──────────┘
    pending, built, delivered ──▶ superseded

A PIN change makes it, ``pending``, for the counter of that change, and supersedes the one before.
It is built for one transaction; for the next one it is built again, whatever became of the last. A
host may tell twice what it told, and need not tell that a script was delivered that was confirmed.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class ScriptState(StrEnum):
    """How far a script came."""

    PENDING = "pending"
    BUILT = "built"
    """The authorisation host has the command."""
    DELIVERED = "delivered"
    """The host sent it to the terminal."""
    CONFIRMED = "confirmed"
    """The card said that it took it. The end."""
    SUPERSEDED = "superseded"
    """The PIN was changed again before that. The end."""


_DELIVERY: Final = frozenset(
    {ScriptState.BUILT, ScriptState.DELIVERED, ScriptState.CONFIRMED, ScriptState.SUPERSEDED}
)
NEXT_STATES: Final[Mapping[ScriptState, frozenset[ScriptState]]] = {
    ScriptState.PENDING: frozenset({ScriptState.BUILT, ScriptState.SUPERSEDED}),
    ScriptState.BUILT: _DELIVERY,
    ScriptState.DELIVERED: _DELIVERY,
    ScriptState.CONFIRMED: frozenset({ScriptState.CONFIRMED}),
    ScriptState.SUPERSEDED: frozenset(),
}
