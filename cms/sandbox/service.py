"""Run the service beside the demo, as ``python -m cms serve --sandbox`` in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final
from urllib.request import urlopen

from cms.sandbox import HANG_SECONDS, files, settings

POLL_SECONDS: Final = 0.05
#: Whatever becomes of the demo, the kernel ends the service with it.
ENDS_WITH_THE_DEMO: Final = ("setpriv", "--pdeathsig=TERM")


@contextmanager
def running() -> Iterator[subprocess.Popen[bytes]]:
    """Run the service until the block ends; its log is ``var/service.log``.

    Raises:
        SystemExit: it did not start.
    """
    with files.SERVICE_LOG.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - no word from outside
            [*ENDS_WITH_THE_DEMO, sys.executable, "-m", "cms", "serve", "--sandbox"],
            cwd=files.ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; kill one that does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            url = settings.ready_url()
            with urlopen(url, timeout=HANG_SECONDS) as answer:  # noqa: S310 - http, of ours
                if answer.status == HTTPStatus.OK:
                    return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise SystemExit("the service did not start; its log is var/service.log")
