"""How a face states its routes: one table of what may be called, and what answers.

A handler takes the request itself: FastAPI would read a body before anything of ours runs, and
each face has an order of answers of its own, in which the body comes last. So FastAPI matches a
route and describes it, and the rest of what it does for a call is left out. Who may call stands in
the table too: where a handler's own signature names a caller, the table shows the function that
finds this caller and then calls it::

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"{CARD}/pin", self._for_client(Verb.GET_PIN, self.get_pin)),
            Route("GET HEAD", PAGE_PATH, self.page),
        )
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One line of a face's table. What follows *handler* is for OpenAPI only."""

    methods: str
    """One or more, separated by blanks."""
    path: str
    """Its members in braces; the handler finds them in ``request.path_params``."""
    handler: Handler
    """Annotated to return a response, which FastAPI then sends as it is."""
    summary: str = ""
    success_status: int = 200
    answers: Mapping[int | str, dict[str, Any]] = field(default_factory=dict)
    """Every other answer, by status."""
    openapi: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the operation: ``parameters``, ``requestBody``."""


class _DirectRoute(APIRoute):
    """A route whose handler gets the request and nothing else; FastAPI describes it as any other.

    What the handler raises is answered where the app answers what no route matches.
    """

    def __init__(self, path: str, endpoint: Handler, **description: Any) -> None:  # noqa: ANN401 - FastAPI's
        super().__init__(path, endpoint, **description)

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = call


def new_app(title: str = "FastAPI") -> FastAPI:
    """Make the app of a face, which answers nothing yet.

    It has no telemetry: FastAPI would write paths and queries, and so control tokens, into it.
    """
    return FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )


def add_routes(app: FastAPI, routes: Iterable[Route]) -> None:
    """Add *routes* to the app itself.

    A router of their own that is included costs each request a third of FastAPI's share.
    """
    for route in routes:
        app.router.add_api_route(
            route.path,
            route.handler,
            methods=route.methods.split(),
            name=route.summary or None,
            summary=route.summary or None,
            status_code=route.success_status,
            responses=dict(route.answers),
            openapi_extra=dict(route.openapi),
            route_class_override=_DirectRoute,
        )
