"""The way of spans to a collector: OTLP over HTTP, in batches, from a thread of its own.

Of the environment only headers and a client certificate of ``OTEL_EXPORTER_OTLP_…`` count: no
proxy, no CA, no attribute, no sampler.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from cms.services.outbound import AnswerUnusableError, Reachability

SERVICE: Final = "issuer-pin-service"
QUEUE_SPANS_MAX: Final = 2048
"""What does not fit is lost: a request never waits for a collector."""
BATCH_SPANS_MAX: Final = 512
BATCH_MS: Final = 1000
SEND_SECONDS_MAX: Final = 5.0
CLOSE_SECONDS_MAX: Final = 2.0


class Export:
    """Sends spans until it is closed.

    Args:
        url: of the collector, with its path.
        ca_file: the only CAs that its certificate may lead to; None: the public ones.
        host_name: what operators call this host.
        slot: of this worker.
    """

    def __init__(self, url: str, ca_file: Path | None, host_name: str, slot: str) -> None:
        resource = Resource({"service.name": SERVICE, "service.instance.id": f"{host_name}/{slot}"})
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _Sender(url, ca_file),
                max_queue_size=QUEUE_SPANS_MAX,
                schedule_delay_millis=BATCH_MS,
                max_export_batch_size=BATCH_SPANS_MAX,
                export_timeout_millis=SEND_SECONDS_MAX * 1000,
            )
        )

    def tracer(self) -> Tracer:
        """Return what makes spans."""
        return self._provider.get_tracer(SERVICE)

    def flush(self) -> None:
        """Send what waits, and wait for it."""
        self._provider.force_flush()

    async def close(self) -> None:
        """Send what waits; a collector that does not answer is not waited for."""
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS_MAX)


class _Sender(OTLPSpanExporter):
    """Says in the log when spans begin to be lost, and when no more are; the library is silent."""

    def __init__(self, url: str, ca_file: Path | None) -> None:
        session = requests.Session()
        session.trust_env = False
        super().__init__(
            url,
            certificate_file=None if ca_file is None else str(ca_file),
            timeout=SEND_SECONDS_MAX,
            compression=Compression.Gzip,
            session=session,
        )
        # The library would let the environment name other CAs.
        session.verify = True if ca_file is None else str(ca_file)
        self._reachability = Reachability("traces")
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._reachability.answered()
        else:
            self._reachability.failed(AnswerUnusableError("the collector does not take spans"))
        return result
