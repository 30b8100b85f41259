"""How many failures are too many: unknown tokens, wrong passwords, PINs that cannot be used.

An answer to a PIN is one to a guess: whoever may send any may try PANs, since a block either is one
for the card's PAN or is not, and a PIN that only the policy refuses says that it is. With SECCOS's
keys they may try PINs, since a PRW either fits or does not. That is counted for each card; its
issuer's policy says how many are too many, and :class:`Tally` what is counted apart, so that
somebody who has not SECCOS's keys does not stop SECCOS.

For each client is counted what a client should never send: a block for another PAN, and SECCOS
without its keys. That never stops a card.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures within a window, which moves."""

    failures_max: int
    window_seconds: int


class Tally(StrEnum):
    """What is counted, each for itself; also the name of the column that holds it."""

    ISO0 = "iso0_failed_at"
    """Blocks that are none for the card's PAN."""
    POLICY = "policy_refused_at"
    """PINs that the policy refuses, in blocks that are; of a card only."""
    SECCOS = "seccos_failed_at"
    """Of a card, wrong PINs with SECCOS's keys; of a client, SECCOS PINs without them."""


CARD_WINDOW_SECONDS: Final = 24 * 60 * 60
CLIENT_WINDOW_SECONDS: Final = 60
CHANGE_TRIES_MAX: Final = 3
"""Times that a PIN change is made anew because the card was changed meanwhile; then 503."""
