"""The web's side of the vault's sockets: many calls at once on one connection to each."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from msgspec import Raw

from hsm import messages
from hsm.errors import MessageRefused, VaultBusy, VaultUnavailable
from hsm.frames import Frames, frame
from hsm.manifest import model
from hsm.manifest.model import Manifest
from hsm.messages import ReadManifest, SocketName, Verb

CALL_SECONDS_AT_FIRST: Final = 0.01
"""What a call is thought to take until some were measured."""
NEWEST_SHARE: Final = 0.1
"""What the newest call counts in the moving average of what a call takes."""
MANIFESTS_MAX: Final = 1000
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
            name: _Socket(directory / f"{name}.sock", name, silence_seconds, wait_seconds_max)
            for name in sockets
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
            return await (await socket.connected()).call(message)
        except _ConnectionLost:
            if not message.repeatable:
                raise VaultUnavailable("the vault went away during the call") from None
        try:
            return await (await socket.connected()).call(message)
        except _ConnectionLost:
            raise VaultUnavailable("the vault went away during the call, twice") from None

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        """Return the manifest of an issuer that is in force; each version is parsed once.

        Raises:
            HsmError: as :meth:`call` and the verb do.
        """
        known = self._manifests.pop(issuer_id, None)
        text = await self.call(ReadManifest(issuer_id, known.version if known else 0))
        if text.version == 0:
            return None
        manifest = known if text.canonical is None else model.parse(text.canonical)
        if manifest is None:
            raise MessageRefused("no answer of the verb")
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
    """One socket of the vault, and the connection to it if there is one."""

    def __init__(
        self, path: Path, name: SocketName, silence_seconds: float, wait_seconds_max: float
    ) -> None:
        self._path = path
        self._name = name
        self._silence_seconds = silence_seconds
        self._wait_seconds_max = wait_seconds_max
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def connected(self) -> "_Connection":
        """Return the connection; connect if there is none.

        Raises:
            VaultUnavailable: nobody listens there, or not for this process.
        """
        if self._connection is not None and not self._connection.lost:
            return self._connection
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()

        def make() -> _Connection:
            return _Connection(loop, self._name, self._silence_seconds, self._wait_seconds_max)

        try:
            async with asyncio.timeout(self._silence_seconds):
                _, connection = await loop.create_unix_connection(make, str(self._path))
        except OSError as error:
            raise VaultUnavailable(error.strerror or NOT_THERE) from None
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Pending(Generic[T]):
    """A call that waits for its answer."""

    __slots__ = ("answer", "verb")

    def __init__(self, verb: type[Verb[T]], answer: asyncio.Future[T]) -> None:
        self.verb = verb
        self.answer = answer

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
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows the type
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand each answer to its caller."""
        answered = 0
        try:
            for part in self._frames.feed(data):
                number, error, raw = messages.decode_answer(part)
                self._pending[number].land(error, raw)
                del self._pending[number]
                answered += 1
        except (MessageRefused, KeyError):
            self.close()
        if answered:
            now = time.monotonic()
            each_seconds = (now - self._heard_at) / answered
            self._call_seconds += NEWEST_SHARE * (each_seconds - self._call_seconds)
            self._heard_at = now

    def connection_lost(self, _: Exception | None) -> None:
        """Tell everybody who waits."""
        self.lost = True
        for pending in self._pending.values():
            pending.land(_ConnectionLost())
        self._pending.clear()

    def _wait_seconds(self, now: float) -> float:
        """Estimate how long one more call would wait: for those before it, each as usual."""
        silent_seconds = now - self._heard_at
        return len(self._pending) * self._call_seconds + max(
            0.0, silent_seconds - self._call_seconds
        )

    def _watch(self) -> None:
        """Give up a vault that answers nothing, for as long as calls wait."""
        left_seconds = self._heard_at + self._silence_seconds - time.monotonic()
        if self._pending and left_seconds <= 0:
            self.close()
        elif self._pending:
            self._loop.call_later(left_seconds, self._watch)
        else:
            self._watched = False
