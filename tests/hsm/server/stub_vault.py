"""A vault without keys: what it does with a call is in the issuer id. It has a supervisor.

``python -m tests.hsm.server.stub_vault`` is the supervisor, with more words one of its workers,
and with the word ``careless`` a supervisor that keeps what its starter had open.
"""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hsm.errors import LoginRefused, VaultUnavailable
from hsm.hardening import close_inherited, end_with, harden
from hsm.messages import ManifestVersion, SocketName, Verb
from hsm.server import logs, sockets
from hsm.server.busy import Cell
from hsm.server.disk import Disk
from hsm.server.exits import Exit
from hsm.server.supervisor import Supervisor
from hsm.server.worker import Worker, run_until_told
from hsm.settings import ServerSettings

PID = "pid-------"
SLEEPS = "sleeps----"
SLEEPS_ONCE = "once------"
FAILS = "fails-----"
AWAY = "away------"
LISTENING = "listening-"
DESCRIPTORS_MAX = 256
REFUSE_LOGIN = "refuse-login"
LOGINS = "logins"


def perform(message: Verb[Any]) -> object:
    assert isinstance(message, ManifestVersion), "no other verb is called"
    mark = state() / "slept"
    if message.issuer_id == SLEEPS or (message.issuer_id == SLEEPS_ONCE and not mark.exists()):
        mark.touch()
        time.sleep(1000)
    if message.issuer_id == FAILS:
        raise ValueError("PIN 4071")
    if message.issuer_id == AWAY:
        raise VaultUnavailable("the HSM token is unavailable")
    if message.issuer_id == LISTENING:
        return sum(map(listens, range(DESCRIPTORS_MAX)))
    return os.getpid()


def listens(descriptor: int) -> bool:
    """Whether it is a socket that takes connections."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as stream:
            return stream.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False


def state() -> Path:
    return Path(os.environ["HSM_STATE_DIRECTORY"])


def log_in() -> None:
    with (state() / LOGINS).open("a") as file:
        file.write("login\n")
    if (state() / REFUSE_LOGIN).exists():
        raise LoginRefused


def work(parent: str, cell: str, *given: str) -> int:
    harden()
    if not end_with(int(parent)):
        return Exit.TOLD
    try:
        log_in()
    except LoginRefused:
        return Exit.LOGIN_REFUSED
    pairs = (argument.partition("=") for argument in given)
    listeners = {SocketName(name): socket.socket(fileno=int(fd)) for name, _, fd in pairs}
    uids = sockets.uids(ServerSettings())
    run_until_told(Worker(listeners, uids, perform, Cell(int(cell)), Disk()))
    return Exit.TOLD


def supervise(*, careless: bool = False) -> int:
    harden()
    if not careless:
        close_inherited()
    command = [sys.executable, "-m", "tests.hsm.server.stub_vault"]
    Supervisor(ServerSettings(), command).run()
    return 0


if __name__ == "__main__":
    logs.configure()
    if sys.argv[1:] in ([], ["careless"]):
        sys.exit(supervise(careless=bool(sys.argv[1:])))
    sys.exit(work(*sys.argv[1:]))
