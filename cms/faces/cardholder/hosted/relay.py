"""The second deployment: a request with ``x-us-env: true`` is sent on, its answer handed back."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from starlette.requests import Request
from starlette.responses import Response

from cms.domain.errors import ServiceUnavailable
from cms.services.outbound import AnswerUnusableError, Reachability

#: Apps wait 15 s.
TIMEOUT_SECONDS: Final = 10.0
ANSWER_BYTES_MAX: Final = 64 * 1024
#: Without x-us-env: the other end answers itself.
SENT_ON: Final = ("authorization", "content-type", "x-client-key")
HANDED_BACK: Final = ("content-type", "retry-after", "www-authenticate", "x-expires-at")
STATUS_MIN: Final = 200
REDIRECTS: Final = range(300, 400)


@dataclass(frozen=True, slots=True)
class Relay:
    """Sends requests on to another deployment of this face."""

    base_url: str
    http: httpx.AsyncClient
    reachability: Reachability = field(default_factory=lambda: Reachability("relay"))

    async def send(self, request: Request, body: bytes) -> Response:
        """Send a request on.

        Raises:
            ServiceUnavailable: the other end is unavailable, or what answered is no such
                deployment.
        """
        headers = {name: request.headers[name] for name in SENT_ON if name in request.headers}
        headers["x-correlation-id"] = request.scope["log"]["correlation_id"]
        url = self.base_url.rstrip("/") + request.url.path
        try:
            answer, received = await self._exchange(request.method, url, headers, body)
        except (httpx.HTTPError, TimeoutError, AnswerUnusableError) as error:
            self.reachability.failed(error)
            raise ServiceUnavailable from None
        self.reachability.answered()
        handed = {name: answer.headers[name] for name in HANDED_BACK if name in answer.headers}
        return Response(received, answer.status_code, handed)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[httpx.Response, bytes]:
        received = bytearray()
        # As a whole: httpx counts from one piece to the next.
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            self.http.stream(
                method, url, content=body, headers=headers, timeout=None, follow_redirects=False
            ) as answer,
        ):
            if answer.status_code < STATUS_MIN or answer.status_code in REDIRECTS:
                raise AnswerUnusableError("a status that is no answer")
            async for piece in answer.aiter_bytes():
                received += piece
                if len(received) > ANSWER_BYTES_MAX:
                    raise AnswerUnusableError("the answer is too large")
        return answer, bytes(received)
