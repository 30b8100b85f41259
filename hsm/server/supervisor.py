"""The supervisor: binds the sockets, starts workers one after another, kills those that hang.

It has no key, no login and no connection of anybody.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hsm import exposition, metrics
from hsm.errors import LoginRefused, ManifestRefused, NotForProduction, VaultUnavailable
from hsm.hardening import close_inherited, harden
from hsm.manifest.trust import read_trust
from hsm.server import sockets
from hsm.server.busy import Cell
from hsm.server.exits import Exit
from hsm.server.sockets import Listeners
from hsm.setting_faults import file_fault
from hsm.settings import ServerSettings, VaultSettings

LOOK_SECONDS: Final = 0.05
START_SECONDS: Final = 60.0
"""How long a worker may take until it serves."""
RESTART_SECONDS: Final = 1.0
"""How long after a worker died early the next one is started."""
REFUSED_LOGINS_MAX: Final = 2
"""By all workers together: a device locks after a few."""
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Started:
    """A worker process, and the memory that it shares with the supervisor."""

    process: subprocess.Popen[bytes]
    cell: Cell
    started_at: float = field(default_factory=time.monotonic)
    killed: bool = False

    def is_late(self, now: float, deadline_seconds: float) -> bool:
        """Whether a verb, or the start, has been running for too long."""
        busy_since = self.cell.busy_since
        if busy_since:
            return now - busy_since > deadline_seconds
        return not self.cell.ready_at and now - self.started_at > START_SECONDS


class Supervisor:
    """Keeps a worker running in each slot; the settings say how many there are.

    Args:
        settings: of the server.
        command: what starts a worker; this process and the descriptors of its cell and of its
            slot's sockets are added.
    """

    def __init__(self, settings: ServerSettings, command: Sequence[str]) -> None:
        self._settings = settings
        self._command = command
        self._workers: dict[int, Started] = {}
        self._refused_logins = 0
        self._next_start = 0.0
        self._outdated: set[Started] = set()
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; at SIGHUP, replace the workers one after another.

        Raises:
            VaultUnavailable: the sockets cannot be bound.
            LoginRefused: the HSM token refused two logins, and no worker is left.
            NotForProduction: the HSM token is for development only.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._replace())
        with sockets.bound(self._settings) as slots:
            try:
                while not self._stopping:
                    self._look(slots)
                    time.sleep(LOOK_SECONDS)
            finally:
                self._end_all()

    def _stop(self) -> None:
        self._stopping = True

    def _replace(self) -> None:
        self._outdated = {*self._workers.values()}

    def _look(self, slots: Sequence[Listeners]) -> None:
        """Kill what hangs, bury what died, start what is missing, replace what is outdated."""
        now = time.monotonic()
        for slot, worker in [*self._workers.items()]:
            if worker.process.poll() is not None:
                self._bury(slot, worker, now)
            elif worker.is_late(now, self._settings.deadline_seconds):
                log.error("vault.worker_killed", extra={"pid": worker.process.pid})
                worker.killed = True
                worker.process.kill()
        if self._refused_logins >= REFUSED_LOGINS_MAX:
            if not self._workers:
                raise LoginRefused("the HSM token refused the PIN twice: not tried again")
            return
        starting = any(not worker.cell.ready_at for worker in self._workers.values())
        if not starting and len(self._workers) == len(slots):
            self._refused_logins = 0
        missing = [slot for slot in range(len(slots)) if slot not in self._workers]
        if missing and not starting and now >= self._next_start:
            self._try_to_start(missing[0], slots[missing[0]])
        self._outdated.intersection_update(self._workers.values())
        if self._outdated and not missing and not starting:
            # It ends when it has answered what came, and is buried then.
            min(self._outdated, key=lambda worker: worker.started_at).process.terminate()

    def _try_to_start(self, slot: int, listeners: Listeners) -> None:
        try:
            self._workers[slot] = self._start(listeners)
        except OSError as error:
            # Too many processes, or no memory: the others go on.
            extra = {"reason": error.strerror}
            log.error("vault.no_worker_started", extra=extra)  # noqa: TRY400 - no traceback
            self._next_start = time.monotonic() + RESTART_SECONDS

    def _start(self, listeners: Listeners) -> Started:
        cell = Cell.make()
        descriptors = [f"{name}={listener.fileno()}" for name, listener in listeners.items()]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*self._command, str(os.getpid()), str(cell.handle), *descriptors],
                stdin=subprocess.DEVNULL,
                pass_fds=[cell.handle, *(listener.fileno() for listener in listeners.values())],
            )
        except OSError:
            cell.close()
            raise
        return Started(process, cell)

    def _bury(self, slot: int, worker: Started, now: float) -> None:
        del self._workers[slot]
        code, was_ready = worker.process.returncode, bool(worker.cell.ready_at)
        worker.cell.close()
        metrics.worker_ended(code, killed=worker.killed)
        log.warning("vault.worker_ended", extra={"pid": worker.process.pid, "code": code})
        if code == Exit.NOT_FOR_PRODUCTION:
            raise NotForProduction("the HSM token is for development: see the line above")
        if code == Exit.LOGIN_REFUSED:
            self._refused_logins += 1
            if self._refused_logins == REFUSED_LOGINS_MAX:
                log.error("vault.no_more_logins", extra={"workers": len(self._workers)})
        if not was_ready or code == Exit.LOGIN_REFUSED:
            self._next_start = now + RESTART_SECONDS

    def _end_all(self) -> None:
        """Let the workers finish what they have; kill who does not within the deadline."""
        for worker in self._workers.values():
            worker.process.terminate()
        ends_at = time.monotonic() + self._settings.deadline_seconds
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, ends_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.cell.close()


def serve(settings: ServerSettings, *, sandbox: bool) -> None:
    """Serve the vault that the environment names.

    Raises:
        ManifestRefused: the trust file cannot be used.
        NotForProduction: it is for trials, and this is none.
        VaultUnavailable: there is no state directory.
        HsmError: as :meth:`Supervisor.run` does.
    """
    harden()
    close_inherited()
    _check_host(VaultSettings(), sandbox=sandbox)
    mode = "sandbox" if sandbox else "production"
    with exposition.shared_directory("pins-vault-"):
        metrics.begin(metrics.SUPERVISOR)
        Supervisor(settings, [sys.executable, "-m", "hsm.server.start", mode]).run()


def _check_host(settings: VaultSettings, *, sandbox: bool) -> None:
    """Look once at what every worker would stumble over."""
    try:
        trust = read_trust(settings.trust_file)
    except ManifestRefused as error:
        text = f"HSM_TRUST_FILE: {error}"
        raise ManifestRefused(text) from None
    if trust.sandbox and not sandbox:
        raise NotForProduction(
            "HSM_TRUST_FILE is for trials: name one in which two operators have to sign, or try it"
            " with serve --sandbox"
        )
    directory = settings.state_directory
    if not directory.is_dir() or not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise VaultUnavailable(
            "HSM_STATE_DIRECTORY: no directory that can be read and written. Mount a volume there"
            " that survives restarts, for the vault's user alone"
        )
    wrong = file_fault(settings.variable("pin_file"), settings.pin_file, is_secret=True)
    if wrong is not None:
        raise VaultUnavailable(wrong)
