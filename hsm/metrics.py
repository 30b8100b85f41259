"""What the vault counts: calls, openings of the HSM token, ends of workers, lines of its log.

All processes of a vault together (:mod:`hsm.exposition`): a worker's slot is that of its sockets,
and the supervisor has one of its own. Labels are names of ours; what is in a call is in none.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hsm import exposition
from hsm.pkcs11.keys import KeyLabel
from hsm.server.exits import Exit

CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SUPERVISOR: Final = "supervisor"
KILLED: Final = "KILLED"
"""Its verb did not end, or its start."""
CRASHED: Final = "CRASHED"
_shared: Final = exposition.registry


class Opening(StrEnum):
    """How it ended that a worker opened the HSM token, first or again."""

    OPENED = "opened"
    LOGIN_REFUSED = "login_refused"
    UNAVAILABLE = "unavailable"


_calls: Final = Histogram(
    "hsm_call_seconds",
    "Calls in the vault, without the wait for others.",
    ["verb"],
    buckets=CALL_SECONDS,
    registry=_shared,
)
_waits: Final = Histogram(
    "hsm_wait_seconds",
    "What a call waited in a worker after it was read.",
    ["socket"],
    buckets=CALL_SECONDS,
    registry=_shared,
)
_refusals: Final = Counter(
    "hsm_refusals", "Calls that the vault refused.", ["verb", "error"], registry=_shared
)
_openings: Final = Counter(
    "hsm_openings",
    "Openings of the HSM token: opened, login_refused, unavailable.",
    ["result"],
    registry=_shared,
)
_workers_ended: Final = Counter(
    "hsm_workers_ended",
    "Workers of the vault that ended: TOLD, KILLED (a call did not end), CRASHED, LOGIN_REFUSED,"
    " DISK_FAILED, NOT_FOR_PRODUCTION.",
    ["why"],
    registry=_shared,
)
_log_lines: Final = Counter(
    "hsm_log_lines",
    "Lines of the log of the vault, by what they tell.",
    ["action"],
    registry=_shared,
)
_half_handed_out: Final = Counter(
    "hsm_half_handed_out",
    "How often somebody, a client, had a half of the PINs that may be shown to it or set by it at"
    " this host in a day.",
    ["who"],
    registry=_shared,
)
_observers: Final[dict[tuple[str, str], Callable[[float], None]]] = {}


def begin(slot: str) -> None:
    """Count with the other processes of the vault from now on."""
    exposition.count_in(slot)
    _observers.clear()
    # An alert sees a rise only of what was there before.
    if slot == SUPERVISOR:
        for why in (KILLED, CRASHED, *(each.name for each in Exit)):
            _workers_ended.labels(why)
    else:
        for result in Opening:
            _openings.labels(result)
        _half_handed_out.labels("client")


def called(verb: str, seconds: float) -> None:
    """Count a call that was done or refused."""
    observe = _observers.get(("", verb))
    if observe is None:
        observe = _observers["", verb] = _calls.labels(verb).observe
    observe(seconds)


def waited(socket: str, seconds: float) -> None:
    """Count what a call waited for those before it, since it was read."""
    observe = _observers.get((socket, ""))
    if observe is None:
        observe = _observers[socket, ""] = _waits.labels(socket).observe
    observe(seconds)


def refused(verb: str, error: str) -> None:
    """Count a refusal; *error* is a class of :mod:`hsm.errors`."""
    _refusals.labels(verb, error).inc()


def opened(result: Opening) -> None:
    """Count an opening."""
    _openings.labels(result).inc()


def worker_ended(code: int, *, killed: bool) -> None:
    """Count the end of a worker by its exit code."""
    known = {each.value: each.name for each in Exit}
    _workers_ended.labels(KILLED if killed else known.get(code, CRASHED)).inc()


def half_handed_out(who: str) -> None:
    """Count that somebody had a half of what it may have in a day."""
    _half_handed_out.labels(who).inc()


def log_line(action: str) -> None:
    """Count a line of the log; *action* is a :class:`hsm.log.lines.Action`."""
    _log_lines.labels(action).inc()


@dataclass(frozen=True, slots=True, eq=False)
class KeyInfo(Collector):
    """Which keys of its own a vault has, by :mod:`hsm.pkcs11.fingerprints`."""

    fingerprints: Mapping[KeyLabel, str]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Describe them."""
        keys = GaugeMetricFamily(
            "hsm_key_info",
            "1: a key of our own that is on the HSM token, with its check value or thumbprint as"
            " `hsm list` shows it. Every host must show the same.",
            labels=["key", "fingerprint"],
        )
        for label, fingerprint in sorted(self.fingerprints.items(), key=str):
            keys.add_metric([str(label), fingerprint], 1)
        yield keys
