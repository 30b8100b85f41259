"""A collector of traces: an OTLP/HTTP receiver on the loopback address, which keeps what comes."""

import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

PATH = "/v1/traces"


@dataclass(frozen=True)
class Received:
    """A span as it came."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, str | int]


@dataclass
class Collector:
    """What came so far."""

    url: str
    spans: list[Received] = field(default_factory=list)
    resources: list[Mapping[str, str | int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Each message, whole: as protobuf shows it, and its bytes."""

    def take(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        self.texts += [str(message), body.decode("latin-1")]
        for of_resource in message.resource_spans:
            self.resources.append(_values(of_resource.resource.attributes))
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    self.spans.append(
                        Received(
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            _values(span.attributes),
                        )
                    )

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def below(self, parent: Received) -> set[str]:
        """The names of the spans right below one."""
        return {span.name for span in self.spans if span.parent_id == parent.span_id}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Receive until the block ends."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == PATH
            collector.take(gzip.decompress(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    collector = Collector(f"http://127.0.0.1:{server.server_port}{PATH}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


def _values(attributes: Iterable[KeyValue]) -> Mapping[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in attributes}
