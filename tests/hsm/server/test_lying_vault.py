"""Both clients at a vault that lies: each call ends, and none has the answer of another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import msgpack

from cms.sandbox import HANG_SECONDS
from hsm import messages
from hsm.admin_client import AdminClient
from hsm.client import VaultClient
from hsm.errors import HsmError, MessageRefused, PinRejected, VaultUnavailable
from hsm.frames import frame
from hsm.messages import ANSWER_BYTES_MAX, ManifestVersion, SocketName
from tests.hsm.server.lying_vault import GREETING, Behaviour, Caller, lying

pytestmark = pytest.mark.anyio

SILENCE_SECONDS, LOOK_SECONDS = 0.2, 0.002
CALL = ManifestVersion("testbank01")
VERSION_OF_MANIFEST = 7


def answer(number: int, value: object = VERSION_OF_MANIFEST) -> bytes:
    return frame(messages.encode_answer(number, value))


def refusal(number: int, name: str, reason: str = "", **more: object) -> bytes:
    members = {"error": name, "reason": reason, "receipt": None, **more}
    return frame(msgpack.encode((number, members, None)))


def honest(caller: Caller) -> None:
    caller.greet()
    while True:
        caller.send(answer(caller.number()))


def answers_with(made: Callable[[int], bytes]) -> Behaviour:
    """Greet, and answer each call with what is *made* of its number."""

    def behave(caller: Caller) -> None:
        caller.greet()
        while True:
            caller.send(made(caller.number()))

    return behave


def then_silent(made: Callable[[int], bytes]) -> Behaviour:
    def behave(caller: Caller) -> None:
        caller.greet()
        caller.send(made(caller.number()))
        caller.wait()

    return behave


def greets_with(data: bytes) -> Behaviour:
    def behave(caller: Caller) -> None:
        caller.send(data)
        caller.wait()

    return behave


def hangs_up(caller: Caller) -> None:
    caller.greet()
    caller.number()


LIES = {
    "another number": answers_with(lambda number: answer(number + 1000)),
    "number of an earlier call": answers_with(lambda _: answer(0)),
    "no number": answers_with(lambda _: frame(msgpack.encode(("1", None, 7)))),
    "a text for a number": answers_with(lambda number: answer(number, "7")),
    "a map for a number": answers_with(lambda number: answer(number, {"verb": "health"})),
    "nothing for a number": answers_with(lambda number: answer(number, None)),
    "neither answer nor refusal": answers_with(lambda number: frame(msgpack.encode((number,)))),
    "more than an answer": answers_with(lambda number: answer(number)[:4] + b"\0"),
    "a call": answers_with(lambda number: frame(messages.encode_call(number, CALL))),
    "an oversized frame": then_silent(lambda _: (ANSWER_BYTES_MAX + 1).to_bytes(4)),
    "half a frame": then_silent(lambda number: answer(number)[:-1]),
    "half a length": then_silent(lambda _: b"\0\0"),
    "silence": then_silent(lambda _: b""),
    "an empty frame": answers_with(lambda _: frame(b"")),
    "an unknown error": answers_with(lambda number: refusal(number, "PinFound")),
    "a built-in error": answers_with(lambda number: refusal(number, "SystemExit")),
    "a class of the module": answers_with(lambda number: refusal(number, "Exception")),
    "a name of the module": answers_with(lambda number: refusal(number, "__builtins__")),
    "a path": answers_with(lambda number: refusal(number, "os.system", "true")),
    "a refusal with more": answers_with(lambda number: refusal(number, "PinRejected", call="x")),
    "a reason that is none": answers_with(
        lambda number: frame(msgpack.encode((number, {"error": "PinRejected"}, None)))
    ),
    "another version": greets_with(frame(msgpack.encode((messages.VERSION + 1,)))),
    "no greeting": greets_with(b""),
    "half a greeting": greets_with(GREETING[:-1]),
    "garbage for a greeting": greets_with(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "an answer for a greeting": greets_with(answer(1)),
    "an answer to no call": greets_with(GREETING + answer(0)),
    "a greeting twice": greets_with(GREETING + GREETING),
    "the end": hangs_up,
    "the end at once": lambda _: None,
}
every_lie = pytest.mark.parametrize("lie", LIES.values(), ids=LIES)


@asynccontextmanager
async def client_of(
    directory: Path, wait_seconds_max: float = HANG_SECONDS
) -> AsyncIterator[VaultClient]:
    client = VaultClient(
        directory,
        [SocketName.D1],
        silence_seconds=SILENCE_SECONDS,
        wait_seconds_max=wait_seconds_max,
    )
    yield client
    await client.close()


@every_lie
async def test_each_call_of_the_web_ends_as_unavailable(lie: Behaviour) -> None:
    with lying(lie) as directory:
        async with client_of(directory) as client, asyncio.timeout(HANG_SECONDS):
            for _ in range(2):
                calls = (client.call(CALL) for _ in range(3))
                for ended in await asyncio.gather(*calls, return_exceptions=True):
                    assert type(ended) in {VaultUnavailable, MessageRefused}


@every_lie
async def test_each_call_of_a_command_ends_as_unavailable(lie: Behaviour) -> None:
    with lying(lie) as directory:
        await asyncio.to_thread(call_by_command, directory)


def call_by_command(directory: Path) -> None:
    with pytest.raises(HsmError) as refused:  # noqa: PT012, SIM117 - the first may end at once
        with AdminClient(directory, SILENCE_SECONDS) as client:
            with contextlib.suppress(VaultUnavailable, MessageRefused):
                client.call(CALL)
            client.call(CALL)
    assert type(refused.value) in {VaultUnavailable, MessageRefused}


async def test_an_honest_one_is_believed() -> None:
    with lying(honest) as directory:
        async with client_of(directory) as client:
            assert await client.call(CALL) == VERSION_OF_MANIFEST
        with AdminClient(directory, SILENCE_SECONDS) as command:
            assert [command.call(CALL) for _ in range(3)] == [VERSION_OF_MANIFEST] * 3


def twice(caller: Caller) -> None:
    caller.greet()
    while True:
        number = caller.number()
        caller.send(answer(number, number) * 2)


async def test_a_second_answer_is_for_nobody() -> None:
    with lying(twice) as directory:
        async with client_of(directory) as client:
            assert await client.call(CALL) == 1
            # The connection is closed for the second; numbers begin again on the next.
            with contextlib.suppress(VaultUnavailable):
                assert await client.call(CALL) in {1, 2}
        with AdminClient(directory, SILENCE_SECONDS) as command:
            assert command.call(CALL) == 1
            with pytest.raises(MessageRefused, match="another call"):
                command.call(CALL)


def in_reverse(caller: Caller) -> None:
    caller.greet()
    while True:
        for number in reversed(caller.numbers(10)):
            caller.send(answer(number, number))


async def test_answers_in_another_order_go_to_their_callers() -> None:
    with lying(in_reverse) as directory:
        async with client_of(directory) as client:
            calls = (client.call(CALL) for _ in range(10))
            assert await asyncio.gather(*calls) == [*range(1, 11)]


def never_the_first(caller: Caller) -> None:
    caller.greet()
    caller.number()
    while True:
        caller.send(answer(caller.number()))


async def test_a_call_that_alone_is_not_answered_ends_too() -> None:
    with lying(never_the_first) as directory:
        async with client_of(directory, wait_seconds_max=SILENCE_SECONDS) as client:
            alone = asyncio.create_task(client.call(CALL))
            await until(lambda: waiting(client) == 1)
            others = 0
            async with asyncio.timeout(HANG_SECONDS):
                while not alone.done():
                    with contextlib.suppress(VaultUnavailable):
                        others += await client.call(CALL) == VERSION_OF_MANIFEST
                    await asyncio.sleep(SILENCE_SECONDS / 20)
            # It was repeated, as any call may be, and was not the first one then.
            with contextlib.suppress(VaultUnavailable):
                assert await alone == VERSION_OF_MANIFEST
            assert others


def drips(caller: Caller) -> None:
    caller.greet()
    for byte in answer(caller.number(), "x" * 1000):
        caller.send(bytes([byte]))
        caller.stream.settimeout(SILENCE_SECONDS / 4)
        with contextlib.suppress(TimeoutError):
            if not caller.stream.recv(1):
                return


async def test_an_answer_that_comes_byte_by_byte_is_not_waited_for() -> None:
    with lying(drips) as directory:
        async with client_of(directory) as client, asyncio.timeout(HANG_SECONDS):
            with pytest.raises(VaultUnavailable):
                await client.call(CALL)
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.to_thread(call_by_command, directory)


async def test_a_refusal_is_an_error_of_ours_and_nothing_else() -> None:
    with lying(answers_with(lambda n: refusal(n, "PinRejected", "__import__('os')"))) as directory:
        async with client_of(directory) as client:
            with pytest.raises(PinRejected) as refused:
                await client.call(CALL)
    assert type(refused.value) is PinRejected
    assert refused.value.args == ("__import__('os')",)


async def test_what_cancelled_callers_left_is_forgotten() -> None:
    late: list[Caller] = []

    def behave(caller: Caller) -> None:
        caller.greet()
        numbers = caller.numbers(500)
        late.append(caller)
        caller.send(b"".join(map(answer, numbers)))
        while True:
            caller.send(answer(caller.number()))

    with lying(behave) as directory:
        async with client_of(directory) as client:
            calls = [asyncio.create_task(client.call(CALL)) for _ in range(499)]
            await until(lambda: waiting(client) == len(calls))
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert await client.call(CALL) == VERSION_OF_MANIFEST
            assert waiting(client) == 0
            assert await client.call(CALL) == VERSION_OF_MANIFEST
    assert len(late) == 1  # on the same connection


async def test_what_cancelled_callers_left_at_a_silent_vault_is_forgotten() -> None:
    with lying(then_silent(lambda _: b"")) as directory:
        async with client_of(directory) as client:
            for _ in range(3):
                calls = [asyncio.create_task(client.call(CALL)) for _ in range(100)]
                await asyncio.sleep(SILENCE_SECONDS / 10)
                for call in calls:
                    call.cancel()
            await until(lambda: waiting(client) == 0)


def waiting(client: VaultClient) -> int:
    """How many calls the client thinks are to be answered."""
    connections = client._sockets[SocketName.D1]._connections.values()
    return sum(one.waiting() for one in connections)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not true():  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(LOOK_SECONDS)
