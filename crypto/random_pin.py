"""A random PIN that an issuer's policy takes: each of them is as likely as any other.

ISO 9564-1 calls it an assigned random PIN; how it is drawn is our own design. A random byte modulo
10 is 0 to 5 more often than 6 to 9, so that bytes from 250 on are dropped. A PIN that the policy
refuses is drawn anew, all of its digits, and not changed into another one.
"""

from typing import Final

from crypto.errors import RandomnessError, WeakPinError
from crypto.types import Pin, Random
from crypto.weak_pins import PinPolicy, check

BYTES_END: Final = 250
"""The largest multiple of 10 that a byte can hold; below it, each digit has 25 bytes."""
DRAWS_MAX: Final = 100
"""A source of randomness that has not given a PIN by then is broken: 6 bytes in 256 are dropped,
and at most one PIN in 400 is weak."""


def draw(policy: PinPolicy, random: Random) -> Pin:
    """Draw a PIN of ``policy.length_min`` digits.

    >>> draw(PinPolicy(4, 8), lambda size_bytes: bytes([250, 14, 23, 255, 9, 6, 1, 2])[:size_bytes])
    Pin(***)

    Raises:
        RandomnessError: *random* gives nothing that a PIN can be made of.
    """
    for _ in range(DRAWS_MAX):
        # Twice as many as are needed: another call costs more than the bytes.
        usable = [byte for byte in random(2 * policy.length_min) if byte < BYTES_END]
        if len(usable) < policy.length_min:
            continue
        pin = Pin("".join(str(byte % 10) for byte in usable[: policy.length_min]))
        try:
            check(pin, policy)
        except WeakPinError:
            continue
        return pin
    raise RandomnessError
