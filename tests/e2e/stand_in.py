"""Stands for the service behind a proxy: it notes every byte of what it is asked."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    line: str
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass
class StandIn:
    """What it was asked, but for its health, and how it answers."""

    cardholder_port: int
    d1_socket: Path
    asked: list[Asked] = field(default_factory=list)
    silent: int = 0
    """So many requests it ends without a word."""
    ready: bool = True

    def answer(self, request: Asked) -> bytes:
        if request.line.startswith("GET /readyz "):
            return OK if self.ready else NOT_READY
        self.asked.append(request)
        if self.silent:
            self.silent -= 1
            return b""
        return OK


@contextmanager
def stand_in(directory: Path) -> Iterator[StandIn]:
    """Listen on ``d1.sock`` in *directory*, and on a port for cardholders and for operators."""
    with ExitStack() as stack:

        class Handler(_Handler):
            pass

        socket = directory / "d1.sock"
        servers = (
            stack.enter_context(_Tcp(("127.0.0.1", 0), Handler)),
            stack.enter_context(_Unix(str(socket), Handler)),
        )
        Handler.service = StandIn(servers[0].server_address[1], socket)
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
        yield Handler.service


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Handler(socketserver.StreamRequestHandler):
    service: ClassVar[StandIn]

    def handle(self) -> None:
        while request := self._read():
            answer = self.service.answer(request)
            if not answer:
                return
            self.wfile.write(answer)

    def _read(self) -> Asked | None:
        """Read a request; None when there is no more."""
        line = self.rfile.readline()
        if not line:
            return None
        headers = []
        while (header := self.rfile.readline()) not in {b"\r\n", b""}:
            name, _, value = header.decode("latin-1").rstrip("\r\n").partition(":")
            headers.append((name.lower(), value.strip()))
        asked = Asked(line.decode("latin-1").rstrip(), headers, b"")
        lengths, codings = asked.values("content-length"), asked.values("transfer-encoding")
        assert len(lengths) + len(codings) <= 1, headers
        body = self._chunks() if codings else self.rfile.read(int(lengths[0]) if lengths else 0)
        return Asked(asked.line, headers, body)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        return body
