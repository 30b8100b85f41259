"""How many tries there are: of a PIN change that meets others, and of a caller that fails.

How many PINs may fail, the vault counts (:mod:`hsm.budgets`).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures within a window, which moves."""

    failures_max: int
    window_seconds: int


CHANGE_TRIES_MAX: Final = 3
"""Times that a PIN change is made anew because the card was changed meanwhile; then 503."""
