"""What every client that simulates a partner has: one connection, and what an answer was."""

import time
from typing import Any, Final, Self

import httpx

TIMEOUT_SECONDS: Final = 600


class Client:
    """One kept-alive connection with the service.

    Not for several threads. ``last_status`` and ``last_ms`` tell of the newest answer.
    """

    def __init__(self, base_url: str, transport: httpx.BaseTransport) -> None:
        self._http = httpx.Client(base_url=base_url, transport=transport, timeout=TIMEOUT_SECONDS)
        self.last_status = 0
        self.last_ms = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        started_s = time.perf_counter()
        response = self._http.request(method, path, **kwargs)
        self.last_ms = (time.perf_counter() - started_s) * 1000
        self.last_status = response.status_code
        return response


def json_object(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object that an answer holds; an empty one if it holds none."""
    try:
        content = response.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}
