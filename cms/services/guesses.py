"""Who tries tokens that do not exist is made to wait.

Counted in the memory of each process: a token has 122 random bits, and the limit only keeps
guessing from costing the service much.
"""

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from cms.domain.control import GUESSES
from cms.domain.errors import TooManyFailures

ADDRESSES_MAX: Final = 10_000
IPV6_PREFIX_BITS: Final = 64


class Guesses:
    """Failures of each address within the window; those that failed last are remembered."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failed_at: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Let an address pass that has not failed too often.

        Raises:
            TooManyFailures: it has.
        """
        failed_at = self._failed_at.get(_who(address))
        if failed_at is None or len(failed_at) < GUESSES.failures_max:
            return
        if self._now() - failed_at[0] < GUESSES.window_seconds:
            raise TooManyFailures

    def failed(self, address: str) -> None:
        """Count a failure of *address*."""
        who = _who(address)
        failed_at = self._failed_at.setdefault(who, deque(maxlen=GUESSES.failures_max))
        failed_at.append(self._now())
        self._failed_at.move_to_end(who)
        if len(self._failed_at) > ADDRESSES_MAX:
            self._failed_at.popitem(last=False)


def _who(address: str) -> str:
    """Name who has an address: of IPv6, one customer has a whole prefix."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), IPV6_PREFIX_BITS), strict=False))
