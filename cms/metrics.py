"""What the web counts: requests, refusals, and what becomes of calls of the database and the vault.

All workers together (:mod:`hsm.exposition`). Labels are names of ours, of which there are few: no
path, no card, nobody who calls. docs/metrics.md lists what is shown.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Histogram

from hsm import exposition

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER: Final = "other"
NO_ROUTE: Final = "none"
REQUEST_SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper ends of the steps in which times are counted; an alert looks at 0.5."""
CALLERS_REFUSED: Final = ("malformed", "slow", "handshake", "unauthorized")
WATCHED: Final = (
    *("LIMIT_REACHED", "NOT_GENUINE", "PIN_CHANGE_FORBIDDEN", "SEAL_BROKEN"),
    "WRONG_PIN_DATA",
)
"""Reasons of refusals of which alerts tell."""
FACES: Final = ("d1", "hosted", "pincontrol")
_shared: Final = exposition.registry


class ControlToken(StrEnum):
    """What became of a control token; those that expire are the issued less the consumed."""

    ISSUED = "issued"
    CONSUMED = "consumed"
    REFUSED = "refused"


_requests: Final = Histogram(
    "cms_request_seconds",
    "Requests: the time to the end of the answer.",
    ["listener", "route", "method", "status"],
    buckets=REQUEST_SECONDS,
    registry=_shared,
)
_callers_refused: Final = Counter(
    "cms_callers_refused",
    "Callers turned away before they were known: malformed, slow, handshake, unauthorized.",
    ["kind"],
    registry=_shared,
)
_refusals: Final = Counter(
    "cms_refusals",
    "Calls that the audit has as refused or failed, by its reasons: PIN_CHANGE_FORBIDDEN is a weak"
    " PIN, NOT_GENUINE a SECCOS payload that D1 did not make, SEAL_BROKEN an alarm.",
    ["reason"],
    registry=_shared,
)
_audit_rows: Final = Counter(
    "cms_audit_rows",
    "Rows that the listeners wrote into the audit, by its events: what was done, refused or failed."
    " Those of commands are not among them.",
    ["event"],
    registry=_shared,
)
_database_failures: Final = Counter(
    "cms_database_failures", "Statements that failed, by cause.", ["cause"], registry=_shared
)
_conflicts: Final = Counter(
    "cms_conflicts",
    "PINs that were not set, since the card changed at each of three tries.",
    ["face"],
    registry=_shared,
)
_control_tokens: Final = Counter(
    "cms_control_tokens",
    "Control tokens: issued, consumed, and refused, which were asked for and not live. What was"
    " issued and not consumed expires.",
    ["event"],
    registry=_shared,
)
_vault_calls: Final = Histogram(
    "cms_vault_call_seconds",
    "Calls of the vault as the web waits for them.",
    ["verb"],
    buckets=REQUEST_SECONDS,
    registry=_shared,
)
_vault_failures: Final = Counter(
    "cms_vault_failures",
    "Calls of the vault that failed or were refused; VaultBusy: too many were waiting.",
    ["verb", "error"],
    registry=_shared,
)
_workers_started: Final = Counter(
    "cms_workers_started",
    "Workers of the web that were started; what is more than CMS_WORKERS are restarts.",
    ["program"],
    registry=_shared,
)
_observers: Final[dict[tuple[object, ...], Callable[[float], None]]] = {}
"""A labelled value is looked up once: that costs more than to count."""


def begin() -> str:
    """Count with the other workers from now on; return this worker's slot."""
    slot = exposition.free_slot()
    exposition.count_in(slot)
    _observers.clear()
    # An alert sees a rise only of what was there before.
    for kind in CALLERS_REFUSED:
        _callers_refused.labels(kind)
    for reason in WATCHED:
        _refusals.labels(reason)
    for event in ControlToken:
        _control_tokens.labels(event)
    for face in FACES:
        _conflicts.labels(face)
    _workers_started.labels("web").inc()
    return slot


def request_served(
    listener: str, route: str | None, method: str, status: object, seconds: float
) -> None:
    """Count a request; *route* is the template, and None where there is none."""
    if method not in METHODS:
        method = OTHER
    key = (listener, route, method, status)
    observe = _observers.get(key)
    if observe is None:
        observe = _requests.labels(listener, route or NO_ROUTE, method, status).observe
        _observers[key] = observe
    observe(seconds)


def caller_refused(kind: str) -> None:
    """Count a caller that was turned away."""
    _callers_refused.labels(kind).inc()


def call_refused(reason: str) -> None:
    """Count what the audit has as refused; *reason* is one of its vocabulary."""
    _refusals.labels(reason).inc()


def audited(event: str, rows: int = 1) -> None:
    """Count rows that are in the audit; *event* is one of its vocabulary."""
    _audit_rows.labels(event).inc(rows)


def database_failed(cause: str) -> None:
    """Count a statement that the database did not do."""
    _database_failures.labels(cause).inc()


def conflict(face: str) -> None:
    """Count a PIN that was not set since the card was changed by others at each try."""
    _conflicts.labels(face).inc()


def control_token(event: ControlToken) -> None:
    """Count what became of a control token."""
    _control_tokens.labels(event).inc()


def vault_called(verb: str, seconds: float) -> None:
    """Count a call of the vault."""
    observe = _observers.get((verb,))
    if observe is None:
        observe = _observers[(verb,)] = _vault_calls.labels(verb).observe
    observe(seconds)


def vault_failed(verb: str, error: str) -> None:
    """Count a call of the vault that raised *error*, a class of :mod:`hsm.errors`."""
    _vault_failures.labels(verb, error).inc()
