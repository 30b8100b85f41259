"""Operations: is this worker alive, are all ready, what was counted. For operators only.

A request gets one worker; but for ``/healthz`` it tells of all.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec
from fastapi import Request, Response
from msgspec import Meta
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException

from cms import logs
from cms.faces import NAMES
from cms.faces.answer import json_answer
from cms.faces.operation import TEXT, About, Answered, Content, Operation, Schema, parameter
from cms.faces.refusals import Refusal
from cms.faces.routes import Face, Route
from cms.services.ends import Ends
from cms.services.health import DATABASE_CAUSES, VAULT_SECONDS_MAX, Health, Readiness
from cms.services.workers import Fault
from hsm import exposition, messages
from hsm.client import VaultCalls
from hsm.errors import HsmError
from hsm.port import KeyUse

log = logging.getLogger(__name__)
Documents: TypeAlias = Mapping[str, Response]
INTERFACES_PATH: Final = "/interfaces"
OPENAPI_PATH: Final = "/openapi"


class Alive(msgspec.Struct):
    """What this worker turned away, by kind."""

    status: Annotated[str, Meta(examples=["alive"])]
    refused: Annotated[dict[str, int], Meta(examples=[{"malformed": 2}])]


class Checks(msgspec.Struct):
    """What can be used, and what is wrong, or will be."""

    ready: bool
    vault: bool
    database: bool
    problems: Sequence[Fault]
    warnings: Sequence[Fault]


class Refused(msgspec.Struct):
    """Why there is nothing else."""

    detail: Annotated[str, Meta(examples=["Not Found"])]


ABOUT: Final = About(
    name="ops",
    title="Operations",
    description="Health, metrics and these documents: for operators and their monitoring only.",
    error=Refused,
)
NOT_FOUND: Final = Refusal(
    *(404, {"detail": "Not Found"}, "There is nothing at this path.", "Correct it."),
    code="detail",
)
NOT_ALLOWED: Final = Refusal(
    *(405, {"detail": "Method Not Allowed"}, "Not with this method.", "Correct it."),
    code="detail",
)
ROUTING_REFUSALS: Final = (NOT_FOUND, NOT_ALLOWED)
INTERNAL: Final = "Internal Server Error"
UNEXPECTED: Final = Refusal(
    *(500, {"detail": INTERNAL}, "A defect of the service.", "Look into its log."),
    code="detail",
)
HEALTHZ: Final = Operation(
    "Is this worker alive", {200: Answered("It is.", Content(Alive))}, [UNEXPECTED]
)
READY: Final[Mapping[str, object]] = {
    "ready": True,
    "vault": True,
    "database": True,
    "problems": [],
    "warnings": [{"part": "manifest", "reason": "firstbank1: it ends at 2027-01-08 12:00 UTC"}],
}
NOT_READY: Final[Mapping[str, object]] = {
    **READY,
    "ready": False,
    "database": False,
    "problems": [{"part": "database", "reason": "READ_ONLY"}],
}
READYZ: Final = Operation(
    "Can all workers serve",
    {
        200: Answered("They can.", Content(Checks, example=READY)),
        503: Answered("They cannot: problems says why.", Content(Checks, example=NOT_READY)),
    },
    [UNEXPECTED],
)
METRICS: Final = Operation(
    "What was counted",
    {200: Answered("For Prometheus.", Content(TEXT, exposition.CONTENT_TYPE))},
    [UNEXPECTED],
)
DOCUMENT: Final[Schema] = {"type": "object", "required": ["openapi", "info", "paths"]}
HTML: Final = Content(TEXT, "text/html; charset=utf-8")
FACE: Final = parameter("path", "face", {"enum": [*NAMES]}, example=NAMES[0])
INTERFACES: Final = Operation("List the faces", {200: Answered("A page.", HTML)}, [UNEXPECTED])
INTERFACE: Final = Operation(
    "Read what a face offers",
    {200: Answered("A page.", HTML)},
    [NOT_FOUND, UNEXPECTED],
    parameters=[FACE],
)
OPENAPI: Final = Operation(
    "Get what a face offers as OpenAPI 3.1",
    {200: Answered("A document.", Content(DOCUMENT))},
    [NOT_FOUND, UNEXPECTED],
    parameters=[FACE],
)


@dataclass(frozen=True, slots=True)
class OpsRoutes:
    """What an operator's monitoring asks; whoever reaches the listener may call."""

    health: Health
    vault: VaultCalls
    documents: Documents

    def routes(self) -> tuple[Route, ...]:
        """Return the table."""
        return (
            Route("GET", "/healthz", self.healthz, HEALTHZ),
            Route("GET", "/readyz", self.readyz, READYZ),
            Route("GET", "/metrics", self.metrics, METRICS),
            Route("GET", INTERFACES_PATH, self.document, INTERFACES),
            Route("GET", f"{INTERFACES_PATH}/{{face}}", self.document, INTERFACE),
            Route("GET", f"{OPENAPI_PATH}/{{face}}", self.document, OPENAPI),
        )

    async def healthz(self, _: Request) -> Response:
        """Answer as long as the event loop turns; show what this worker turned away."""
        return json_answer(Alive("alive", dict(logs.refusals)), ())

    async def readyz(self, _: Request) -> Response:
        """Answer 200 when vault and database answer now and to all workers, else 503."""
        await asyncio.gather(self.health.ask_vault(), self.health.ask_database())
        seen = self.health.of_all()
        parts = seen.ready, seen.vault, seen.database
        checks = Checks(*parts, seen.problems, seen.warnings)
        return json_answer(checks, (), 200 if seen.ready else 503)

    async def metrics(self, _: Request) -> Response:
        """Show what all workers counted, and those of the vault, where it answers."""
        uses: Sequence[KeyUse] = ()
        # A vault that hangs is told of by what the web itself counts: that must come in time.
        with suppress(HsmError, TimeoutError):
            async with asyncio.timeout(VAULT_SECONDS_MAX):
                uses = await self.vault.call(messages.KeyUses())
        state = State(self.health.of_all(), self.health.ends, uses)
        # Some milliseconds of work, beside the requests.
        shown = await asyncio.to_thread(exposition.text, state)
        with suppress(HsmError, TimeoutError):
            async with asyncio.timeout(VAULT_SECONDS_MAX):
                shown += await self.vault.call(messages.Metrics())
        return Response(shown, media_type=exposition.CONTENT_TYPE)

    async def document(self, request: Request) -> Response:
        """Show what the faces offer, for people or for programs.

        Raises:
            HTTPException: 404 there is no such face.
        """
        found = self.documents.get(request.url.path)
        if found is None:
            raise HTTPException(404)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class State(Collector):
    """What is now, as it was last seen."""

    seen: Readiness
    ends: Ends
    key_uses: Sequence[KeyUse] = ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Describe it."""
        yield self._readiness()
        problems = GaugeMetricFamily(
            "cms_problem",
            "How many problems and warnings /readyz names.",
            labels=["part", "severity"],
        )
        for severity, faults in (("problem", self.seen.problems), ("warning", self.seen.warnings)):
            for part in sorted({fault.part for fault in faults}):
                problems.add_metric([part, severity], sum(each.part == part for each in faults))
        yield problems
        yield self._database_causes()
        yield self._workers()
        yield self._connections()
        yield self._clock_difference()
        yield from self._key_uses()
        for what, by in (("manifest", "issuer"), ("certificate", "listener")):
            end = GaugeMetricFamily(
                f"cms_{what}_end_timestamp_seconds", f"When a {what} ends.", labels=[by]
            )
            for name, moment in getattr(self.ends, f"{what}s").items():
                end.add_metric([name], moment.timestamp())
            yield end

    def _key_uses(self) -> Iterator[GaugeMetricFamily]:
        labels = ["key", "unit"]
        uses = GaugeMetricFamily(
            "cms_key_uses", "How often a key of the HSM token was used at this host.", labels=labels
        )
        most = GaugeMetricFamily("cms_key_uses_max", "How often a key may be used.", labels=labels)
        for each in self.key_uses:
            uses.add_metric([each.label, each.unit], each.uses)
            most.add_metric([each.label, each.unit], each.uses_max)
        yield uses
        yield most

    def _readiness(self) -> GaugeMetricFamily:
        ready = GaugeMetricFamily("cms_ready", "1 or 0: all, vault, database.", labels=["part"])
        ready.add_metric(["all"], self.seen.ready)
        ready.add_metric(["vault"], self.seen.vault)
        ready.add_metric(["database"], self.seen.database)
        return ready

    def _database_causes(self) -> GaugeMetricFamily:
        found = {fault.reason for fault in self.seen.problems if fault.part == "database"}
        causes = GaugeMetricFamily(
            "cms_database_cause", "1: why the database cannot be used.", labels=["cause"]
        )
        for cause in sorted({*DATABASE_CAUSES, *found}):
            causes.add_metric([cause], cause in found)
        return causes

    def _workers(self) -> GaugeMetricFamily:
        workers = GaugeMetricFamily(
            "cms_workers", "Workers that run: answering, silent.", labels=["state"]
        )
        silent = sum(view.is_silent for view in self.seen.views)
        workers.add_metric(["answering"], len(self.seen.views) - silent)
        workers.add_metric(["silent"], silent)
        return workers

    def _clock_difference(self) -> GaugeMetricFamily:
        seen = [view.clock_difference_seconds for view in self.seen.views]
        return GaugeMetricFamily(
            "cms_clock_difference_seconds",
            "By how much the database's clock is ahead of this host's, below 0 behind, as far as"
            " the time that the answer took lets it be known.",
            max(seen, key=abs, default=0.0),
        )

    def _connections(self) -> GaugeMetricFamily:
        views = self.seen.views
        connections = GaugeMetricFamily(
            "cms_database_connections",
            "Of all workers, as last seen: open, free, and callers that wait for one, waited_for.",
            labels=["state"],
        )
        connections.add_metric(["open"], sum(view.connections for view in views))
        connections.add_metric(["free"], sum(view.connections_free for view in views))
        connections.add_metric(["waited_for"], sum(view.callers_waiting for view in views))
        return connections


def ops_app(health: Health, vault: VaultCalls, documents: Documents) -> Face:
    """Build the app of the operations listener.

    Args:
        health: what it tells of.
        vault: the same.
        documents: what describes every face, by its path; made before any request.
    """
    app = Face()
    app.add_exception_handler(Exception, _on_unexpected_error)
    app.add(OpsRoutes(health, vault, documents).routes())
    return app


async def _on_unexpected_error(_: Request, error: Exception) -> Response:
    log.error("internal", exc_info=error)
    return json_answer(Refused(INTERNAL), (), UNEXPECTED.status)
