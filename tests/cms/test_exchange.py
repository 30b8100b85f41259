"""An answer is one write where it can be, and what uvicorn makes of it where it cannot."""

import asyncio
from typing import Final, TypeAlias

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cms.exchange import RECORD_BYTES_MAX
from cms.protocol import BoundedProtocol
from tests.cms.connection import Connection

pytestmark = pytest.mark.anyio
Headers: TypeAlias = list[tuple[bytes, bytes]]
DATE = (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")


async def answered(
    protocol: type[HttpToolsProtocol],
    status: int,
    headers: Headers,
    *bodies: bytes,
    request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
) -> Connection:
    """Have an app answer so, and return what the connection saw."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        for body in bodies:
            more = body is not bodies[-1]
            await send({"type": "http.response.body", "body": body, "more_body": more})

    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    state = ServerState()
    state.default_headers = [DATE]
    connection = Connection()
    speaking = protocol(config, state, {})
    speaking.connection_made(connection)
    speaking.data_received(request)
    await asyncio.gather(*state.tasks)
    closed = connection.closed
    speaking.connection_lost(None)
    connection.closed = closed
    return connection


LENGTH = b"content-length"
ANSWERS: Final[dict[str, tuple[int, Headers, list[bytes]]]] = {
    "plain": (200, [(LENGTH, b"2")], [b"ok"]),
    "no headers": (204, [], [b""]),
    "204": (204, [(b"x-a", b"b")], [b""]),
    "204 with a body": (204, [(b"x-a", b"b")], [b"ok"]),
    "no length": (200, [(b"x-a", b"b")], [b"ok"]),
    "too long": (200, [(LENGTH, b"1")], [b"ok"]),
    "too short": (200, [(LENGTH, b"3")], [b"ok"]),
    "closes": (200, [(LENGTH, b"2"), (b"connection", b"close")], [b"ok"]),
    "chunked": (200, [(b"transfer-encoding", b"chunked")], [b"ok"]),
    "in pieces": (200, [(LENGTH, b"2")], [b"o", b"k"]),
    "whole before its end": (200, [(LENGTH, b"2")], [b"ok", b""]),
    "capitals": (200, [(b"Content-Length", b"2")], [b"ok"]),
    "two lines in a value": (200, [(LENGTH, b"2"), (b"x-a", b"b\r\nx-c: d")], [b"ok"]),
    "two lines in a name": (200, [(LENGTH, b"2"), (b"x-a\r\nx-c", b"d")], [b"ok"]),
    "499": (499, [(LENGTH, b"0")], [b""]),
    "large": (200, [(LENGTH, b"%d" % RECORD_BYTES_MAX)], [b"x" * RECORD_BYTES_MAX]),
}
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REQUESTS = {
    "GET": GET,
    "HEAD": b"HEAD" + GET[3:],
    "last": GET[:-2] + b"Connection: close\r\n\r\n",
    "1.0": GET.replace(b"1.1", b"1.0"),
}


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_the_bytes_of_an_answer_are_those_of_uvicorn(answer: str, request_of: str) -> None:
    status, headers, bodies = ANSWERS[answer]
    ours, theirs = [
        await answered(protocol, status, headers, *bodies, request=REQUESTS[request_of])
        for protocol in (BoundedProtocol, HttpToolsProtocol)
    ]
    assert b"".join(ours.written) == b"".join(theirs.written)
    assert ours.closed == theirs.closed


async def test_a_small_answer_is_one_write_and_a_large_one_two() -> None:
    small = await answered(BoundedProtocol, 200, [(LENGTH, b"2")], b"ok")
    status, headers, bodies = ANSWERS["large"]
    large = await answered(BoundedProtocol, status, headers, *bodies)
    assert (len(small.written), len(large.written)) == (1, 2)


async def test_an_answer_that_stops_before_its_body_is_none() -> None:
    stopped = await answered(BoundedProtocol, 200, [(LENGTH, b"2")])
    assert b"".join(stopped.written).startswith(b"HTTP/1.1 500 ")
    assert stopped.closed
