"""Hypothesis strategies for the values of the field, as text so that a failure can be read."""

import random

from hypothesis import strategies as st

from crypto.types import Random

pins = st.text("0123456789", min_size=4, max_size=12)
pans = st.text("0123456789", min_size=8, max_size=19)
randoms = st.integers(0, 2**64).map(lambda seed: random.Random(seed).randbytes)


def seeded(seed: int) -> Random:
    """Return a random source that repeats itself from *seed*."""
    return random.Random(seed).randbytes
