"""A worker of the vault: one thread that answers one call after another.

What came on a connection is done in order; connections take turns. Who does not read its answers
has no more calls done. What is handed out leaves when the line of the vault's log that tells of it
is on the disk, which a second thread waits for. The supervisor kills a worker whose verb does not
end, since nothing inside this process can stop a PKCS#11 call.
"""

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from hsm import messages, metrics
from hsm.errors import HsmError, LogUnavailable, MessageRefused, VaultFailed
from hsm.frames import Frames, frame
from hsm.messages import SocketName, Verb
from hsm.server.busy import Cell
from hsm.server.disk import Disk
from hsm.server.sockets import peer_uid

RECEIVE_BYTES: Final = 1 << 16
CONNECTIONS_MAX: Final[Mapping[SocketName, int]] = {
    SocketName.D1: 64,
    SocketName.CARDHOLDER: 64,
    SocketName.ADMIN: 16,
}
"""To each socket of a worker. A web process has one, and so has a command."""
TURN_SECONDS: Final = 0.001
"""How long a connection is served before others are; its answers leave together."""
UNSENT_BYTES_MAX: Final = 1 << 16
"""How much may wait to be sent before a connection's calls wait too."""
DRAIN_SECONDS: Final = 1.0
"""How long a worker that was told to end does what still comes on its connections."""
log = logging.getLogger(__name__)

Perform = Callable[[Verb[Any]], object]


class Worker:
    """Serves a vault on the listening sockets of its slot.

    Args:
        listeners: the sockets.
        expected_uids: who may connect to each.
        perform: does what a message says, or raises an error of :mod:`hsm.errors`.
        cell: tells the supervisor since when a verb, or *tidy*, has been running.
        disk: holds answers until the log's line is there.
        tidy: is called between turns, and says after how many seconds it wants to be again; None:
            not before the next turn.
    """

    def __init__(
        self,
        listeners: Mapping[SocketName, socket.socket],
        expected_uids: Mapping[SocketName, int],
        perform: Perform,
        cell: Cell,
        disk: "Disk[Held]",
        tidy: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._tidy = tidy
        self._expected_uids = expected_uids
        self._perform = perform
        self._cell = cell
        self._disk = disk
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._next_turns: set[_Connection] = set()
        self._stopping = False
        self.disk_failed = False
        """Whether it ended because a line of the log cannot be brought to the disk."""
        self._listeners = dict(listeners)
        for name, listener in listeners.items():
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, name))
        self._selector.register(disk.woken, selectors.EVENT_READ, self._send_finished)

    def run(self) -> None:
        """Serve until :meth:`stop`, then answer what has come and return."""
        self._cell.ready_at = time.monotonic()
        while not self._stopping:
            self._turn(self._tidied())
        for listener in self._listeners.values():
            self._selector.unregister(listener)
        ends_at = time.monotonic() + DRAIN_SECONDS
        while self._turn(0) and time.monotonic() < ends_at:
            pass
        while self._disk.holds:
            self._send_finished()
        for connection in [*self._connections]:
            self._close(connection)
        self._disk.close()

    def stop(self) -> None:
        """End :meth:`run` after what has come; may be called in a signal handler."""
        self._stopping = True

    def wake_by(self, wakeup: socket.socket) -> None:
        """Look up when *wakeup* gets a byte, as it does of a signal."""
        awake = partial(wakeup.recv, RECEIVE_BYTES)
        self._selector.register(wakeup, selectors.EVENT_READ, awake)

    def _tidied(self) -> float | None:
        """Tidy up, which may hang at a disk as a verb may."""
        self._cell.busy_since = time.monotonic()
        try:
            return self._tidy()
        finally:
            self._cell.busy_since = 0.0

    def _turn(self, timeout_seconds: float | None) -> bool:
        """Serve whoever wants something now; tell whether anybody did."""
        waiting, self._next_turns = self._next_turns, set()
        ready = self._selector.select(0 if waiting else timeout_seconds)
        for key, _ in ready:
            key.data()
        for connection in waiting:
            if connection.has_calls and connection not in self._next_turns:
                self._serve(connection)
        return bool(ready or waiting)

    def _accept(self, name: SocketName) -> None:
        try:
            stream, _ = self._listeners[name].accept()
        except OSError:
            return  # the caller is gone
        uid = peer_uid(stream)
        others = sum(other.name is name for other in self._connections)
        if uid != self._expected_uids[name] or others >= CONNECTIONS_MAX[name]:
            log.warning("vault.connection_refused", extra={"socket": str(name), "uid": uid})
            stream.close()
            return
        stream.setblocking(False)
        connection = _Connection(stream, name)
        self._connections.add(connection)
        serve = partial(self._serve, connection)
        self._selector.register(stream, selectors.EVENT_READ, serve)
        connection.unsent += frame(messages.encode_greeting())
        self._send(connection)

    def _serve(self, connection: "_Connection") -> None:
        if connection not in self._connections:
            return  # closed a moment ago, when an answer could not be sent
        try:
            connection.send()
            if not connection.unsent:
                self._answer(connection)
        except (OSError, EOFError):
            self._close(connection)
        except MessageRefused as error:
            extra = {"socket": str(connection.name), "reason": str(error)}
            log.warning("vault.message_refused", extra=extra)
            self._close(connection)
        else:
            self._listen(connection)

    def _answer(self, connection: "_Connection") -> None:
        """Do what came, in order, until the turn ends, and send the answers.

        Raises:
            EOFError, MessageRefused, OSError: as :meth:`_Connection.receive` does.
        """
        ends_at = time.monotonic() + TURN_SECONDS
        for call in connection.receive():
            number, message = messages.decode_call(call, connection.name)
            metrics.waited(connection.name, time.monotonic() - connection.received_at)
            answer = self._perform_safely(number, message)
            if not self._disk.hold(Held(connection, number, answer)):
                connection.unsent += frame(answer)
            if time.monotonic() > ends_at or len(connection.unsent) > UNSENT_BYTES_MAX:
                connection.has_calls = True
                break
        else:
            connection.has_calls = False
        connection.send()

    def _send_finished(self) -> None:
        connections = set()
        for held, is_durable in self._disk.finished():
            answer = held.answer
            if not is_durable:
                # The kernel tells of a failure once: what is written behind it is not to be
                # believed, and the next worker opens the file anew.
                self.disk_failed = True
                self.stop()
                refusal = LogUnavailable("the log cannot be written")
                answer = messages.encode_refusal(held.number, refusal)
            held.connection.unsent += frame(answer)
            connections.add(held.connection)
        for connection in connections & self._connections:
            self._send(connection)

    def _send(self, connection: "_Connection") -> None:
        try:
            connection.send()
        except OSError:
            self._close(connection)
        else:
            self._listen(connection)

    def _listen(self, connection: "_Connection") -> None:
        """Wait for what comes next: who does not read its answers has no more calls done."""
        events = selectors.EVENT_WRITE if connection.unsent else selectors.EVENT_READ
        if events != connection.events:
            connection.events = events
            key = self._selector.get_key(connection.stream)
            self._selector.modify(connection.stream, events, key.data)
        if connection.has_calls and not connection.unsent:
            self._next_turns.add(connection)

    def _close(self, connection: "_Connection") -> None:
        with suppress(OSError):
            connection.send()
        self._connections.discard(connection)
        self._next_turns.discard(connection)
        connection.has_calls = False
        self._selector.unregister(connection.stream)
        connection.stream.close()

    def _perform_safely(self, number: int, message: Verb[Any]) -> bytes:
        started = self._cell.busy_since = time.monotonic()
        try:
            return messages.encode_answer(number, self._perform(message))
        except HsmError as error:
            metrics.refused(message.name(), type(error).__name__)
            return messages.encode_refusal(number, error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the worker
            # Neither its text nor its traceback: an argument can be in them.
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            line = where.tb_lineno if where else 0
            file = where.tb_frame.f_code.co_filename if where else ""
            metrics.refused(message.name(), VaultFailed.__name__)
            extra = {"verb": message.name(), "error": type(error).__name__}
            log.error("vault.failed", extra={**extra, "at": f"{file}:{line}"})  # noqa: TRY400
            return messages.encode_refusal(number, VaultFailed())
        finally:
            self._cell.busy_since = 0.0
            metrics.called(message.name(), time.monotonic() - started)


class _Connection:
    """A caller, and what it was not sent yet."""

    def __init__(self, stream: socket.socket, name: SocketName) -> None:
        self.stream = stream
        self.name = name
        self.unsent = bytearray()
        self.events = selectors.EVENT_READ
        self.has_calls = False
        """Whether calls may have come that were not done yet."""
        self.received_at = 0.0
        """When what is done now was read."""
        self._frames = Frames(messages.MESSAGE_BYTES_MAX[name])

    def receive(self) -> Iterator[bytes]:
        """Read what came; first what was left of what came before.

        Raises:
            EOFError: the caller is gone.
            MessageRefused: a frame is too long. What came before it was yielded.
            OSError: the connection is broken.
        """
        data = b""
        if not self.has_calls:
            try:
                data = self.stream.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return  # there was room for answers, and nothing came
            if not data:
                raise EOFError
            self.received_at = time.monotonic()
        yield from self._frames.feed(data)

    def send(self) -> None:
        """Send what can be sent without waiting.

        Raises:
            OSError: the connection is broken.
        """
        if self.unsent:
            with suppress(BlockingIOError):
                del self.unsent[: self.stream.send(self.unsent)]


class Held(NamedTuple):
    """An answer that waits for the disk."""

    connection: _Connection
    number: int
    answer: bytes


def run_until_told(worker: Worker) -> None:
    """Run *worker* until SIGTERM or SIGINT."""
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.wake_by(woken)
    worker.run()
