"""Operations: is this worker alive, is it ready. Loopback only; a request gets one worker."""

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from cms import logs
from cms.services.health import Health


def ops_app(health: Health) -> FastAPI:
    """Build the operations listener."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Answer as long as the event loop turns; show what this worker turned away."""
        return JSONResponse({"status": "alive", "refused": dict(logs.refusals)})

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Answer 200 when token and database answered their last check, else 503."""
        checks = {"ready": health.ready, "vault": health.vault, "database": health.database}
        return JSONResponse(checks, 200 if health.ready else 503)

    return app
