"""The commands' side of the vault: one call after another on the admin socket."""

import socket
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from hsm import messages
from hsm.errors import MessageRefused, VaultUnavailable
from hsm.frames import Frames, frame
from hsm.messages import SocketName, Verb
from hsm.socket_files import path_of

RECEIVE_BYTES: Final = 1 << 16
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
        timeout_seconds: how long an answer may take.

    Raises:
        VaultUnavailable: at construction, when nobody listens there, or not for this user.
        MessageRefused: at construction, when the vault is of another version.
    """

    def __init__(self, directory: Path, timeout_seconds: float) -> None:
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream.settimeout(timeout_seconds)
        self._frames = Frames(messages.ANSWER_BYTES_MAX)
        try:
            self._stream.connect(str(path_of(directory, SocketName.ADMIN, slot=0)))
            messages.read_greeting(self._receive())
        except OSError as error:
            self._stream.close()
            raise VaultUnavailable(error.strerror or NOT_THERE) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def call(self, message: Verb[T]) -> T:
        """Call a verb and wait for its answer.

        Raises:
            VaultUnavailable: the vault went away or did not answer in time.
            MessageRefused: the message is too long, or the answer is none.
            HsmError: as the verb raises it.
        """
        data = messages.encode_call(0, message)
        if len(data) > messages.MESSAGE_BYTES_MAX[SocketName.ADMIN]:
            raise MessageRefused("a message is too long")
        try:
            self._stream.sendall(frame(data))
            part = self._receive()
        except OSError:
            raise VaultUnavailable("the vault went away during the call") from None
        _, error, raw = messages.decode_answer(part)
        if error is not None:
            raise error
        return messages.read_answer(type(message), raw)

    def _receive(self) -> bytes:
        while data := self._stream.recv(RECEIVE_BYTES):
            for part in self._frames.feed(data):
                return part
        raise OSError
