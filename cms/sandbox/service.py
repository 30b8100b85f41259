"""Run the service beside the demo, as ``python -m cms serve`` in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final
from urllib.request import urlopen

from cms.sandbox import files, settings

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
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
            [*ENDS_WITH_THE_DEMO, sys.executable, "-m", "cms", "serve"],
            cwd=files.ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(settings.ready_url(), timeout=1) as answer:  # noqa: S310 - http, of ours
                if answer.status == HTTPStatus.OK:
                    return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise SystemExit("the service did not start; its log is var/service.log")
