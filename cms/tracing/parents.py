"""Which requests are traced, and whose trace they belong to (W3C Trace Context, level 1).

Callers do not decide that. A ``traceparent`` counts from a proxy of ours only, and even all proxies
together cannot have more than so many requests a second be traced.
"""

import random
import re
import time
from collections.abc import Collection
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags
from starlette.types import Scope

from crypto.pan_text import holds_pan

HEADER: Final = b"traceparent"
#: ``version-trace_id-parent_id-flags``; a later version may have more behind it (section 3.2).
TRACEPARENT: Final = re.compile(
    rb"(?:00-|(?!00|ff)[0-9a-f]{2}-)([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?P<more>-.*)?"
)
REQUESTS_PER_SECOND_MAX: Final = 50
"""That a worker traces."""


class Choice:
    """Chooses requests.

    Args:
        ratio: the share of requests without a parent that is traced, by our own random
            numbers: a caller who knew how to choose a trace id could decide otherwise.
        per_second_max: how many requests are traced, whoever asks for it.
    """

    def __init__(self, ratio: float, per_second_max: int = REQUESTS_PER_SECOND_MAX) -> None:
        self._ratio = ratio
        self._per_second_max = per_second_max
        self._second = 0
        self._chosen = 0

    def takes(self, parent: SpanContext | None) -> bool:
        """Tell whether a request is traced: as its parent is, else by a random number."""
        wanted = (
            random.random() < self._ratio  # noqa: S311 - no secret
            if parent is None
            else parent.trace_flags.sampled
        )
        return wanted and self._has_room()

    def _has_room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._chosen = second, 0
        self._chosen += 1
        return self._chosen <= self._per_second_max


def parent_of(scope: Scope, proxy_peers: Collection[str]) -> SpanContext | None:
    """Read the parent of a request; None where no proxy of ours names one.

    ``tracestate`` is not read: it may hold anything.
    """
    peer = scope["client"][0] if scope.get("client") else "unix"
    if peer not in proxy_peers:
        return None
    values = [value for name, value in scope["headers"] if name == HEADER]
    return _parsed(values[0]) if len(values) == 1 else None


def _parsed(value: bytes) -> SpanContext | None:
    found = TRACEPARENT.fullmatch(value)
    if found is None or (value.startswith(b"00") and found["more"]):
        return None
    trace_id, span_id, flags = (each.decode() for each in found.groups()[:3])
    if any(holds_pan(each, across_letters=False) for each in (trace_id, span_id)):
        return None
    parent = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return parent if parent.is_valid else None
