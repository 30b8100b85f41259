"""Who tries control tokens that do not exist, or wrong passwords, is made to wait.

Counted in the memory of each process: a control token has 122 random bits, and the limit only
keeps guessing from costing the service much.
"""

import ipaddress
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from cms.domain.control import FAILURES_BY_ADDRESS
from cms.domain.errors import TooManyFailures

ADDRESSES_MAX: Final = 10_000
IPV6_PREFIX_BITS: Final = 64
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


class RateLimiter:
    """Failures of each address within the window; those that failed last are remembered."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failed_at: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def check(self, address: str, client_id: str = "") -> None:
        """Let an address pass that has not failed too often, at this client.

        Raises:
            TooManyFailures: it has.
        """
        failed_at = self._failed_at.get((who(address), client_id))
        if failed_at is None or len(failed_at) < FAILURES_BY_ADDRESS.failures_max:
            return
        if self._now() - failed_at[0] < FAILURES_BY_ADDRESS.window_seconds:
            raise TooManyFailures

    def failed(self, address: str, client_id: str = "") -> None:
        """Count a failure of *address*, at this client.

        Raises:
            TooManyFailures: it is one too many, and not counted.
        """
        self.check(address, client_id)
        key = who(address), client_id
        failed_at = self._failed_at.setdefault(key, deque(maxlen=FAILURES_BY_ADDRESS.failures_max))
        failed_at.append(self._now())
        self._failed_at.move_to_end(key)
        if len(self._failed_at) > ADDRESSES_MAX:
            self._failed_at.popitem(last=False)


def who(address: str) -> str:
    """Name who has an address, as a proxy writes it: of IPv6, one customer has a whole prefix."""
    bare = _WITH_PORT.fullmatch(address)
    try:
        found = ipaddress.ip_address(bare[1] or bare[2] if bare else address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), IPV6_PREFIX_BITS), strict=False))
