"""A request and its answer, as uvicorn carries them, but with head and body in one write.

Over TLS each write is a record of its own: two of them cost both sides more than a small answer.
"""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

START: Final = "http.response.start"
RECORD_BYTES_MAX: Final = 16 * 1024
"""TLS needs more than one record for what is longer, which is not worth a copy."""
WITHOUT_BODY: Final = (204, 304)
#: Headers of which uvicorn has to know: it closes the connection, or sends chunks.
NOT_PLAIN: Final = frozenset((b"connection", b"transfer-encoding"))


class Exchange(RequestResponseCycle):
    """One request, and its answer."""

    _start: Any = None
    """The first message of an answer, until the second one comes."""

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        """Write an answer that is plain; any other is uvicorn's."""
        if message["type"] == START and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()  # before it is known whether the connection is kept
        plain = None if start is None else self._plain(start, message)
        if plain is None:
            if start is not None:
                await super().send(start)
            await super().send(message)
            return
        if not self.disconnected:
            self.response_started = self.response_complete = True
            self.waiting_for_100_continue = False
            for piece in plain:
                self.transport.write(piece)
            self.message_event.set()
            self.on_response()

    def _plain(self, start: Any, message: Any) -> list[bytes] | None:  # noqa: ANN401 - as uvicorn has them
        """Return what to write; None if it is not a whole answer on a connection that is kept."""
        headers = [*self.default_headers, *start["headers"]]
        status, body = start["status"], message.get("body", b"")
        names = b"".join([name for name, _ in headers])
        values = b"".join([value for _, value in headers])
        said = dict(headers)
        if (
            not self.keep_alive
            or message.get("more_body")
            or names != names.lower()
            or HEADER_RE.search(names)
            or HEADER_VALUE_RE.search(values)
            or not NOT_PLAIN.isdisjoint(said)
        ):
            return None
        if self.scope["method"] == "HEAD":
            body = b""
        elif said.get(b"content-length") != (
            None if status in WITHOUT_BODY and not body else b"%d" % len(body)
        ):
            return None
        lines = [b"%b: %b\r\n" % header for header in headers]
        head = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
        return [head + body] if len(body) < RECORD_BYTES_MAX else [head, body]
