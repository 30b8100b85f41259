"""Whoever sends a head without end is cut off; a long body and many requests are not."""

import asyncio
import socket

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from cms.protocol import HEAD_BYTES_MAX, BoundedProtocol
from cms.sandbox import HANG_SECONDS

pytestmark = pytest.mark.anyio


async def length_of_body(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def answers(*pieces: bytes) -> bytes:
    """Send *pieces* on one connection and return all that comes back."""
    config = uvicorn.Config(
        length_of_body, http=BoundedProtocol, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started:  # noqa: ASYNC110 - uvicorn sets a flag
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        for piece in pieces:
            writer.write(piece)
            # Each is read by itself.
            await asyncio.sleep(0.01)
        answer = await asyncio.wait_for(reader.read(), HANG_SECONDS)
        writer.close()
        server.should_exit = True
        await serving
    return answer


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nOrigin: ", b"GET /"])
async def test_a_head_without_end_is_cut_off(first: bytes) -> None:
    pieces = [b"x" * 16_384] * (HEAD_BYTES_MAX // 16_384 + 1)
    answer = await answers(first, *pieces)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too long" in answer


async def test_a_long_body_and_a_second_request_are_read() -> None:
    body = b"x" * (2 * HEAD_BYTES_MAX)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    answer = await answers(
        head + b"\r\n", body, head + b"Connection: close\r\n\r\n", body[:100], body[100:]
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(str(len(body)).encode()) == 2
