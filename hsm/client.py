"""The web's side of the vault's sockets: many calls at once on one connection to each worker."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOENT
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from msgspec import Raw

from hsm import messages
from hsm.errors import HsmError, MessageRefused, VaultBusy, VaultUnavailable
from hsm.frames import Frames, frame
from hsm.manifest import model
from hsm.manifest.model import Manifest
from hsm.messages import ReadManifest, SocketName, Verb
from hsm.socket_files import paths_of

CALL_SECONDS_AT_FIRST: Final = 0.01
"""What a call is thought to take until some were measured."""
NEWEST_SHARE: Final = 0.1
"""What the newest call counts in the moving average of what a call takes."""
MANIFESTS_MAX: Final = 1000
LOOK_SECONDS: Final = 0.2
"""How often a slot without a worker is tried at most, while others answer."""
NOT_THERE: Final = "the vault takes no connection"
T = TypeVar("T")


class VaultCalls(Protocol):
    """How asyncio code calls a vault, wherever that is."""

    async def call(self, message: Verb[T]) -> T:
        """Call a verb.

        Raises:
            HsmError: as the verb raises it, or as the way to the vault does.
        """
        ...

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        """Return the manifest of an issuer that is in force; None: the host never had one.

        Raises:
            ManifestRefused: it is not in force now.
            HsmError: as :meth:`call` does.
        """
        ...

    async def close(self) -> None:
        """Let go of the vault; calls that wait end as unavailable."""
        ...


class VaultClient:
    """Calls verbs of a vault in another process.

    Args:
        directory: where its sockets are.
        sockets: which of them this process may use. A verb goes to the first that takes it.
        silence_seconds: how long the vault may answer nothing while calls wait; longer than the
            vault's own deadline, after which it replaces its worker.
        wait_seconds_max: how long a call may be expected to wait for others; one that would wait
            longer is refused at once.
    """

    def __init__(
        self,
        directory: Path,
        sockets: Sequence[SocketName],
        *,
        silence_seconds: float,
        wait_seconds_max: float,
    ) -> None:
        self._sockets = {
            name: _Socket(directory, name, silence_seconds, wait_seconds_max) for name in sockets
        }
        self._manifests: dict[str, Manifest] = {}

    async def call(self, message: Verb[T]) -> T:
        """Call a verb. When the connection is lost, it is called once more, if it may be.

        Raises:
            VaultBusy: it would have to wait too long for others.
            VaultUnavailable: the vault is not there, went away, or did not answer in time.
            MessageRefused: the message is too long, or for none of the sockets.
            HsmError: as the verb raises it.
        """
        socket = next((s for name, s in self._sockets.items() if name in message.sockets), None)
        if socket is None:
            raise MessageRefused("the verb is for another socket")
        try:
            return await (await socket.connection()).call(message)
        except _ConnectionLost:
            if not message.repeatable:
                raise VaultUnavailable("the vault went away during the call") from None
        try:
            return await (await socket.connection()).call(message)
        except _ConnectionLost:
            raise VaultUnavailable("the vault went away during the call, twice") from None

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        """Return the manifest of an issuer that is in force; each version is parsed once.

        Raises:
            HsmError: as :meth:`call` and the verb do.
        """
        known = self._manifests.get(issuer_id)
        text = await self.call(ReadManifest(issuer_id, known.version if known else 0))
        if text.version == 0:
            return None
        manifest = known if text.canonical is None else model.parse(text.canonical)
        if manifest is None:
            raise MessageRefused("no answer of the verb")
        # Those that were read longest ago go first.
        self._manifests.pop(issuer_id, None)
        self._manifests[issuer_id] = manifest
        if len(self._manifests) > MANIFESTS_MAX:
            del self._manifests[next(iter(self._manifests))]
        return manifest

    async def close(self) -> None:
        """Close the connections; calls that wait end as unavailable."""
        for socket in self._sockets.values():
            socket.close()


class _ConnectionLost(Exception):
    """The vault may have done what it was asked, or not."""


class _Socket:
    """One socket of the vault: a connection to each slot that has a worker."""

    def __init__(
        self, directory: Path, name: SocketName, silence_seconds: float, wait_seconds_max: float
    ) -> None:
        self._directory = directory
        self._name = name
        self._silence_seconds = silence_seconds
        self._wait_seconds_max = wait_seconds_max
        self._connections: dict[Path, _Connection] = {}
        self._all_there = False
        self._connecting = asyncio.Lock()
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def connection(self) -> "_Connection":
        """Return the connection to the worker for which the fewest calls wait.

        Raises:
            VaultUnavailable: no worker takes a connection, or not of this process.
            MessageRefused: the vault is of another release.
        """
        greeted = [one for one in self._connections.values() if one.is_greeted]
        if not greeted:
            return await self._first()
        if len(greeted) < len(self._connections) or not self._all_there:
            self._look()
        return greeted[0] if len(greeted) == 1 else min(greeted, key=_Connection.waiting)

    async def _first(self) -> "_Connection":
        """Connect, and return the connection that is greeted first."""
        try:
            async with asyncio.timeout(self._silence_seconds):
                async with self._connecting:
                    await self._connect()
                    connections = [*self._connections.values()]
                greetings = [one.greeting for one in connections]
                await asyncio.wait(greetings, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise VaultUnavailable(NOT_THERE) from None
        for one in connections:
            if one.is_greeted:
                return one
        for one in connections:
            if one.greeting.done() and isinstance(error := one.greeting.exception(), HsmError):
                raise error
        raise VaultUnavailable(NOT_THERE)

    def _look(self) -> None:
        """Connect again, beside the calls and not too often, to slots that lost their worker."""
        now = time.monotonic()
        if now >= self._look_at and (self._looking is None or self._looking.done()):
            self._look_at = now + LOOK_SECONDS
            self._looking = asyncio.get_running_loop().create_task(self._look_once())

    async def _look_once(self) -> None:
        with suppress(HsmError, TimeoutError):
            async with self._connecting, asyncio.timeout(self._silence_seconds):
                await self._connect()

    async def _connect(self) -> None:
        """Connect to each slot to which there is no connection.

        Raises:
            VaultUnavailable: nobody listens at any, or not for this process.
        """
        loop = asyncio.get_running_loop()
        paths = paths_of(self._directory, self._name)
        error: OSError = FileNotFoundError(ENOENT, os.strerror(ENOENT))

        def make() -> _Connection:
            return _Connection(loop, self._name, self._silence_seconds, self._wait_seconds_max)

        self._connections = {
            path: one for path, one in self._connections.items() if path in paths and not one.lost
        }
        for path in paths:
            if path not in self._connections:
                try:
                    _, one = await loop.create_unix_connection(make, str(path))
                except OSError as failed:
                    error = failed
                else:
                    self._connections[path] = one
        self._all_there = len(self._connections) == len(paths)
        if not self._connections:
            raise VaultUnavailable(error.strerror or NOT_THERE)

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        for connection in self._connections.values():
            connection.close()


class _Pending(Generic[T]):
    """A call that waits for its answer."""

    __slots__ = ("answer", "sent_at", "verb")

    def __init__(self, verb: type[Verb[T]], answer: asyncio.Future[T]) -> None:
        self.verb = verb
        self.answer = answer
        self.sent_at = time.monotonic()

    def land(self, error: Exception | None, raw: Raw | None = None) -> None:
        """Hand the answer to the caller, who may be gone.

        Raises:
            MessageRefused: it is not what the verb is answered with.
        """
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        elif raw is not None:
            self.answer.set_result(messages.read_answer(self.verb, raw))


class _Connection(asyncio.Protocol):
    """One connection: calls go out as they come, answers come back by their numbers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: SocketName,
        silence_seconds: float,
        wait_seconds_max: float,
    ) -> None:
        self._loop = loop
        self._name = name
        self._silence_seconds = silence_seconds
        self._wait_seconds_max = wait_seconds_max
        self._frames = Frames(messages.ANSWER_BYTES_MAX)
        self._pending: dict[int, _Pending[Any]] = {}
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._heard_at = 0.0
        self._call_seconds = CALL_SECONDS_AT_FIRST
        self._watched = False
        self.lost = False
        self.greeting: asyncio.Future[None] = loop.create_future()
        """Done when the worker took the connection, or will not."""

    @property
    def is_greeted(self) -> bool:
        """Whether a worker is there."""
        return not self.lost and self.greeting.done() and self.greeting.exception() is None

    def waiting(self) -> int:
        """Count the calls that wait for an answer."""
        return len(self._pending)

    async def call(self, message: Verb[T]) -> T:
        """Send a call and wait for its answer.

        Raises:
            VaultBusy: it would have to wait too long.
            MessageRefused: it is too long.
            _ConnectionLost: the answer will not come.
            HsmError: as the verb raises it.
        """
        now = time.monotonic()
        if not self._pending:
            self._heard_at = now
        if self._wait_seconds(now) > self._wait_seconds_max:
            raise VaultBusy("the vault is busy")
        self._number += 1
        data = messages.encode_call(self._number, message)
        if len(data) > messages.MESSAGE_BYTES_MAX[self._name]:
            raise MessageRefused("a message is too long")
        if self.lost or self._transport is None:
            raise _ConnectionLost
        answer: asyncio.Future[T] = self._loop.create_future()
        self._pending[self._number] = _Pending(type(message), answer)
        self._transport.write(frame(data))
        if not self._watched:
            self._watched = True
            self._loop.call_later(self._silence_seconds, self._watch)
        return await answer

    def close(self) -> None:
        """Close it at once."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand each answer to its caller."""
        answered = 0
        try:
            for part in self._frames.feed(data):
                if not self.greeting.done():
                    messages.read_greeting(part)
                    self.greeting.set_result(None)
                    continue
                number, error, raw = messages.decode_answer(part)
                self._pending[number].land(error, raw)
                del self._pending[number]
                answered += 1
        except MessageRefused as refused:
            self._end_greeting(refused)
            self.close()
        except KeyError:
            self.close()
        if answered:
            now = time.monotonic()
            each_seconds = (now - self._heard_at) / answered
            self._call_seconds += NEWEST_SHARE * (each_seconds - self._call_seconds)
            self._heard_at = now

    def connection_lost(self, _: Exception | None) -> None:
        """Tell everybody who waits."""
        self.lost = True
        self._end_greeting(VaultUnavailable(NOT_THERE))
        for pending in self._pending.values():
            pending.land(_ConnectionLost())
        self._pending.clear()

    def _end_greeting(self, error: HsmError) -> None:
        if not self.greeting.done():
            self.greeting.set_exception(error)
            self.greeting.exception()  # nobody may ask

    def _wait_seconds(self, now: float) -> float:
        """Estimate how long one more call would wait: for those before it, each as usual."""
        silent_seconds = now - self._heard_at
        return len(self._pending) * self._call_seconds + max(
            0.0, silent_seconds - self._call_seconds
        )

    def _watch(self) -> None:
        """Give up a vault that answers nothing, or not the call that waits longest."""
        if not self._pending:
            self._watched = False
            return
        oldest = next(iter(self._pending.values()))
        ends_at = self._silence_seconds + min(
            self._heard_at, oldest.sent_at + self._wait_seconds_max
        )
        left_seconds = ends_at - time.monotonic()
        if left_seconds <= 0:
            self.close()
        else:
            self._loop.call_later(left_seconds, self._watch)
