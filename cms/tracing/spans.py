"""Spans around a request, around its statements, and around its calls of the vault.

A span holds what :data:`ATTRIBUTES` lists, and its name is made of names of ours: no path, no
query, nothing that a caller sent.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind, StatusCode, Tracer
from starlette.types import ASGIApp, Receive, Scope, Send

from cms.metrics import METHODS, NO_ROUTE, OTHER
from cms.persistence.connection import Row
from cms.persistence.pool import Pool
from cms.persistence.statements import Statement
from cms.persistence.statements.names import named
from cms.tracing.parents import Choice, parent_of
from hsm.client import VaultCalls
from hsm.manifest.model import Manifest
from hsm.messages import ReadManifest, Verb

ATTRIBUTES: Final[Mapping[str, str]] = {
    "listener": "pins.listener",
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "issuer_id": "pins.issuer_id",
}
"""Of a request: by its name in the log line, what it is called in the span.

Source: OpenTelemetry, semantic conventions of HTTP spans; those of `pins` are ours.
"""
ERROR_CLASS: Final = "error.type"
"""The name of a class, of any span."""
SERVER_ERROR: Final = 500
UNKNOWN: Final = "statement"
T = TypeVar("T")


class TracedRequests:
    """ASGI middleware below :class:`cms.logs.RequestLog`: a span a request that is chosen.

    Args:
        app: what serves.
        tracer: what makes spans.
        choice: which requests.
        proxy_peers: whose ``traceparent`` counts at this listener.
    """

    def __init__(
        self, app: ASGIApp, tracer: Tracer, choice: Choice, proxy_peers: Collection[str]
    ) -> None:
        self.app = app
        self._tracer = tracer
        self._choice = choice
        self._proxy_peers = proxy_peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        parent = parent_of(scope, self._proxy_peers)
        if parent is not None:
            scope["log"]["trace_id"] = trace.format_trace_id(parent.trace_id)
        if not self._choice.takes(parent):
            await self.app(scope, receive, send)
            return
        above = trace.set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None
        with self._tracer.start_as_current_span(
            "request",
            above,
            SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            scope["log"]["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)
            try:
                await self.app(scope, receive, send)
            except Exception as error:
                _note_error(span, error)
                raise
            finally:
                _describe(span, scope)


class TracedVault:
    """The way to the vault, with a span a call."""

    def __init__(self, vault: VaultCalls, tracer: Tracer) -> None:
        self._vault = vault
        self._tracer = tracer

    async def call(self, message: Verb[T]) -> T:
        """Call a verb, as :meth:`hsm.client.VaultCalls.call` does."""
        with _child(self._tracer, f"vault {message.name()}"):
            return await self._vault.call(message)

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        """Return a manifest, as :meth:`hsm.client.VaultCalls.read_manifest` does."""
        with _child(self._tracer, f"vault {ReadManifest.name()}"):
            return await self._vault.read_manifest(issuer_id)

    async def close(self) -> None:
        """Let go of the vault."""
        await self._vault.close()


class TracedPool(Pool):
    """Connections to the database, with a span a statement."""

    def __init__(self, address: str, tracer: Tracer) -> None:
        super().__init__(address)
        self._tracer = tracer
        self._names = {statement: name for name, statement in named()}

    async def rows(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run a statement, as :meth:`cms.persistence.pool.Pool.rows` does."""
        with _child(self._tracer, f"postgres {self._names.get(statement, UNKNOWN)}"):
            return await super().rows(statement, parameters)


def _describe(span: Span, scope: Scope) -> None:
    route = getattr(scope.get("route"), "path", NO_ROUTE)
    method = scope["method"] if scope["method"] in METHODS else OTHER
    fields = {"status": SERVER_ERROR, **scope["log"], "route": route, "method": method}
    span.update_name(f"{method} {route}")
    span.set_attributes({name: fields[each] for each, name in ATTRIBUTES.items() if each in fields})
    if fields["status"] >= SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


@contextmanager
def _child(tracer: Tracer, name: str) -> Iterator[None]:
    """Make a span of what is done for a request that is traced; for any other, nothing."""
    if not trace.get_current_span().is_recording():
        yield
        return
    with tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except Exception as error:
            _note_error(span, error)
            raise


def _note_error(span: Span, error: Exception) -> None:
    """Note the class of an error; what it says may be anything."""
    span.set_attribute(ERROR_CLASS, type(error).__name__)
    span.set_status(StatusCode.ERROR)
