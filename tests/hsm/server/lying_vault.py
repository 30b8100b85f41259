"""Something at the vault's sockets that is no vault: each test says what it does with a caller."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cms.sandbox import HANG_SECONDS
from hsm import messages
from hsm.frames import Frames, frame
from hsm.messages import SocketName
from hsm.socket_files import path_of

GREETING = frame(messages.encode_greeting())


class Caller:
    """A caller, as the double sees it."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._frames = Frames(1 << 20)
        self._calls: list[bytes] = []

    def greet(self) -> None:
        self.send(GREETING)

    def send(self, data: bytes) -> None:
        self.stream.sendall(data)

    def numbers(self, count: int) -> list[int]:
        """Read calls and return their numbers."""
        while len(self._calls) < count:
            data = self.stream.recv(1 << 16)
            if not data:
                raise EOFError
            self._calls += self._frames.feed(data)
        taken, self._calls = self._calls[:count], self._calls[count:]
        return [messages.decode_call(each, SocketName.ADMIN)[0] for each in taken]

    def number(self) -> int:
        return self.numbers(1)[0]

    def wait(self) -> None:
        """Say nothing until the caller is gone."""
        while self.stream.recv(1 << 16):
            pass


Behaviour = Callable[[Caller], None]


@contextmanager
def lying(behaviour: Behaviour, slots: int = 1) -> Iterator[Path]:
    """Do *behaviour* with whoever connects to any socket; yield the sockets' directory."""
    with TemporaryDirectory() as path, contextlib.ExitStack() as stack:
        directory = Path(path)
        for name in SocketName:
            for slot in range(slots):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(path_of(directory, name, slot)))
                listener.listen()
                stack.callback(listener.shutdown, socket.SHUT_RDWR)
                threading.Thread(target=_accept, args=(listener, behaviour), daemon=True).start()
        yield directory


def _accept(listener: socket.socket, behaviour: Behaviour) -> None:
    with contextlib.suppress(OSError):
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=_serve, args=(stream, behaviour), daemon=True).start()


def _serve(stream: socket.socket, behaviour: Behaviour) -> None:
    with stream, contextlib.suppress(OSError, EOFError):
        stream.settimeout(HANG_SECONDS)
        behaviour(Caller(stream))
