"""Run the service beside the demo: the vault and the web, each a program of its own.

``python -m hsm serve --sandbox`` writes to ``var/vault.log``, ``python -m cms serve --sandbox`` to
``var/service.log``.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.request import ProxyHandler, build_opener

from cms.sandbox import HANG_SECONDS, files, settings
from hsm.admin_client import AdminClient
from hsm.errors import HsmError
from hsm.messages import Health

POLL_SECONDS: Final = 0.05
#: Whatever becomes of the demo, the kernel ends both with it.
ENDS_WITH_THE_DEMO: Final = ("setpriv", "--pdeathsig=TERM")


@dataclass(frozen=True)
class Program:
    """One of the two, and what it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.process.poll() is not None


@contextmanager
def running() -> Iterator[Sequence[Program]]:
    """Run both until the block ends.

    Raises:
        SystemExit: one did not start.
    """
    with _started("vault", settings.VAULT, files.VAULT_LOG) as vault:
        _wait_until(_vault_answers, vault)
        with _started("service", settings.WEB, files.SERVICE_LOG) as web:
            _wait_until(_web_is_ready, web, vault)
            yield vault, web


def wait(programs: Sequence[Program]) -> Program:
    """Wait until one of them ends, and return it."""
    while True:
        for program in programs:
            if program.has_ended:
                return program
        time.sleep(POLL_SECONDS)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; kill one that does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def _started(name: str, package: str, log: Path) -> Iterator[Program]:
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - no word from outside
            [*ENDS_WITH_THE_DEMO, sys.executable, "-m", package, "serve", "--sandbox"],
            cwd=files.ROOT,
            env=settings.environment(package),
            stdout=output,
            stderr=output,
        )
    try:
        yield Program(name, process, log)
    finally:
        stop(process)


def _wait_until(condition: Callable[[], bool], starting: Program, *others: Program) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        ended = [each for each in (starting, *others) if each.has_ended]
        if ended or time.monotonic() > deadline:
            failed = ended[0] if ended else starting
            log = files.relative(failed.log)
            raise SystemExit(f"the {failed.name} did not start; its log is {log}")
        time.sleep(POLL_SECONDS)


def _vault_answers() -> bool:
    try:
        with AdminClient(settings.sockets(), HANG_SECONDS) as vault:
            vault.call(Health())
    except HsmError:
        return False
    return True


def _web_is_ready() -> bool:
    try:
        # The proxy of an office does not reach this machine.
        opener = build_opener(ProxyHandler({}))
        with opener.open(settings.ready_url(), timeout=HANG_SECONDS) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False
