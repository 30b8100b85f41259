"""How many failures are too many: unknown tokens, wrong passwords, SECCOS PINs.

Of SECCOS: whoever has the keys between D1 and the issuer could try PINs, since a PRW either fits or
does not: that is counted for each card. Whoever has not gets no further than the MAC: that is
counted for each client, and never stops a card.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures within a window, which moves."""

    failures_max: int
    window_seconds: int


SECCOS_CARD: Final = Limit(failures_max=5, window_seconds=24 * 60 * 60)
SECCOS_CLIENT: Final = Limit(failures_max=60, window_seconds=60)
CHANGE_TRIES_MAX: Final = 3
"""Times that a PIN change is made anew because the card was changed meanwhile; then 503."""
