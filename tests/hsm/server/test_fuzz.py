"""What no client of ours sends, to a worker with a vault: it refuses or closes, and lives on.

``python -m tests.hsm.server.test_fuzz SECONDS`` goes on for so long with one worker.
"""

import itertools
import random
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from hsm import messages
from hsm.errors import HsmError, MessageRefused, VaultFailed
from hsm.frames import frame
from hsm.messages import VERSION, Health, SocketName, Verb
from tests.hsm.server.valid_calls import valid_calls
from tests.hsm.server.working import Working, working

EXAMPLES = 300
#: What takes the place of a field.
HOSTILE: Sequence[object] = (
    *(None, True, -1, 0, 1, 2**32, 2**63, 2**64 - 1, 1.5, float("nan"), float("inf")),
    *("", "\0", "x" * 5000, "a.b.c.d.e", "{}", b"", b"\0", b"\1\xff" + bytes(60), b"\xff" * 5000),
    *([], [[]], {}, {"": None}, [0] * 1000, {"kty": "EC", "crv": "P-256", "x": "", "y": ""}),
    *("verb", "\N{SNOWMAN}" * 48, "testbank01", "../../../etc"),
    msgpack.Ext(-1, bytes(4)),
    msgpack.Ext(7, b"x"),
)


class Vault:
    """A worker with a vault, and valid calls for it."""

    def __init__(self, worker: Working, calls: Sequence[Verb[Any]], mistakes: list[str]) -> None:
        self.worker = worker
        self.calls = calls
        self.mistakes = mistakes

    def send(self, name: SocketName, bodies: Sequence[bytes], cuts: Sequence[int]) -> Counter[str]:
        """Send frames in pieces; check what comes, and count its kinds.

        What must come is what the first bad frame has before it; then the connection is closed.
        """
        expected, is_good = understood(name, bodies)
        stream = b"".join(map(frame, bodies))
        with self.worker.connect(name) as stranger:
            assert stranger.is_greeted()
            with suppress(BrokenPipeError, ConnectionResetError):
                for start, end in itertools.pairwise([0, *sorted(cuts), len(stream)]):
                    stranger.send(stream[start:end])
            kinds = Counter[str]()
            for number, message in expected:
                answer = stranger.read()
                if answer is None:
                    assert not is_good
                    break
                kinds[kind_of(answer, number, message)] += 1
            if not is_good:
                assert stranger.read() is None
        return kinds

    def lives(self) -> bool:
        return self.worker.runs() and all(
            self.send(name, [messages.encode_call(1, Health())], [])["answer"] == 1
            for name in SocketName
        )


def understood(
    name: SocketName, bodies: Sequence[bytes]
) -> tuple[Sequence[tuple[int, Verb[Any]]], bool]:
    """The calls of a stream until the first that is none, and whether all are calls."""
    calls: list[tuple[int, Verb[Any]]] = []
    for body in bodies:
        try:
            calls.append(messages.decode_call(body, name))
        except MessageRefused:
            return calls, False
    return calls, True


def kind_of(answer: bytes, number: int, message: Verb[Any]) -> str:
    """Read an answer as the client does: the error's name, or "answer"."""
    answered, error, raw = messages.decode_answer(answer)
    assert answered == number
    if error is None:
        messages.read_answer(type(message), raw)
        return "answer"
    assert isinstance(error, HsmError)
    return type(error).__name__


def opened(directory: Path) -> Iterator[Vault]:
    vault, calls = valid_calls(directory)
    mistakes: list[str] = []

    def perform(message: Verb[Any]) -> object:
        try:
            return message.perform(vault)
        except HsmError:
            raise
        except Exception as error:
            mistakes.append(f"{message.name()}: {error!r}")
            raise

    with working(perform) as worker:
        yield Vault(worker, calls, mistakes)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    yield from opened(tmp_path_factory.mktemp("hosts"))


fuzzed = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
names = st.sampled_from(SocketName)
cuts = st.lists(st.integers(0, 2000), max_size=4)


def test_every_valid_call_is_answered_on_its_sockets_and_closes_the_others(vault: Vault) -> None:
    for message, name in itertools.product(vault.calls, SocketName):
        kinds = vault.send(name, [messages.encode_call(7, message)], [])
        if name not in message.sockets:
            assert not kinds
        elif message.name() not in REFUSED:
            assert kinds == {"answer": 1}, message.name()
    assert not vault.mistakes


#: The issuer has no authorisation host and no scripts; the host has its minimum versions already.
REFUSED = {"build_script", "export_values", "load_minimum_versions", "reverse_pin"}


def with_field(body: bytes, position: int, value: object) -> bytes:
    """Replace one of the fields of a call, or of its fields' fields."""
    call = msgpack.decode(body)
    places = [*places_in(call)]
    holder, key = places[position % len(places)]
    holder[key] = value
    return msgpack.encode(call)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - whatever was decoded
    keys = value if isinstance(value, dict) else range(len(value)) if _is_list(value) else ()
    for key in keys:
        yield value, key
        yield from places_in(value[key])


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def without_field(body: bytes, position: int, _: object) -> bytes:
    call = msgpack.decode(body)
    members = call[2]
    del members[[*members][position % len(members)]]
    return msgpack.encode(call)


def with_byte(body: bytes, position: int, value: object) -> bytes:
    where = position % len(body)
    return body[:where] + bytes([hash(repr(value)) % 256]) + body[where + 1 :]


def truncated(body: bytes, position: int, _: object) -> bytes:
    return body[: position % len(body)]


def lengthened(body: bytes, position: int, _: object) -> bytes:
    return body + body[position % len(body) :]


def of_another_version(body: bytes, position: int, _: object) -> bytes:
    _, *rest = msgpack.decode(body)
    return msgpack.encode([VERSION + 1 + position, *rest])


def unchanged(body: bytes, _: int, __: object) -> bytes:
    return body


Mutation = Callable[[bytes, int, object], bytes]
MUTATIONS: Sequence[Mutation] = (
    *(with_field, with_field, with_field, without_field, with_byte, truncated, lengthened),
    *(of_another_version, unchanged),
)
mutated = st.tuples(
    st.integers(0, len(messages.VERBS) - 1),
    st.sampled_from(MUTATIONS),
    st.integers(0, 5000),
    st.sampled_from(HOSTILE),
)


def mutate(
    vault: Vault, number: int, verb: int, how: Mutation, position: int, value: object
) -> bytes:
    return how(messages.encode_call(number, vault.calls[verb]), position, value)


@fuzzed
@given(names, st.lists(mutated, min_size=1, max_size=6), cuts)
def test_mutated_calls_are_refused_or_calls_and_the_worker_lives(
    vault: Vault, name: SocketName, drawn: list[Any], cuts: list[int]
) -> None:
    bodies = [mutate(vault, number, *each) for number, each in enumerate(drawn, 1)]
    vault.send(name, bodies, cuts)
    assert vault.lives()
    assert not vault.mistakes


@fuzzed
@given(names, st.binary(max_size=300))
def test_random_bytes_end_with_the_connection(vault: Vault, name: SocketName, data: bytes) -> None:
    with vault.worker.connect(name) as stranger:
        assert stranger.is_greeted()
        with suppress(BrokenPipeError, ConnectionResetError):
            stranger.send(data)
            stranger.stream.shutdown(socket.SHUT_WR)  # a length may want more than there is
        while answer := stranger.read():
            messages.decode_answer(answer)
    assert vault.lives()


@fuzzed
@given(names, st.permutations(range(len(messages.VERBS))), st.integers(0, 5), cuts)
def test_duplicated_and_reordered_calls_are_each_answered(
    vault: Vault, name: SocketName, order: list[int], twice: int, cuts: list[int]
) -> None:
    calls = [vault.calls[each] for each in order if name in vault.calls[each].sockets]
    bodies = [messages.encode_call(number, call) for number, call in enumerate(calls)]
    kinds = vault.send(name, bodies + bodies[:twice], cuts)
    assert kinds.total() == len(bodies) + len(bodies[:twice])
    assert VaultFailed.__name__ not in kinds


def soak(seconds: float) -> None:
    """Send mutated calls to one worker and say what came; memory must not grow."""
    rand = random.Random()
    with TemporaryDirectory() as directory:
        for vault in opened(Path(directory)):
            ends_at, kinds, start = time.monotonic() + seconds, Counter[str](), 0
            while time.monotonic() < ends_at:
                name = rand.choice([*SocketName])
                bodies = [
                    mutate(
                        vault,
                        number,
                        rand.randrange(len(vault.calls)),
                        rand.choice(MUTATIONS),
                        rand.randrange(5000),
                        rand.choice(HOSTILE),
                    )
                    for number in range(rand.randrange(1, 30))
                ]
                cuts = [rand.randrange(5000) for _ in range(rand.randrange(5))]
                kinds += vault.send(name, bodies, cuts)
                kinds["streams"] += 1
                if kinds["streams"] == 500:
                    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert vault.lives()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(kinds, f"peak {start} to {peak} kB", Counter(vault.mistakes), sep="\n")  # noqa: T201


if __name__ == "__main__":
    soak(float(sys.argv[1]))
