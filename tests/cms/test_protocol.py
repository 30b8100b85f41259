"""What a request is: its bytes have one reading, of bounded length and in bounded time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from cms.protocol import CHUNKING_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, BoundedProtocol
from cms.sandbox import HANG_SECONDS

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
READ_AT_ONCE = 256 * 1024
"""uvloop reads so much before anybody looks at it."""
SOCKETS = 8 * MIB
"""What two sockets of loopback hold, and more."""
HOST = b"Host: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, the length of the body and the headers that name a caller."""
    length, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    names = b",".join(name for name, _ in scope["headers"] if name.startswith((b"x-", b"client-")))
    said = b"<%b %d %b>" % (scope["path"].encode(), length, names)
    headers = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


class Hasty(BoundedProtocol):
    """Waits for nothing long."""

    head_seconds = 0.2
    body_seconds = 0.2
    write_seconds = 0.2


@asynccontextmanager
async def connected(
    protocol: type[BoundedProtocol] = BoundedProtocol,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server that speaks *protocol*."""
    config = uvicorn.Config(
        echo, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=1
    )
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config, ServerState(), {}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def answers(*pieces: bytes, protocol: type[BoundedProtocol] = BoundedProtocol) -> bytes:
    """Send *pieces* on one connection and return all that comes back until it is closed."""
    async with connected(protocol) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            # Each is read by itself.
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reader.read(), HANG_SECONDS)


async def accepted(first: bytes, piece: bytes, bytes_max: int) -> int:
    """Send *piece* without end after *first*; return how much was sent until it was cut off."""
    sent = 0
    async with connected() as (_, writer):
        writer.write(first)
        try:
            while sent < bytes_max:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
        except ConnectionError:
            return sent
    return sent


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nOrigin: ", b"GET /"])
async def test_a_head_without_end_is_cut_off(first: bytes) -> None:
    pieces = [b"x" * 16_384] * (HEAD_BYTES_MAX // 16_384 + 1)
    answer = await answers(first, *pieces)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too long" in answer


async def test_more_headers_than_anybody_sends_are_refused() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    most = head + b"a:\r\n" * (HEADERS_MAX - 2)
    assert (await answers(most + b"\r\n")).startswith(b"HTTP/1.1 200 ")
    assert b"too many headers" in await answers(most + b"a:\r\n\r\n")


async def test_a_long_body_and_a_second_request_are_read() -> None:
    body = b"x" * (2 * HEAD_BYTES_MAX)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    answer = await answers(
        head + b"\r\n", body, head + b"Connection: close\r\n\r\n", body[:100], body[100:]
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"</ %d >" % len(body)) == 2


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b"\r\n" * 8192),
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n" * 2048),
        (CHUNKED + b"0\r\n", b"X-A: b\r\n" * 2048),
        (CHUNKED + b"0\r\n", b"x" * 16_384),
        (CHUNKED + b"1", b";a" * 8192),
        (CHUNKED + b"1;", b"a" * 1024 + b"\r\nx\r\n1;"),
        (CHUNKED, b"0" * 16_384),
        (CHUNKED, b"1\r\nx\r\n" * 4096),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 8192),
        (CHUNKED + b"0\r\n\r\n", b"\r\n" * 8192),
    ],
    ids=[
        "empty lines",
        "headers",
        "trailers",
        "one trailer",
        "one chunk extension",
        "an extension a chunk",
        "one chunk size",
        "one byte a chunk",
        "empty lines after a request",
        "empty lines after a body",
    ],
)
async def test_what_is_not_body_is_bounded(first: bytes, piece: bytes) -> None:
    sent = await accepted(first, piece, 24 * MIB)
    assert sent < HEAD_BYTES_MAX + CHUNKING_BYTES_MAX + READ_AT_ONCE + SOCKETS


async def test_trailers_are_dropped() -> None:
    trailers = b"X-Forwarded-For: 192.0.2.1\r\nClient-Cert: :AAAA:\r\nContent-Length: 9\r\n"
    answer = await answers(CHUNKED + b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n", LAST)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"</ 3 >" in answer
    assert b"</last 0 >" in answer


async def test_trailers_that_come_late_are_dropped() -> None:
    """They used to be headers of a request that its face had not yet looked at."""
    unread = CHUNKED.replace(b"POST /", b"POST /unread")
    answer = await answers(unread + b"1\r\na\r\n0\r\nX-A: ", b"b\r\n", b"\r\n", LAST)
    assert b"</unread 0 >" in answer
    assert b"</last 0 >" in answer


OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n",
    b"Upgrade: TLS/1.2\r\nConnection: upgrade\r\n",
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_offer_of_another_protocol_is_ignored(
    offer: bytes, segments: int, chunked: bool
) -> None:
    """A proxy forwards the offer, and what looks like a request is the body of this one."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    head = b"POST / HTTP/1.1\r\n" + HOST + offer + framing + b"\r\n\r\n"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    pieces = (head + sent,) if segments == 1 else (head, sent)
    answer = await answers(*pieces, LAST)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"</ %d " % len(body) in answer
    assert b"</last 0 >" in answer
    assert b"smuggled" not in answer


GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
REFUSED = {
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\n" + HOST,
    "another method": b"FOO / HTTP/1.1\r\n" + HOST,
    "absolute form": b"GET http://x/ HTTP/1.1\r\n" + HOST,
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n" + HOST,
    "a fragment": b"GET /#a HTTP/1.1\r\n" + HOST,
    "a tab in the target": b"GET /\tHTTP/1.0 HTTP/1.1\r\n" + HOST,
    "a form feed in the target": b"GET /?\f HTTP/1.1\r\n" + HOST,
    "a path that is not ASCII": "GET /é HTTP/1.1\r\n".encode() + HOST,
    "a query that is not ASCII": "GET /?é HTTP/1.1\r\n".encode() + HOST,
    "no version": b"GET /\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\n" + HOST,
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST,
    "HTTP/2": b"GET / HTTP/2.0\r\n" + HOST,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n",
    "RTSP": b"DESCRIBE / RTSP/1.0\r\n" + HOST,
    "two spaces before the target": b"GET  / HTTP/1.1\r\n" + HOST,
    "two spaces after the target": b"GET /  HTTP/1.1\r\n" + HOST,
    "an empty line before it": b"\r\nGET / HTTP/1.1\r\n" + HOST,
    "no host": b"GET / HTTP/1.1\r\n",
    "two hosts": GET + HOST,
    "two hosts in HTTP/1.0": b"GET / HTTP/1.0\r\n" + HOST + HOST,
    "a folded header": GET + b"X-A: a\r\n b\r\n",
    "a header that begins folded": b"GET / HTTP/1.1\r\n X-A: a\r\n" + HOST,
    "a space before the colon": GET + b"X-A : a\r\n",
    "no colon": GET + b"X-A\r\n",
    "no name": GET + b": a\r\n",
    "NUL in a value": GET + b"X-A: a\0b\r\n",
    "NUL in a name": GET + b"X\0A: a\r\n",
    "CR in a value": GET + b"X-A: a\rb\r\n",
    "LF after the request line": b"GET / HTTP/1.1\n" + HOST,
    "LF after a header": b"GET / HTTP/1.1\r\nHost: x\n",
    "length and coding": CHUNKED[:-2] + b"Content-Length: 5\r\n",
    "coding and length": POST + b"Content-Length: 5\r\n" + CHUNKED[25:-2],
    "the same length twice": POST + b"Content-Length: 5\r\n" * 2,
    "the same length twice in one": POST + b"Content-Length: 5, 5\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "no length": POST + b"Content-Length:\r\n",
    "a signed length": POST + b"Content-Length: +5\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x5\r\n",
    "a length past 64 bits": POST + b"Content-Length: 1%b\r\n" % (b"0" * 20),
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n",
    "coded twice": POST + b"Transfer-Encoding: chunked\r\n" * 2,
    "another coding": POST + b"Transfer-Encoding: identity\r\n",
    "a coding that looks like chunked": POST + b"Transfer-Encoding: xchunked\r\n",
    "a coding in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.mark.parametrize("head", REFUSED.values(), ids=REFUSED)
async def test_a_head_with_two_readings_is_refused(head: bytes) -> None:
    answer = await answers(head + b"\r\n" + LAST)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nHost: x\n\n", b"\x16\x03\x01", b"\r\n"],
)
async def test_what_never_becomes_a_request_is_refused_at_once(head: bytes) -> None:
    assert (await answers(head)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n0\r\n\r\n",
        b" 1\r\na\r\n0\r\n\r\n",
        b"\r\n",
        b"1\na\r\n0\r\n\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"fffffffffffffffffffff\r\na",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\r\n\n",
        b"0\r\n\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\n\0: b\r\n\r\n",
    ],
)
async def test_malformed_chunks_are_refused(body: bytes) -> None:
    answer = await answers(CHUNKED + body + b"\r\n" + LAST)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_request_that_is_answered_has_no_second_answer() -> None:
    unread = CHUNKED.replace(b"POST /", b"POST /unread")
    answer = await answers(unread, b"malformed\r\n", LAST)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_the_rest_of_an_answered_request_is_no_request() -> None:
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
    answer = await answers(head, body, LAST)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"smuggled" not in answer


async def test_requests_that_come_at_once_are_answered_in_turn() -> None:
    requests = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50)]
    answer = await answers(b"".join(requests) + LAST)
    places = [answer.index(b"</%d 0 >" % number) for number in range(50)]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 ") == 51


async def test_who_asks_before_sending_its_body_is_told_to_send_it() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    answer = await answers(head, b"abc")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert b"connection: close" in answer


async def test_who_asked_and_was_answered_at_once_is_read_no_further() -> None:
    """It may send the body or not: what follows could be either."""
    head = b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(LAST)
    answer = await answers(head + b"Expect: 100-continue\r\n\r\n", LAST)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


async def test_http_1_0_is_answered_once() -> None:
    answer = await answers(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + LAST)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"</ 0 >" in answer


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"G", b"E"),
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
    ],
    ids=["request line", "headers", "body", "chunks", "trailers"],
)
async def test_a_request_that_comes_slowly_is_cut_off(first: bytes, drip: bytes) -> None:
    async with connected(Hasty) as (reader, writer):
        writer.write(first)
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            writer.write(drip)
            await asyncio.sleep(0.02)
        with suppress(ConnectionError):  # what came after the refusal may keep it from being read
            assert answer.result().startswith(b"HTTP/1.1 408 ")


async def test_the_rest_of_an_answered_request_that_comes_slowly_is_cut_off() -> None:
    unread = CHUNKED.replace(b"POST /", b"POST /unread")
    answer = await answers(unread, protocol=Hasty)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_connection_without_requests_is_closed() -> None:
    one = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    none, after_one = await asyncio.gather(answers(), answers(one))
    assert none == b""
    assert after_one.count(b"HTTP/1.1 200 ") == 1


async def test_who_leaves_its_answers_unread_is_cut_off() -> None:
    request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 8192)
    async with connected(Hasty) as (_, writer):
        with pytest.raises(ConnectionError):
            await ask_without_end(writer, request)


async def ask_without_end(writer: asyncio.StreamWriter, request: bytes) -> None:
    while True:
        writer.write(request)
        await writer.drain()
