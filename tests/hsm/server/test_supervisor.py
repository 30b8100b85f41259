"""Workers that hang, die, are refused or killed; connections that are not as they must be."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import msgpack

from cms.sandbox import HANG_SECONDS
from hsm import admin_client, messages
from hsm.admin_client import AdminClient
from hsm.client import VaultClient
from hsm.errors import MessageRefused, VaultBusy, VaultFailed, VaultUnavailable
from hsm.frames import Frames, frame
from hsm.messages import VERSION, ExportJwe, Health, ManifestVersion, SocketName
from hsm.port import CardRef, SealedPin, SealedRecord
from hsm.server.exits import Exit
from hsm.server.supervisor import LOOK_SECONDS, Supervisor
from hsm.settings import ServerSettings
from hsm.socket_files import path_of
from tests.hsm.server import stub_vault
from tests.processes import children, runs
from tests.vault_process import VaultProcess, serving, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

STUB = ("tests.hsm.server.stub_vault",)
DEADLINE_SECONDS = 0.3


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultProcess]:
    with serving(tmp_path, module=STUB, HSM_DEADLINE_SECONDS=DEADLINE_SECONDS) as vault:
        yield vault


@asynccontextmanager
async def client_of(
    vault: VaultProcess,
    *sockets: SocketName,
    silence: float = HANG_SECONDS,
    wait: float = HANG_SECONDS,
) -> AsyncIterator[VaultClient]:
    client = VaultClient(
        vault.sockets, sockets or [*SocketName], silence_seconds=silence, wait_seconds_max=wait
    )
    yield client
    await client.close()


PID = ManifestVersion(stub_vault.PID)


async def test_many_calls_at_once_each_get_their_answer(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        pids = await asyncio.gather(*(client.call(PID) for _ in range(200)))
    assert set(pids) == set(children(vault.process.pid))


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_calls_are_answered_on_the_loop_of_the_service_too(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        assert await client.call(PID) in children(vault.process.pid)


async def test_a_worker_that_hangs_is_killed_and_its_calls_go_to_the_next(
    vault: VaultProcess,
) -> None:
    async with client_of(vault) as client:
        before = await client.call(PID)
        calls = [client.call(ManifestVersion(stub_vault.SLEEPS_ONCE)), client.call(PID)]
        after = await asyncio.gather(*calls)
    assert len({*after}) == 1
    assert before not in after
    assert not runs(before)
    assert "vault.worker_killed" in {event["event"] for event in vault.events()}


async def test_a_call_that_hangs_twice_is_given_up(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        with pytest.raises(VaultUnavailable, match="twice"):
            await client.call(ManifestVersion(stub_vault.SLEEPS))
        assert await client.call(PID)


async def test_a_hand_out_is_not_repeated(vault: VaultProcess) -> None:
    card = CardRef("testbank01", "card-1")
    export = ExportJwe(SealedPin(b""), SealedRecord(b""), card, 1)
    async with client_of(vault) as client:
        hangs = asyncio.create_task(client.call(ManifestVersion(stub_vault.SLEEPS_ONCE)))
        await asyncio.sleep(0)
        with pytest.raises(VaultUnavailable, match=r"during the call$"):
            await client.call(export)
        assert await hangs


async def test_a_worker_that_is_killed_is_replaced(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        for _ in range(3):
            pid = await client.call(PID)
            os.kill(pid, signal.SIGKILL)
            assert await client.call(PID) != pid


async def test_workers_are_replaced_one_after_another_when_told(tmp_path: Path) -> None:
    with serving(tmp_path, module=STUB, HSM_WORKERS=2) as vault:
        wait_until(lambda: len(children(vault.process.pid)) == 2)
        async with client_of(vault) as client:
            assert await client.call(PID)
            before = {*children(vault.process.pid)}
            os.kill(vault.process.pid, signal.SIGHUP)
            while before & {*children(vault.process.pid)}:
                assert await client.call(PID)  # somebody always answers
            after = {await client.call(PID)}
    assert not after & before


async def test_a_silent_vault_is_given_up_by_the_client(vault: VaultProcess) -> None:
    async with client_of(vault) as patient:
        pid = await patient.call(PID)
    async with client_of(vault, silence=0.2) as client:
        os.kill(vault.process.pid, signal.SIGSTOP)  # nobody replaces the worker
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(VaultUnavailable):
                await client.call(PID)
        finally:
            os.kill(pid, signal.SIGCONT)
            os.kill(vault.process.pid, signal.SIGCONT)


async def test_a_call_that_would_wait_too_long_is_refused_at_once(vault: VaultProcess) -> None:
    async with client_of(vault, wait=0.1) as client:
        await client.call(PID)
        calls = [client.call(ManifestVersion(stub_vault.SLEEPS_ONCE)) for _ in range(100)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    kinds = {type(answer) for answer in answers}
    assert kinds == {int, VaultBusy}


async def test_a_mistake_of_the_vault_says_nothing_and_ends_nothing(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        before = await client.call(PID)
        with pytest.raises(VaultFailed) as raised:
            await client.call(ManifestVersion(stub_vault.FAILS))
        assert raised.value.args == ()
        assert await client.call(PID) == before
    assert "4071" not in vault.output.read_text()
    (event,) = [event for event in vault.events() if event["event"] == "vault.failed"]
    assert (event["verb"], event["error"]) == ("manifest_version", "ValueError")


async def test_a_refusal_s_sentence_comes_along(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        with pytest.raises(VaultUnavailable, match="the HSM token is unavailable"):
            await client.call(ManifestVersion(stub_vault.AWAY))


async def test_a_command_calls_on_the_admin_socket(vault: VaultProcess) -> None:
    with AdminClient(vault.sockets, HANG_SECONDS) as client:
        pid = client.call(PID)
        with pytest.raises(VaultUnavailable):
            client.call(ManifestVersion(stub_vault.AWAY))
        assert client.call(PID) == pid


async def test_a_command_does_not_wait_for_a_worker_while_another_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client, "GREETING_SECONDS", 0.1)
    with serving(tmp_path, module=STUB, HSM_WORKERS=2) as vault:
        wait_until(lambda: len(children(vault.process.pid)) == 2)
        with AdminClient(vault.sockets, HANG_SECONDS) as client:
            first = client.call(PID)
        os.kill(first, signal.SIGSTOP)
        try:
            with AdminClient(vault.sockets, HANG_SECONDS) as client:
                assert client.call(PID) != first
        finally:
            os.kill(first, signal.SIGCONT)


async def test_without_a_socket_the_vault_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(VaultUnavailable, match="No such file"):
        AdminClient(tmp_path, HANG_SECONDS)
    client = VaultClient(
        tmp_path, [SocketName.D1], silence_seconds=HANG_SECONDS, wait_seconds_max=HANG_SECONDS
    )
    with pytest.raises(VaultUnavailable, match="No such file"):
        await client.call(Health())


async def test_a_verb_of_no_socket_of_ours_is_not_sent(vault: VaultProcess) -> None:
    async with client_of(vault, SocketName.D1) as client:
        with pytest.raises(MessageRefused):
            await client.call(ManifestVersion("x" * messages.MESSAGE_BYTES_MAX[SocketName.D1]))
        assert await client.call(PID)


def talk(vault: VaultProcess, data: bytes, name: SocketName = SocketName.D1) -> bytes:
    """Send bytes and return all that comes until the vault closes, or answers once."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(HANG_SECONDS)
        stream.connect(str(path_of(vault.sockets, name, slot=0)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if stream.recv(len(GREETING)):
                stream.sendall(data)
                return stream.recv(1 << 16)
        return b""


def answers(vault: VaultProcess) -> bool:
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        return talk(vault, GOOD) != b""
    return False


GREETING = frame(messages.encode_greeting())
GOOD = frame(messages.encode_call(1, PID))
BAD = {
    "oversized": (messages.MESSAGE_BYTES_MAX[SocketName.D1] + 1).to_bytes(4),
    "http": b"GET / HTTP/1.1\r\nHost: vault\r\n\r\n",
    "other version": frame(msgpack.encode((VERSION + 1, 1, {"verb": "health"}))),
    "unknown verb": frame(msgpack.encode((VERSION, 1, {"verb": "reveal_pin"}))),
    "verb of another socket": frame(
        msgpack.encode((VERSION, 1, {"verb": "load_minimum_versions", "text": ""}))
    ),
    "empty": frame(b""),
    "length twice": GOOD[:4] + GOOD,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
async def test_what_is_no_call_closes_the_connection(vault: VaultProcess, data: bytes) -> None:
    assert talk(vault, data) == b""
    assert talk(vault, GOOD) != b""


async def test_calls_before_a_bad_one_are_answered(vault: VaultProcess) -> None:
    (answer,) = Frames(1000).feed(talk(vault, GOOD + BAD["unknown verb"]))
    assert messages.decode_answer(answer)[0] == 1


async def test_a_duplicated_call_is_answered_twice(vault: VaultProcess) -> None:
    """Numbers are the caller's: what one number means is its own business."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(HANG_SECONDS)
        stream.connect(str(path_of(vault.sockets, SocketName.D1, 0)))
        stream.sendall(GOOD + GOOD)
        frames, answers = Frames(1000), list[bytes]()
        stream.recv(len(GREETING))
        while len(answers) < 2:
            answers += frames.feed(stream.recv(1 << 16))
    assert answers[0] == answers[1]


async def test_a_caller_that_stops_within_a_call_costs_nothing(vault: VaultProcess) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path_of(vault.sockets, SocketName.D1, 0)))
        stream.sendall(GOOD[:-1])
        assert talk(vault, GOOD) != b""
    assert talk(vault, GOOD) != b""


async def test_another_uid_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, module=STUB, HSM_D1_UID=os.getuid() + 1) as vault:
        mode = path_of(vault.sockets, SocketName.D1, 0).stat().st_mode & 0o777
        assert mode == 0o660
        assert talk(vault, GOOD, SocketName.D1) == b""
        assert talk(vault, GOOD, SocketName.ADMIN) != b""  # the control
        wait_until(lambda: any(e["event"] == "vault.connection_refused" for e in vault.events()))


async def test_sockets_are_their_owner_s_and_gone_at_the_end(vault: VaultProcess) -> None:
    for name in SocketName:
        assert path_of(vault.sockets, name, 0).stat().st_mode & 0o777 == 0o600
    workers = children(vault.process.pid)
    assert vault.stop() == 0
    assert not vault.is_bound()
    assert not any(map(runs, workers))


async def test_what_was_sent_before_the_end_is_answered(vault: VaultProcess) -> None:
    async with client_of(vault) as client:
        pid = await client.call(PID)
        os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.create_task(client.call(PID)) for _ in range(50)]
        await asyncio.sleep(0.05)
        os.kill(vault.process.pid, signal.SIGTERM)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        assert await asyncio.gather(*calls) == [pid] * 50


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(
    tmp_path: Path, vault: VaultProcess
) -> None:
    with serving(tmp_path, module=STUB, bound=False, HSM_SOCKET_DIRECTORY=vault.sockets) as other:
        assert other.process.wait(HANG_SECONDS) != 0
        assert "another vault serves there" in other.output.read_text()
    assert talk(vault, GOOD) != b""
    workers = children(vault.process.pid)
    vault.process.kill()
    vault.process.wait()
    wait_until(lambda: not any(map(runs, workers)))
    assert vault.is_bound()
    assert not answers(vault)
    with serving(tmp_path, module=STUB, HSM_SOCKET_DIRECTORY=vault.sockets):
        wait_until(lambda: answers(vault))


async def test_a_directory_where_others_may_write_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "sockets"
    directory.mkdir()
    directory.chmod(0o777)
    with serving(tmp_path, module=STUB, bound=False, HSM_SOCKET_DIRECTORY=directory) as vault:
        assert vault.process.wait(HANG_SECONDS) != 0
        assert "others own it or may write there" in vault.output.read_text()


async def test_a_refused_login_is_tried_twice_by_all_workers_together(tmp_path: Path) -> None:
    (tmp_path / stub_vault.REFUSE_LOGIN).touch()
    with serving(tmp_path, module=STUB, bound=False, HSM_WORKERS=4) as vault:
        assert vault.process.wait(HANG_SECONDS) != 0
    assert (tmp_path / stub_vault.LOGINS).read_text().count("login") == 2


def greets(vault: VaultProcess, slot: int) -> bool:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(HANG_SECONDS)
        stream.connect(str(path_of(vault.sockets, SocketName.D1, slot)))
        return stream.recv(len(GREETING)) == GREETING


def test_a_login_that_is_taken_has_a_refused_one_forgotten(tmp_path: Path) -> None:
    refuses = tmp_path / stub_vault.REFUSE_LOGIN
    with serving(tmp_path, module=STUB, HSM_WORKERS=2) as vault:
        for refused in (0, 1, 2):
            assert greets(vault, 0)
            assert greets(vault, 1)
            time.sleep(4 * LOOK_SECONDS)  # the supervisor sees it, too
            wait_until(lambda n=refused: ended_with(vault, Exit.LOGIN_REFUSED) == n)  # type: ignore[misc]
            refuses.touch()
            os.kill(children(vault.process.pid)[0], signal.SIGKILL)
            wait_until(lambda n=refused: ended_with(vault, Exit.LOGIN_REFUSED) > n)  # type: ignore[misc]
            refuses.unlink()
        assert greets(vault, 0)
        assert greets(vault, 1)


def ended_with(vault: VaultProcess, code: int) -> int:
    return sum(event.get("code") == code for event in vault.events())


def test_a_worker_that_cannot_be_started_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_many(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    supervisor = Supervisor(ServerSettings(socket_directory=tmp_path), ["nothing"])
    descriptors = len([*Path("/proc/self/fd").iterdir()])
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", too_many)
        supervisor._look([{}])
    assert "vault.no_worker_started" in caplog.text
    assert len([*Path("/proc/self/fd").iterdir()]) == descriptors


async def test_workers_die_with_their_supervisor(vault: VaultProcess) -> None:
    assert talk(vault, GOOD)
    workers = children(vault.process.pid)
    vault.process.kill()
    vault.process.wait()
    wait_until(lambda: not any(map(runs, workers)))


def test_a_worker_cannot_be_looked_into_by_its_own_user(vault: VaultProcess) -> None:
    assert talk(vault, GOOD)
    (worker,) = children(vault.process.pid)
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert limits.partition("Max core file size")[2].split()[:2] == ["0", "0"]
    # Of a process that may not be dumped, the files in /proc are root's and not its user's.
    assert Path(f"/proc/{worker}/mem").stat().st_uid == 0
