"""Logs: one JSON object a line, from an allow-list of fields.

A field that is not listed is dropped, so that a careless ``extra`` cannot leak. Tracebacks are
cut to the class of the exception and the places it passed: a message may hold anything.
"""

import hashlib
import json
import logging
import re
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cms import metrics
from crypto.pan_text import holds_long_number, holds_pan

FIELDS: Final = (
    "listener",
    "method",
    "route",
    "status",
    "duration_ms",
    "correlation_id",
    "trace_id",
    "issuer_id",
    "client_id",
    "card_id",
    "error_code",
    "error_id",
    "reason",
    "count",
    "jwe_alg",
    "jwe_enc",
    "jwe_kid",
    "jwe_unknown",
)
CORRELATION_HEADER: Final = b"x-correlation-id"
CORRELATION_CHARS_MAX: Final = 128
VISIBLE: Final = re.compile("[ -~]+")
HASH_HEX_DIGITS: Final = 32
SHOWN_CHARS_MAX: Final = 128
#: A clear PIN block of ISO 9564-1, formats 0 to 3, and the first half of format 4: control nibble,
#: length of the PIN, digits and fill.
PIN_BLOCK: Final = re.compile(
    "(?<![0-9A-F])(?:[0-3][4-9A-C][0-9A-F]{14}|4[4-9A-C][0-9A-F]{30})(?![0-9A-F])", re.IGNORECASE
)
IN_CALLBACK: Final = "in callback"
"""Behind it an event loop shows a callback and its arguments."""
PAN_SOUGHT_CHARS_MAX: Final = 128
#: A value that is no JSON is written as it shows itself: a secret hides what it holds.
to_json: Final = json.JSONEncoder(default=str, separators=(",", ":")).encode
#: For lines of these types only: it would show what is in objects that hide it from ``str``.
to_json_fast: Final = msgspec.json.Encoder().encode
PLAIN: Final = frozenset((str, int, float, bool, type(None)))
log = logging.getLogger("cms.request")
#: What logging finds out for a record, as file and thread, is in no line: it is found out once.
REQUEST: Final = vars(log.makeRecord(log.name, logging.INFO, __file__, 0, "request", (), None))

#: How often this process refused a caller, by kind; shown by the ops listener.
refusals: Final[Counter[str]] = Counter()


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON, in ASCII."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "event": _event(record.msg),
        }
        members = record.__dict__
        line |= {name: members[name] for name in FIELDS if name in members}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = _places(record.exc_info[2])
        return _json(line)

    def _time(self, created: float) -> str:
        """Write a time in UTC, to the millisecond; each second is written once."""
        milliseconds = int(created * 1000)
        second, text = self._second
        if second != milliseconds // 1000:
            second = milliseconds // 1000
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second, text  # one assignment: other threads log too
        return f"{text}.{milliseconds % 1000:03d}+00:00"


def set_up() -> None:
    """Send every log of this process to standard output as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def refused(kind: str, reason: str) -> None:
    """Count and log a caller that was turned away before it was known."""
    refusals[kind] += 1
    metrics.caller_refused(kind)
    log.warning(kind, extra={"reason": reason, "count": refusals[kind]})


class RequestLog:
    """ASGI middleware: one line a request, and the correlation id on every answer.

    Handlers add fields to ``scope["log"]``; ``scope["log"]["correlation_id"]`` is set for them.
    """

    def __init__(self, app: ASGIApp, listener: str) -> None:
        self._app = app
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, then log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        fields: dict[str, object] = {"listener": self._listener, "method": scope["method"]}
        name = correlation_id(scope["headers"])
        header = (CORRELATION_HEADER, name.encode())
        fields["correlation_id"] = name
        scope["log"] = fields

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields["status"] = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            if "status" not in fields:
                raise
            log.exception("internal")  # the answer has begun: no face can give another
        finally:
            route = getattr(scope.get("route"), "path", None)
            seconds = time.perf_counter() - started
            metrics.request_served(
                self._listener, route, scope["method"], fields.get("status", 500), seconds
            )
            fields["route"], fields["duration_ms"] = route, round(seconds * 1000, 2)
            if log.isEnabledFor(logging.INFO):
                record = object.__new__(logging.LogRecord)
                record.__dict__ |= {**fields, **REQUEST, "created": time.time()}
                log.handle(record)


def correlation_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Name a request for the log, the audit and the answer.

    Returns:
        The caller's correlation id, if it has 1 to 128 visible characters of ASCII. Of any other,
        ``sha256:`` and the first 32 hexadecimal digits of the SHA-256 of its bytes, so that the
        caller can find it. One of our own, a UUID, if there is none, or if the id could hold a PAN:
        there are too few PANs for a hash to hide one.
    """
    sent = next((value for name, value in headers if name == CORRELATION_HEADER), b"").strip(b" \t")
    given = sent.decode(errors="replace")
    if not given or _could_hold_pan(given):
        return str(uuid.uuid4())
    if len(given) <= CORRELATION_CHARS_MAX and VISIBLE.fullmatch(given):
        return given
    return f"sha256:{hashlib.sha256(sent).hexdigest()[:HASH_HEX_DIGITS]}"


def shown(value: object) -> str:
    r"""Return what a log may show of what a caller sent: printable, bounded, no PAN or PIN.

    >>> shown("bank-2026"), shown(4), shown("4111 1111-1111 1111"), shown("a\nb")
    ('bank-2026', '(no text)', '(like a PAN)', '(not printable)')
    >>> shown("241234FFFFFFFFFF")
    '(like a PIN block)'
    """
    if not isinstance(value, str):
        return "(no text)"
    if not (value.isascii() and value.isprintable()):
        return "(not printable)"
    if _could_hold_pan(value):
        return "(like a PAN)"
    if PIN_BLOCK.search(value):
        return "(like a PIN block)"
    return value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "..."


def _could_hold_pan(text: str) -> bool:
    """Tell whether *text* is not to be logged; of a long one this is told at little cost."""
    if len(text) > PAN_SOUGHT_CHARS_MAX:
        return holds_long_number(text)
    return holds_pan(text, across_letters=False)


def _json(line: Mapping[str, object]) -> str:
    try:
        if PLAIN.issuperset(map(type, line.values())) and (text := to_json_fast(line)).isascii():
            return text.decode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return to_json(line)
    return to_json(line)


def _event(message: object) -> str:
    """Name what happened: the first line of a message, without what fills its places.

    asyncio fills its own before they come here: what follows shows the objects at hand, callbacks
    with their arguments, exceptions and their messages.
    """
    if not isinstance(message, str):
        return type(message).__name__
    before, callback, _ = message.partition("\n")[0].partition(IN_CALLBACK)
    return before + callback


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(trace)]
