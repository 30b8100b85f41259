"""Two parsers see the same requests in the same bytes, or ours sees fewer and hangs up.

h11, fed with the whole of what a connection sends, is the second one. Half of the streams are
well formed; the others have one fault or two, where parsers are known to differ.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cms.protocol import BoundedProtocol
from tests.cms.connection import Connection
from tests.framings import Seen, Streams, seen_by_h11

pytestmark = pytest.mark.anyio

STREAMS = 1000


@dataclass
class Recorder:
    """An app that writes down the requests it is asked to serve."""

    requests: list[Seen] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        seen = Seen(scope["method"].encode(), target, headers_of(scope))
        self.requests.append(seen)
        while not seen.complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            seen.body += message["body"]
            seen.complete = not message["more_body"]
        # The scope as it is when the body has come: trailers must not be in it.
        seen.headers = headers_of(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


def headers_of(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers as h11 does, which writes a transfer coding in lower case."""
    return [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in scope["headers"]
    ]


async def ours(pieces: list[bytes], protocol: type[HttpToolsProtocol]) -> tuple[list[Seen], bool]:
    """Return the requests that *protocol* has served, and whether it hung up."""
    recorder, transport, state = Recorder(), Connection(), ServerState()
    config = uvicorn.Config(
        recorder, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    connection = protocol(config, state, {})
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
        await settled()
    closed = transport.closed
    connection.connection_lost(None)
    await settled()
    return recorder.requests, closed


async def settled() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def disagreements(protocol: type[HttpToolsProtocol]) -> tuple[list[bytes], int]:
    """Return the streams of which *protocol* sees something else, and the requests it served."""
    streams, different, served = Streams(20250101), [], 0
    for _ in range(STREAMS):
        pieces = streams.make()
        found, closed = await ours(pieces, protocol)
        expected = seen_by_h11(b"".join(pieces))
        served += sum(seen.complete for seen in found)
        same = len(found) <= len(expected) and all(
            mine.agrees(other, cut_off=closed) for mine, other in zip(found, expected, strict=False)
        )
        if not same or (len(found) < len(expected) and not closed):
            different.append(b"".join(pieces))
    return different, served


async def test_a_second_parser_sees_the_same_requests() -> None:
    different, served = await disagreements(BoundedProtocol)
    assert different == []
    assert served > STREAMS


async def test_the_protocol_of_the_server_alone_sees_others() -> None:
    """Without what we add, requests are smuggled, and the streams above show it."""
    different, _ = await disagreements(HttpToolsProtocol)
    assert len(different) > STREAMS // 20
