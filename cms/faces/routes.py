"""How a face states its routes: one table of what may be called, and what answers.

A handler takes the request itself: FastAPI would read a body before anything of ours runs, and
each face has an order of answers of its own, in which the body comes last. So :class:`Face` calls
the routes. Who may call stands in the table too: where a handler's own signature names a caller,
the table shows the function that finds this caller and then calls it. So does what is said of the
route, for the face's OpenAPI document::

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"{CARD}/pin", self._for_client(Verb.GET_PIN, self.get_pin), GET_PIN),
            Route("GET HEAD", PAGE_PATH, self.page, PAGE),
        )
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from cms.faces.operation import Operation

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One line of a face's table."""

    methods: str
    """One or more, separated by blanks."""
    path: str
    """Its members in braces; the handler finds them in ``request.path_params``."""
    handler: Handler
    operation: Operation
    """What OpenAPI says of it."""


ByMethod: TypeAlias = dict[str, Route]
"""The routes of one path."""


class Face(FastAPI):
    """The app of a face, which calls its routes itself.

    FastAPI's own way to a handler is for parameters, dependencies, files and telemetry, of which
    there is none here; its telemetry would tell of paths and queries, and so of control tokens.
    Whatever a handler raises is answered by the handler of its class, or of the nearest base class.
    """

    def __init__(self) -> None:
        super().__init__(docs_url=None, redoc_url=None, openapi_url=None)
        self.table: list[Route] = []
        """All that it serves."""
        self._plain: dict[str, ByMethod] = {}
        self._with_members: dict[str, tuple[re.Pattern[str], ByMethod]] = {}

    def add(self, routes: Iterable[Route]) -> None:
        """Serve *routes*; what is added in another way is not served."""
        for route in routes:
            self.table.append(route)
            if "{" in route.path:
                new = compile_path(route.path)[0], ByMethod()
                by_method = self._with_members.setdefault(route.path, new)[1]
            else:
                by_method = self._plain.setdefault(route.path, {})
            by_method |= dict.fromkeys(route.methods.split(), route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Put what the face has added, and nothing else, around its handlers."""
        app: ASGIApp = self._serve
        for middleware, args, kwargs in reversed(self.user_middleware):
            app = middleware(app, *args, **kwargs)
        return app

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._route(scope).handler(request)
        except Exception as error:  # noqa: BLE001 - each face has an answer to all of them
            response = await self._refusal(request, error)
        await response(scope, receive, send)

    def _route(self, scope: Scope) -> Route:
        """Find who answers, and note the route and the members of its path.

        Raises:
            HTTPException: 404 there is no such path, 405 not with this method.
        """
        by_method = self._by_method(scope)
        route = by_method.get(scope["method"])
        scope["route"] = route or next(iter(by_method.values()))
        if route is None:
            raise HTTPException(405, headers={"Allow": ", ".join(by_method)})
        return route

    def _by_method(self, scope: Scope) -> ByMethod:
        path = scope["path"]
        if path in self._plain:
            return self._plain[path]
        for pattern, by_method in self._with_members.values():
            # Not match: its end of a text is also before a line feed at the end.
            if found := pattern.fullmatch(path):
                scope["path_params"] = found.groupdict()
                return by_method
        raise HTTPException(404)

    async def _refusal(self, request: Request, error: Exception) -> Response:
        for kind in type(error).__mro__:
            if kind in self.exception_handlers:
                answered = self.exception_handlers[kind](request, error)
                return answered if isinstance(answered, Response) else await answered
        raise error
