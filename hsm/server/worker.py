"""A worker of the vault: one thread that answers one call after another.

What came on a connection is done in order. The supervisor kills a worker whose verb does not end,
since nothing inside this process can stop a PKCS#11 call.
"""

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from hsm import messages
from hsm.errors import HsmError, MessageRefused, VaultFailed
from hsm.frames import Frames, frame
from hsm.messages import SocketName, Verb
from hsm.server.busy import Cell
from hsm.server.sockets import peer_uid

RECEIVE_BYTES: Final = 1 << 16
CONNECTIONS_MAX: Final = 256
"""Of a worker. A web process has one to each socket that it uses."""
BATCH_SECONDS: Final = 0.001
"""How long answers wait for those of the calls that came with theirs."""
log = logging.getLogger(__name__)

Perform = Callable[[Verb[Any]], object]


class Worker:
    """Serves a vault on listening sockets, which other workers may share.

    Args:
        listeners: the sockets.
        expected_uids: who may connect to each.
        perform: does what a message says, or raises an error of :mod:`hsm.errors`.
        cell: tells the supervisor since when a verb has been running.
    """

    def __init__(
        self,
        listeners: Mapping[SocketName, socket.socket],
        expected_uids: Mapping[SocketName, int],
        perform: Perform,
        cell: Cell,
    ) -> None:
        self._expected_uids = expected_uids
        self._perform = perform
        self._cell = cell
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._stopping = False
        self._listeners = dict(listeners)
        for name, listener in listeners.items():
            self._selector.register(listener, selectors.EVENT_READ, name)

    def run(self) -> None:
        """Serve until :meth:`stop`, then answer what has come and return."""
        self._cell.ready_at = time.monotonic()
        while not self._stopping:
            self._turn(None)
        for listener in self._listeners.values():
            self._selector.unregister(listener)
        while self._turn(0):
            pass
        for connection in [*self._connections]:
            self._close(connection)

    def stop(self) -> None:
        """End :meth:`run` after what has come; may be called in a signal handler."""
        self._stopping = True

    def wake_by(self, wakeup: socket.socket) -> None:
        """Look up when *wakeup* gets a byte, as it does of a signal."""
        self._selector.register(wakeup, selectors.EVENT_READ, None)

    def _turn(self, timeout_seconds: float | None) -> bool:
        """Serve whoever wants something now; tell whether anybody did."""
        ready = self._selector.select(timeout_seconds)
        for key, _ in ready:
            if key.data is None:
                key.fileobj.recv(RECEIVE_BYTES)  # type: ignore[union-attr]
            elif isinstance(key.data, _Connection):
                self._serve(key.data)
            else:
                self._accept(self._listeners[key.data], key.data)
        return bool(ready)

    def _accept(self, listener: socket.socket, name: SocketName) -> None:
        try:
            stream, _ = listener.accept()
        except OSError:
            return  # another worker was faster, or the caller is gone
        uid = peer_uid(stream)
        if uid != self._expected_uids[name] or len(self._connections) >= CONNECTIONS_MAX:
            log.warning("vault.connection_refused", extra={"socket": str(name), "uid": uid})
            stream.close()
            return
        stream.setblocking(False)
        connection = _Connection(stream, name)
        self._connections.add(connection)
        self._selector.register(stream, selectors.EVENT_READ, connection)

    def _serve(self, connection: "_Connection") -> None:
        try:
            if connection.unsent:
                connection.send()
            else:
                connection.receive(self._answer)
        except (OSError, EOFError):
            self._close(connection)
        except MessageRefused as error:
            extra = {"socket": str(connection.name), "reason": str(error)}
            log.warning("vault.message_refused", extra=extra)
            self._close(connection)
        else:
            # Who does not read its answers sends no more calls.
            events = selectors.EVENT_WRITE if connection.unsent else selectors.EVENT_READ
            self._selector.modify(connection.stream, events, connection)

    def _close(self, connection: "_Connection") -> None:
        with suppress(OSError):
            connection.send()
        self._connections.discard(connection)
        self._selector.unregister(connection.stream)
        connection.stream.close()

    def _answer(self, number: int, message: Verb[Any]) -> bytes:
        self._cell.busy_since = time.monotonic()
        try:
            return messages.encode_answer(number, self._perform(message))
        except HsmError as error:
            return messages.encode_refusal(number, error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the worker
            # Neither its text nor its traceback: an argument can be in them.
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            line = where.tb_lineno if where else 0
            file = where.tb_frame.f_code.co_filename if where else ""
            extra = {"verb": message.name(), "error": type(error).__name__}
            log.error("vault.failed", extra={**extra, "at": f"{file}:{line}"})  # noqa: TRY400
            return messages.encode_refusal(number, VaultFailed())
        finally:
            self._cell.busy_since = 0.0


class _Connection:
    """A caller, and what it was not sent yet."""

    def __init__(self, stream: socket.socket, name: SocketName) -> None:
        self.stream = stream
        self.name = name
        self.unsent = bytearray()
        self._frames = Frames(messages.MESSAGE_BYTES_MAX[name])

    def receive(self, answer: Callable[[int, Verb[Any]], bytes]) -> None:
        """Read what came, do it and send the answers.

        Raises:
            EOFError: the caller is gone.
            MessageRefused: it is no call.
            OSError: the connection is broken.
        """
        data = self.stream.recv(RECEIVE_BYTES)
        if not data:
            raise EOFError
        sent_at = time.monotonic()
        for call in self._frames.feed(data):
            self.unsent += frame(answer(*messages.decode_call(call, self.name)))
            if time.monotonic() - sent_at > BATCH_SECONDS:
                self.send()
                sent_at = time.monotonic()
        self.send()

    def send(self) -> None:
        """Send what can be sent without waiting.

        Raises:
            OSError: the connection is broken.
        """
        if self.unsent:
            with suppress(BlockingIOError):
                del self.unsent[: self.stream.send(self.unsent)]


def run_until_told(worker: Worker) -> None:
    """Run *worker* until SIGTERM or SIGINT."""
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.wake_by(woken)
    worker.run()
