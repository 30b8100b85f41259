"""The commands' side of the vault: one call after another on the admin socket."""

import socket
import time
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from msgspec import Raw

from hsm import messages
from hsm.errors import HsmError, MessageRefused, VaultUnavailable
from hsm.frames import Frames, frame
from hsm.messages import SocketName, Verb
from hsm.socket_files import path_of, paths_of

RECEIVE_BYTES: Final = 1 << 16
GREETING_SECONDS: Final = 2.0
"""How long one worker of several may take to greet."""
NOT_THERE: Final = "the vault takes no connection"
T = TypeVar("T")


class AdminCalls(Protocol):
    """How a command calls a vault, wherever that is."""

    def call(self, message: Verb[T]) -> T:
        """Call a verb and wait for its answer.

        Raises:
            HsmError: as the verb raises it, or as the way to the vault does.
        """
        ...


class AdminClient:
    """Calls verbs from a command, which has nothing else to do meanwhile.

    Args:
        directory: where the sockets of the vault are.
        timeout_seconds: how long an answer may take, the whole of it.

    Raises:
        VaultUnavailable: at construction, when nobody listens there, or not for this user.
        MessageRefused: at construction, when the vault is of another version.
    """

    def __init__(self, directory: Path, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._number = 0
        slots = paths_of(directory, SocketName.ADMIN) or [path_of(directory, SocketName.ADMIN, 0)]
        for path in slots:
            is_last = path == slots[-1]
            try:
                # A worker that hangs or starts keeps callers waiting; another may be there.
                self._connect(path, timeout_seconds if is_last else GREETING_SECONDS)
            except VaultUnavailable:
                if is_last:
                    raise
            else:
                return

    def _connect(self, path: Path, timeout_seconds: float) -> None:
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._frames = Frames(messages.ANSWER_BYTES_MAX)
        try:
            self._stream.settimeout(timeout_seconds)
            self._stream.connect(str(path))
            messages.read_greeting(self._receive(timeout_seconds))
        except OSError as error:
            self._stream.close()
            raise VaultUnavailable(error.strerror or NOT_THERE) from None
        except HsmError:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def call(self, message: Verb[T]) -> T:
        """Call a verb and wait for its answer.

        Raises:
            VaultUnavailable: the vault went away or did not answer in time, now or before.
            MessageRefused: the message is too long, or the answer is none of this call.
            HsmError: as the verb raises it.
        """
        self._number += 1
        data = messages.encode_call(self._number, message)
        if len(data) > messages.MESSAGE_BYTES_MAX[SocketName.ADMIN]:
            raise MessageRefused("a message is too long")
        try:
            self._stream.settimeout(self._timeout_seconds)
            self._stream.sendall(frame(data))
            error, raw = self._answer()
            if error is None:
                return messages.read_answer(type(message), raw)
        except OSError:
            self._stream.close()
            raise VaultUnavailable("the vault went away during the call") from None
        except MessageRefused:
            # What comes next on it could be taken for the answer of the next call.
            self._stream.close()
            raise
        raise error

    def _answer(self) -> tuple[HsmError | None, Raw]:
        number, error, raw = messages.decode_answer(self._receive(self._timeout_seconds))
        if number != self._number:
            raise MessageRefused("the answer of another call")
        return error, raw

    def _receive(self, timeout_seconds: float) -> bytes:
        """Return the next frame.

        Raises:
            OSError: it did not come in time, or never will.
            MessageRefused: it is too long.
        """
        ends_at = time.monotonic() + timeout_seconds
        for part in self._frames.feed(b""):
            return part
        while (left_seconds := ends_at - time.monotonic()) > 0:
            self._stream.settimeout(left_seconds)
            if not (data := self._stream.recv(RECEIVE_BYTES)):
                break
            for part in self._frames.feed(data):
                return part
        raise OSError
