"""HTTP/1.1 as every listener reads it: what a request is, is decided here and nowhere else.

A head is read by httptools, chunks by h11, one request at a time: the next one waits until
this one is answered. The headers of a request are those of its head, so trailers are dropped;
an offer of another protocol is ignored. What has more than one reading is answered with 400, who
is too slow with 408, and the connection is closed.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import h11
import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cms import logs
from cms.exchange import Exchange

HEAD_BYTES_MAX: Final = 64 * 1024
"""Of request line and headers. What is in them may be kept for a while by those who read it."""
HEADERS_MAX: Final = 128
"""Of one request. Who reads one may look through all of them, again and again."""
CHUNKING_BYTES_MAX: Final = 16 * 1024
"""Of all that is sent with a body and is not body: sizes and extensions of chunks, trailers."""
PIECE_BYTES: Final = 16 * 1024
"""Of a body that is read before what is not body is counted."""
HEAD_SECONDS: Final = 10
BODY_SECONDS: Final = 20
"""From the end of the head to the end of the body: no route reads more than 16 KiB."""
WRITE_SECONDS: Final = 30
"""How long a caller may leave an answer unread when no more of it can be sent."""
LINGER_SECONDS: Final = 0.005
"""Between a refusal and the end of the connection: TLS alone would read on for 30 s."""
LINE_END: Final = b"\r\n"
END_OF_HEAD: Final = 2 * LINE_END
LINES_BESIDE: Final = 2
"""Lines of a head that are no headers: the first and the empty one."""
BARE_LF: Final = re.compile(rb"(?<!\r)\n")
METHOD_BEGINS: Final = re.compile(rb"[A-Z]")
ORIGIN_FORM: Final = re.compile(rb"/[^#]*")
"""RFC 9112, 3.2.1. Only a proxy is sent another form."""
REFUSAL: Final = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
LENGTH: Final = re.compile(rb"[0-9]{1,15}")


class Malformed(Exception):
    """Bytes that are no request, or one that others may read differently, or too many of them."""


class SizedBody:
    """A body of so many bytes as ``Content-Length`` says (RFC 9112, 6.2)."""

    def __init__(self, length: bytes) -> None:
        """Begin with the value of the header.

        Raises:
            Malformed: it is no length.
        """
        if not LENGTH.fullmatch(length):
            raise Malformed("The length of the body is no number.")
        self._left = int(length)

    def read(self, received: bytes) -> tuple[bytes, bytes | None]:
        """Read on.

        Returns:
            What of *received* is body; and what follows it, or None while it is not complete.
        """
        data = received[: self._left]
        self._left -= len(data)
        return data, None if self._left else received[len(data) :]


class ChunkedBody:
    """A body in chunks, perhaps with trailers behind it (RFC 9112, 7.1)."""

    def __init__(self, coding: bytes) -> None:
        """Begin with the value of ``Transfer-Encoding``.

        Raises:
            h11.RemoteProtocolError: it is another coding than ``chunked``.
        """
        self._connection = h11.Connection(h11.SERVER)
        self._connection.receive_data(
            b"POST / HTTP/1.1\r\nhost: -\r\ntransfer-encoding: %b\r\n\r\n" % coding
        )
        self._connection.next_event()
        self._last = b""
        self._chunking_bytes = 0

    def read(self, received: bytes) -> tuple[bytes, bytes | None]:
        """Read on.

        Returns:
            What of *received* is body; and what follows it, or None while it is not complete.

        Raises:
            h11.RemoteProtocolError: the chunks are malformed.
            Malformed: their end is not written with CRLF, or too much is not body.
        """
        if received:
            self._connection.receive_data(received)
        data = bytearray()
        while isinstance(event := self._connection.next_event(), h11.Data):
            data += event.data
        rest = None if event is h11.NEED_DATA else self._connection.trailing_data[0]
        read = received[: len(received) - len(rest or b"")]
        self._last = (self._last + read[-4:])[-4:]
        self._chunking_bytes += len(read) - len(data)
        if self._chunking_bytes > CHUNKING_BYTES_MAX:
            raise Malformed("Too much of the body is chunking.")
        if rest is not None and self._last != END_OF_HEAD:
            raise Malformed("The body does not end with an empty line.")
        return bytes(data), rest


Body: TypeAlias = SizedBody | ChunkedBody
BODIES: Final[Mapping[bytes, Callable[[bytes], Body]]] = {
    b"content-length": SizedBody,
    b"transfer-encoding": ChunkedBody,
}
"""By the header that says that a body follows."""


class BoundedProtocol(HttpToolsProtocol):
    """Reads the requests of one connection."""

    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    write_seconds: float = WRITE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._unread = bytearray()
        self._searched = 0
        """So many bytes of an incomplete head have no end of it."""
        self._body: Body | None = None
        """Of the request that is being read, while it is not complete."""
        self._may_keep_alive: bool | None = None
        """What the head says; None until httptools has seen the end of it."""
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request as for any other."""
        super().connection_made(transport)
        self._within(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if not self.transport.is_closing():
            self._unread += data
            self._read()

    def on_response_complete(self) -> None:
        """Read what is left of the request, or the next one."""
        super().on_response_complete()
        if self._body is not None and not self.transport.is_closing():
            self._within(self.body_seconds, self._too_slow)
        self._read()

    def pause_writing(self) -> None:
        """Cut off a caller that reads no answer."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that it does."""
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def on_message_begin(self) -> None:
        """Begin with a head of which nothing is known yet."""
        super().on_message_begin()
        self._may_keep_alive = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header without the white space behind it (RFC 9112, 5.1)."""
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note what httptools forgets: the request begins when all of its head was accepted."""
        self._may_keep_alive = self.parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Leave it to the body to say so."""

    def _should_upgrade(self) -> bool:
        return False

    def _read(self) -> None:
        try:
            while self._unread and not self.transport.is_closing():
                if self._body is not None:
                    self._read_body(self._body)
                elif self.cycle is not None and not self.cycle.response_complete:
                    self.flow.pause_reading()
                    return
                elif not self._read_head():
                    return
        except Malformed as error:
            self._refuse("malformed", 400, str(error))
        except (httptools.HttpParserError, h11.RemoteProtocolError):
            self._refuse("malformed", 400, "This is no request.")

    def _read_head(self) -> bool:
        """Begin a request, if all of its head has come."""
        end = self._unread.find(END_OF_HEAD, self._searched) + len(END_OF_HEAD)
        complete = end >= len(END_OF_HEAD)
        if (end if complete else len(self._unread)) > HEAD_BYTES_MAX:
            raise Malformed("The head of the request is too long.")
        if not METHOD_BEGINS.match(self._unread):
            raise Malformed("This is no request.")
        if not complete:
            if BARE_LF.search(self._unread, self._searched):
                raise Malformed("A line of the head does not end with CRLF.")
            if not self._searched:
                self._within(self.head_seconds, self._too_slow)
            self._searched = max(1, len(self._unread) - len(END_OF_HEAD) + 1)
            return False
        head = bytes(self._unread[:end])
        if head.count(LINE_END) > HEADERS_MAX + LINES_BESIDE:
            raise Malformed("The request has too many headers.")
        del self._unread[:end]
        self._searched = 0
        self._begin(head)
        return True

    def _begin(self, head: bytes) -> None:
        self.parser = httptools.HttpRequestParser(self)
        with suppress(httptools.HttpParserUpgrade):
            self.parser.feed_data(head)
        if self._may_keep_alive is None:
            raise Malformed("This is no request.")
        body = self._checked(head)
        self._unset_keepalive_if_required()
        self._serve()
        self._body = body
        if body is None:
            super().on_message_complete()
            return
        self._read_body(body)
        if self._body is not None:
            self._within(self.body_seconds, self._too_slow)

    def _serve(self) -> None:
        """Have the app serve the request whose head was read."""
        version = self.parser.get_http_version()
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        self.scope |= {
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
        }
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            # Who waits for "100 Continue" and is answered at once may send the body, or not.
            keep_alive=version != "1.0"
            and self.parser.should_keep_alive()
            and self._may_keep_alive is True
            and not self.expect_100_continue,
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def _checked(self, head: bytes) -> Body | None:
        """Refuse what httptools takes and others read differently; return the body to come."""
        version = self.parser.get_http_version()
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version.encode())
        names = [name for name, _ in self.headers]
        framing = [header for header in self.headers if header[0] in BODIES]
        hosts = names.count(b"host")
        if version == "1.1":
            well_formed = hosts == 1
        else:
            well_formed = version == "1.0" and hosts <= 1 and b"transfer-encoding" not in names
            self.expect_100_continue = False  # RFC 9110, 10.1.1
        if not (
            well_formed
            and head.startswith(line)
            and ORIGIN_FORM.fullmatch(self.url)
            and len(framing) <= 1
        ):
            raise Malformed("The request can be read in more than one way.")
        return next((BODIES[name](value) for name, value in framing), None)

    def _read_body(self, body: Body) -> None:
        piece = bytes(self._unread[:PIECE_BYTES])
        del self._unread[:PIECE_BYTES]
        data, rest = body.read(piece)
        if data:
            self.on_body(data)
        if rest is None:
            return
        self._unread[:0] = rest
        self._body = None
        self._unset_keepalive_if_required()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._within(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _within(self, seconds: float, late: Callable[[], None]) -> None:
        """Have what is waited for now come in time."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, late)

    def _too_slow(self) -> None:
        self._refuse("slow", 408, "The request takes too long.")

    def _refuse(self, kind: str, status: int, text: str) -> None:
        """Answer, unless the request has its answer or part of it, and close the connection."""
        if self.transport.is_closing():
            return
        logs.refused(kind, "head" if self._body is None else "body")
        self._unread.clear()
        if self._body is None or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + REFUSAL % (len(text), text.encode()))
        if self._body is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._within(LINGER_SECONDS, self.transport.abort)
