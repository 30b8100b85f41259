"""Whoever reaches a socket of the vault: it gets what the listener's user gets, and nothing else.

Where tests may change their user, three users call; everywhere, one user calls a vault that expects
it on one socket and somebody else on the others.
"""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from hsm import messages
from hsm.admin_client import AdminClient
from hsm.errors import VaultUnavailable
from hsm.frames import frame
from hsm.messages import VERBS, ManifestVersion, SocketName
from hsm.server import sockets
from hsm.server import worker as worker_module
from hsm.settings import ServerSettings
from hsm.socket_files import path_of
from tests.attacks.table import Attacker
from tests.callers import passed_on
from tests.hsm.server import stub_vault
from tests.hsm.server.valid_calls import valid_calls
from tests.hsm.server.working import Working, working
from tests.vault_process import VaultProcess, serving

ATTACKER = Attacker(
    who="whoever reaches a socket of the vault",
    gets=(
        "as the user of a listener, or with a connected socket that this user's process passed on, "
        "the verbs of that listener's socket"
    ),
    does_not=(
        "get an answer as another user: the vault asks the kernel who connected, whatever the "
        "files' modes allow. Call a verb of another socket, have a worker end, or keep the callers "
        "of another socket from theirs"
    ),
)
pytestmark = pytest.mark.slow

STUB = ("tests.hsm.server.stub_vault",)
GREETING = frame(messages.encode_greeting())
PID = frame(messages.encode_call(1, ManifestVersion(stub_vault.PID)))
IS_ROOT = os.geteuid() == 0
SOMEBODY_ELSE = os.geteuid() + 1
#: Users of this machine or of none: a number is all that the kernel compares.
UIDS: Mapping[SocketName, int] = {name: 60_001 + number for number, name in enumerate(SocketName)}


def expecting(uids: Mapping[SocketName, int]) -> dict[str, Any]:
    """Settings of a vault that expects these users."""
    return {f"HSM_{name.upper()}_UID": uid for name, uid in uids.items()}


def is_served(stream: socket.socket) -> bool:
    """Whether the vault greets this connection and answers on it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        if stream.recv(len(GREETING)) == GREETING:
            stream.sendall(PID)
            return stream.recv(1 << 16) != b""
    return False


@contextmanager
def vault_for_three_users(directory: Path) -> Iterator[VaultProcess]:
    """Serve on sockets that every user may open: who called connect is all that is checked."""
    with serving(directory, module=STUB, **expecting(UIDS)) as vault:
        vault.sockets.chmod(0o711)
        for name in SocketName:
            path_of(vault.sockets, name, 0).chmod(0o666)
        yield vault


def served_users(vault: VaultProcess, name: SocketName) -> set[int]:
    """Which of the three users, and root, a socket serves."""
    served = set()
    for uid in (*UIDS.values(), os.geteuid()):
        with passed_on(uid, path_of(vault.sockets, name, 0)) as stream:
            if is_served(stream):
                served.add(uid)
    return served


def served_sockets(directory: Path, name: SocketName) -> set[SocketName]:
    """On which sockets this user is served where the vault expects it on the one of *name*."""
    uids = {**dict.fromkeys(SocketName, SOMEBODY_ELSE), name: os.geteuid()}
    with serving(directory, module=STUB, **expecting(uids)) as vault:
        served = set()
        for other in SocketName:
            with passed_on(os.geteuid(), path_of(vault.sockets, other, 0)) as stream:
                if is_served(stream):
                    served.add(other)
        return served


def test_a_socket_serves_the_user_of_its_listener_only(tmp_path: Path) -> None:
    if IS_ROOT:
        with vault_for_three_users(tmp_path) as vault:
            for name in SocketName:
                assert served_users(vault, name) == {UIDS[name]}
    for name in SocketName:
        assert served_sockets(tmp_path, name) == {name}


def test_a_vault_that_does_not_ask_the_kernel_serves_whoever_can_open_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uids = dict.fromkeys(SocketName, SOMEBODY_ELSE)
    with working(lambda _: 1, uids) as worker:
        with worker.connect(SocketName.D1) as stranger:
            assert not stranger.is_greeted()
        monkeypatch.setattr(worker_module, "peer_uid", lambda _: SOMEBODY_ELSE)
        with worker.connect(SocketName.D1) as stranger:
            assert stranger.is_greeted()


def test_a_connected_socket_is_the_right_of_who_connected_it(tmp_path: Path) -> None:
    """Root holds it here; in use it would be a process to which the listener gave it."""
    uid = UIDS[SocketName.D1] if IS_ROOT else os.geteuid()
    with serving(tmp_path, module=STUB, HSM_D1_UID=uid, HSM_ADMIN_UID=SOMEBODY_ELSE) as vault:
        vault.sockets.chmod(0o711)
        path_of(vault.sockets, SocketName.D1, 0).chmod(0o666)
        with passed_on(uid, path_of(vault.sockets, SocketName.D1, 0)) as stream:
            assert is_served(stream)


PROGRAM = """
import json, os, stat
found = []
for descriptor in range(3, 256):
    try:
        found += [descriptor] * stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        pass
print(json.dumps(found))
"""


def sockets_of_a_child() -> list[int]:
    """Start a program that is given all it can be; return what sockets it holds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        close_fds=False,
        capture_output=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    found: list[int] = json.loads(done.stdout)
    return found


def test_a_program_that_a_listener_starts_gets_no_connection(tmp_path: Path) -> None:
    with serving(tmp_path, module=STUB) as vault, AdminClient(vault.sockets, HANG_SECONDS) as held:
        assert held.call(ManifestVersion(stub_vault.PID))
        assert held._stream.fileno() not in sockets_of_a_child()
        held._stream.set_inheritable(True)
        assert held._stream.fileno() in sockets_of_a_child()  # the control


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_of_sockets_are_the_vault_s_and_nobody_s_beside(tmp_path: Path) -> None:
    uids = {**dict.fromkeys(SocketName, SOMEBODY_ELSE), SocketName.ADMIN: os.geteuid()}
    with serving(tmp_path, module=STUB, **expecting(uids)) as vault:
        paths = {name: path_of(vault.sockets, name, 0) for name in SocketName}
        assert {name: mode(path) for name, path in paths.items()} == {
            SocketName.D1: 0o660,
            SocketName.CARDHOLDER: 0o660,
            SocketName.ADMIN: 0o600,
        }
        assert {path.stat().st_uid for path in paths.values()} == {os.geteuid()}


def test_a_directory_of_another_user_is_not_served_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings(socket_directory=tmp_path)
    tmp_path.chmod(0o755)
    with sockets.bound(settings):  # the control
        assert path_of(tmp_path, SocketName.D1, 0).is_socket()
    if IS_ROOT:
        os.chown(tmp_path, SOMEBODY_ELSE, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY_ELSE)
    with pytest.raises(VaultUnavailable, match="others own it"), sockets.bound(settings):
        pass
    assert not path_of(tmp_path, SocketName.D1, 0).exists()


def test_a_user_who_may_not_enter_the_directory_connects_to_nothing(tmp_path: Path) -> None:
    uid = UIDS[SocketName.D1] if IS_ROOT else os.geteuid()
    with serving(tmp_path, module=STUB, HSM_D1_UID=uid) as vault:
        path_of(vault.sockets, SocketName.D1, 0).chmod(0o666)
        vault.sockets.chmod(0o000 if not IS_ROOT else 0o700)
        with pytest.raises(PermissionError):
            passed_on(uid, path_of(vault.sockets, SocketName.D1, 0))
        vault.sockets.chmod(0o711)
        with passed_on(uid, path_of(vault.sockets, SocketName.D1, 0)) as stream:
            assert is_served(stream)  # the control


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Working]:
    """A worker over a real vault."""
    vault, _ = valid_calls(tmp_path_factory.mktemp("hosts"))
    with working(lambda message: message.perform(vault)) as worker:
        yield worker


@pytest.mark.parametrize("name", SocketName)
def test_no_verb_of_another_socket_is_answered(
    worker: Working, name: SocketName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, calls = valid_calls(tmp_path)
    others = [call for call in calls if name not in call.sockets]
    assert {call.name() for call in others} == {
        verb for verb, message in VERBS.items() if name not in message.sockets
    }
    for call in others:
        with worker.connect(name) as stranger:
            assert stranger.is_greeted()
            stranger.send(frame(messages.encode_call(1, call)))
            assert stranger.read() is None, call.name()
    # The control: a list that has every verb lets them through.
    decoders = messages._message_decoder
    with ExitStack() as stack:
        for verb in VERBS.values():
            monkeypatch.setattr(verb, "sockets", messages.ALL)
        decoders.cache_clear()
        stack.callback(decoders.cache_clear)
        for call in others:
            with worker.connect(name) as stranger:
                assert stranger.is_greeted()
                stranger.send(frame(messages.encode_call(1, call)))
                assert stranger.read() is not None, call.name()
