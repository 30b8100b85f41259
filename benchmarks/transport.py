"""Calls of the vault a second, in process and over ways between two processes, in turns.

*worker thread* is the vault in this process; *socket* is ``python -m hsm serve`` with one worker,
called by :class:`hsm.client.VaultClient`; *streams* calls the same program with asyncio's streams
in place of the client's protocol. Where they are installed, *pyzmq* carries the same messages
between a DEALER of asyncio and a process with a ROUTER, and *gRPC* between its client for asyncio
and a server of one thread. The cheap verb is ``manifest_version``, which does next to nothing.
Images are not among them: a grant is for one.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

from benchmarks.deployment import ISSUER, directory_and_hsm_token, make_issuer
from benchmarks.measure import ROUNDS, heading, machine
from hsm import local, messages
from hsm.client import VaultClient
from hsm.frames import frame
from hsm.messages import ManifestVersion, SetPinFromJwe, SocketName, Verb
from hsm.port import PinBlockType
from hsm.socket_files import path_of

ROUND_SECONDS: Final = 0.5
CONNECTIONS: Final = (1, 16)
"""How many calls are under way at once."""
PATIENCE_SECONDS: Final = 60.0
ZMQ: Final = "zmq"
GRPC: Final = "grpc"
GRPC_METHOD: Final = "/vault/call"
T = TypeVar("T")
Call = Callable[[Verb[Any]], Awaitable[object]]


async def rate(call: Call, message: Verb[Any], at_once: int) -> tuple[float, float]:
    """Call a verb over and over; return calls a second and this process's CPU for one, in us."""
    done = 0
    started, cpu = time.perf_counter(), time.process_time()
    ends_at = started + ROUND_SECONDS

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < ends_at:
            await call(message)
            done += 1

    await asyncio.gather(*(caller() for _ in range(at_once)))
    taken, used = time.perf_counter() - started, time.process_time() - cpu
    return done / taken, used / done * 1e6


class StreamsClient:
    """The client in its shortest form: asyncio's streams, and a task that reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, tuple[type[Verb[Any]], asyncio.Future[object]]] = {}
        self._number = 0
        self._task = asyncio.create_task(self._read())

    async def call(self, message: Verb[Any]) -> object:
        """Call a verb."""
        self._number += 1
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = type(message), answer
        self._writer.write(frame(messages.encode_call(self._number, message)))
        return await answer

    async def _frame(self) -> bytes:
        return await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4)))

    async def _read(self) -> None:
        messages.read_greeting(await self._frame())
        while True:
            data = await self._frame()
            number, _, raw = messages.decode_answer(data)
            verb, answer = self._waiting.pop(number)
            answer.set_result(messages.read_answer(verb, raw))

    def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        self._writer.close()


class ZmqClient:
    """A DEALER, and a task that reads."""

    def __init__(self, endpoint: str) -> None:
        import zmq.asyncio  # noqa: PLC0415 - no dependency: it may not be there

        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(endpoint)
        self._waiting: dict[int, tuple[type[Verb[Any]], asyncio.Future[object]]] = {}
        self._number = 0
        self._task = asyncio.create_task(self._read())

    async def call(self, message: Verb[Any]) -> object:
        """Call a verb."""
        self._number += 1
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = type(message), answer
        await self._socket.send(messages.encode_call(self._number, message))
        return await answer

    async def _read(self) -> None:
        while True:
            number, _, raw = messages.decode_answer(await self._socket.recv())
            verb, answer = self._waiting.pop(number)
            answer.set_result(messages.read_answer(verb, raw))

    def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        self._context.destroy(linger=0)


def serve_zmq(endpoint: str) -> None:
    """Serve the vault at a ROUTER until this process is killed."""
    import zmq  # noqa: PLC0415 - as above

    vault = local.open_vault()
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind(endpoint)
    while True:
        caller, call = socket.recv_multipart()
        number, message = messages.decode_call(call, SocketName.D1)
        socket.send_multipart([caller, messages.encode_answer(number, message.perform(vault))])


class GrpcClient:
    """One channel of gRPC for asyncio; the messages are ours, so no schema of its own is read."""

    def __init__(self, endpoint: str) -> None:
        import grpc.aio  # noqa: PLC0415 - no dependency: it may not be there

        self._channel = grpc.aio.insecure_channel(endpoint)
        self._call = self._channel.unary_unary(GRPC_METHOD)

    async def call(self, message: Verb[Any]) -> object:
        """Call a verb."""
        answer = await self._call(messages.encode_call(0, message), wait_for_ready=True)
        _, _, raw = messages.decode_answer(answer)
        return messages.read_answer(type(message), raw)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def serve_grpc(endpoint: str) -> None:
    """Serve the vault from one thread of gRPC until this process is killed."""
    import grpc  # noqa: PLC0415 - as above

    thread = ThreadPoolExecutor(1)
    vault = thread.submit(local.open_vault).result()

    def answer(call: bytes, _: object) -> bytes:
        number, message = messages.decode_call(call, SocketName.D1)
        return messages.encode_answer(number, message.perform(vault))

    server = grpc.server(thread)
    service, _, method = GRPC_METHOD.strip("/").partition("/")
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    server.add_insecure_port(endpoint)
    server.start()
    server.wait_for_termination()


@contextmanager
def process(*arguments: str) -> Iterator[None]:
    """Run a Python program meanwhile."""
    with subprocess.Popen([sys.executable, "-m", *arguments], stderr=subprocess.DEVNULL) as started:
        try:
            yield
        finally:
            started.terminate()


async def on_a_thread(thread: ThreadPoolExecutor) -> Call:
    """Open the vault on a thread of this process."""
    loop = asyncio.get_running_loop()
    vault = await loop.run_in_executor(thread, local.open_vault)

    async def call(message: Verb[Any]) -> object:
        return await loop.run_in_executor(thread, message.perform, vault)

    return call


@asynccontextmanager
async def ways(directory: Path) -> AsyncIterator[Mapping[str, Call]]:
    """Open the vault in each way."""
    sockets = directory / "sockets"
    sockets.mkdir()
    os.environ["HSM_SOCKET_DIRECTORY"] = str(sockets)
    path = path_of(sockets, SocketName.D1, 0)
    async with AsyncExitStack() as stack:
        stack.enter_context(process("hsm", "serve", "--sandbox"))
        calls: dict[str, Call] = {}
        calls["worker thread"] = await on_a_thread(stack.enter_context(ThreadPoolExecutor(1)))
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
        client = VaultClient(
            sockets,
            [SocketName.D1],
            silence_seconds=PATIENCE_SECONDS,
            wait_seconds_max=PATIENCE_SECONDS,
        )
        stack.push_async_callback(client.close)
        calls["socket"] = client.call
        streams = StreamsClient(*await asyncio.open_unix_connection(path))
        stack.callback(streams.close)
        calls["streams"] = streams.call
        if find_spec("zmq"):
            endpoint = f"ipc://{sockets}/zmq"
            stack.enter_context(process("benchmarks.transport", ZMQ, endpoint))
            zmq_client = ZmqClient(endpoint)
            stack.callback(zmq_client.close)
            calls["pyzmq"] = zmq_client.call
        if find_spec("grpc"):
            endpoint = f"unix://{sockets}/grpc"
            stack.enter_context(process("benchmarks.transport", GRPC, endpoint))
            grpc_client = GrpcClient(endpoint)
            stack.push_async_callback(grpc_client.close)
            calls["gRPC"] = grpc_client.call
        yield calls


async def measure(directory: Path, verbs: Mapping[str, Verb[Any]]) -> None:
    """Measure each way in turns and print."""
    async with ways(directory) as calls:
        for call in calls.values():
            for message in verbs.values():
                await call(message)
        for name, message in verbs.items():
            for at_once in CONNECTIONS:
                rounds: dict[str, list[tuple[float, float]]] = {way: [] for way in calls}
                for _ in range(ROUNDS):
                    for way, call in calls.items():
                        rounds[way].append(await rate(call, message, at_once))
                title = f"{name}, {at_once} at once"
                print(f"{title:<32}{'a second':>10}{'ratio':>8}{'CPU here, us':>14}")
                base = median(taken for taken, _ in rounds["worker thread"])
                for way, figures in rounds.items():
                    a_second = median(taken for taken, _ in figures)
                    cpu = median(used for _, used in figures)
                    print(f"  {way:<30}{a_second:>10.0f}{a_second / base:>8.2f}{cpu:>14.0f}")


def main() -> int:
    """Measure and print."""
    if sys.argv[1:2] == [ZMQ]:
        serve_zmq(sys.argv[2])
    if sys.argv[1:2] == [GRPC]:
        serve_grpc(sys.argv[2])
    heading(f"Ways to the vault · {machine()}")
    with directory_and_hsm_token() as (directory, hsm_token):
        issuer = make_issuer(directory, hsm_token, "https://localhost", cards=1)
        ((card, sealed),) = issuer.sealed.items()
        verbs: dict[str, Verb[Any]] = {
            "manifest_version": ManifestVersion(ISSUER),
            "set_pin_from_jwe": SetPinFromJwe(
                *(issuer.pin_jwe, PinBlockType.ISO0, card, sealed.sealed_record, 1, ISSUER)
            ),
        }
        asyncio.run(measure(directory, verbs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
