"""Operations: is this worker alive, is it ready. Loopback only; a request gets one worker."""

import asyncio
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from cms import logs
from cms.faces.routes import Face, Route
from cms.services.health import Health


@dataclass(frozen=True, slots=True)
class OpsRoutes:
    """What an operator's monitoring asks; whoever reaches the listener may call."""

    health: Health

    def routes(self) -> tuple[Route, ...]:
        """Return the table."""
        return (
            Route("GET", "/healthz", self.healthz),
            Route("GET", "/readyz", self.readyz),
        )

    async def healthz(self, _: Request) -> Response:
        """Answer as long as the event loop turns; show what this worker turned away."""
        return JSONResponse({"status": "alive", "refused": dict(logs.refusals)})

    async def readyz(self, _: Request) -> Response:
        """Answer 200 when vault and database answer now, else 503."""
        health = self.health
        await asyncio.gather(health.ask_vault(), health.ask_database())
        checks = {
            "ready": health.ready,
            "vault": health.vault_ready,
            "database": health.database_ready,
        }
        return JSONResponse(checks, 200 if health.ready else 503)


def ops_app(health: Health) -> FastAPI:
    """Build the app of the operations listener."""
    app = Face()
    app.add(OpsRoutes(health).routes())
    return app
