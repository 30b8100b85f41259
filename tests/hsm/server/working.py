"""A worker on a thread of the test's own process, where the test sees what it holds."""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cms.sandbox import HANG_SECONDS
from hsm import messages
from hsm.frames import Frames
from hsm.messages import ANSWER_BYTES_MAX, SocketName, Verb
from hsm.server import sockets
from hsm.server.busy import Cell
from hsm.server.disk import Disk
from hsm.server.worker import Held, Worker
from hsm.settings import ServerSettings
from hsm.socket_files import path_of


class Working:
    """A worker that runs."""

    def __init__(self, worker: Worker, directory: Path, thread: threading.Thread) -> None:
        self.directory = directory
        self._worker = worker
        self._thread = thread

    def runs(self) -> bool:
        return self._thread.is_alive()

    def is_busy(self) -> bool:
        """Whether the supervisor would kill it if this went on."""
        return self._worker._cell.busy_since > 0

    def stop(self) -> None:
        self._worker.stop()

    def wait_for_end(self) -> None:
        self._thread.join(HANG_SECONDS)
        assert not self._thread.is_alive()

    def connections(self) -> list[Any]:
        return [*self._worker._connections]

    def peak_unsent_bytes(self) -> int:
        return max((len(one.unsent) for one in self.connections()), default=0)

    def received_bytes(self) -> int:
        """How much it holds of calls that have not come yet as a whole."""
        return sum(len(one._frames._received) for one in self.connections())

    def connect(self, name: SocketName) -> "Stranger":
        return Stranger(self.directory, name)


class Stranger:
    """Somebody with a connection, who sends what it likes."""

    def __init__(self, directory: Path, name: SocketName) -> None:
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(HANG_SECONDS)
        self.stream.connect(str(path_of(directory, name, 0)))
        self._frames = Frames(ANSWER_BYTES_MAX)
        self._came: list[bytes] = []

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def send(self, data: bytes) -> None:
        self.stream.sendall(data)

    def read(self) -> bytes | None:
        """Return the next frame; None: there is none, for it was closed."""
        while not self._came:
            try:
                data = self.stream.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._came += self._frames.feed(data)
        return self._came.pop(0)

    def is_greeted(self) -> bool:
        return self.read() == messages.encode_greeting()

    def fill(self, data: bytes) -> int:
        """Send *data* again and again for as long as it is taken; return how often."""
        self.stream.setblocking(False)
        times = 0
        with selectors.DefaultSelector() as selector:
            selector.register(self.stream, selectors.EVENT_WRITE)
            while selector.select(FULL_SECONDS):
                sent = self.stream.send(data)
                while sent < len(data) and selector.select(FULL_SECONDS):
                    sent += self.stream.send(data[sent:])
                times += 1
        self.stream.settimeout(HANG_SECONDS)
        return times


FULL_SECONDS = 0.3
"""After so long without room there is none."""


@contextmanager
def working(
    perform: Callable[[Verb[Any]], object],
    expected_uids: Mapping[SocketName, int] | None = None,
    disk: Disk[Held] | None = None,
    tidy: Callable[[], float | None] = lambda: None,
) -> Iterator[Working]:
    """Serve *perform* on the three sockets."""
    with TemporaryDirectory() as path:
        settings = ServerSettings(socket_directory=Path(path))
        with sockets.bound(settings) as (listeners,):
            cell = Cell.make()
            uids = expected_uids or sockets.uids(settings)
            worker = Worker(listeners, uids, perform, cell, disk or Disk(), tidy)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                worker.wake_by(theirs)
                thread = threading.Thread(target=worker.run, daemon=True)
                thread.start()
                try:
                    yield Working(worker, Path(path), thread)
                finally:
                    worker.stop()
                    ours.send(b"\0")
                    thread.join(HANG_SECONDS)
                    assert not thread.is_alive()
                    cell.close()
