"""A vault in a process of its own, as ``python -m hsm serve`` runs it, and calls of its verbs."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cms.sandbox import HANG_SECONDS
from hsm.client import VaultClient
from hsm.errors import ManifestRefused
from hsm.messages import VERBS, SocketName
from hsm.socket_files import paths_of
from tests.operators import TOKEN_ISSUER, TRUST_FILE
from tests.processes import ROOT

BY_RIGHTS = (SocketName.ADMIN, SocketName.D1, SocketName.CARDHOLDER)
"""A PIN that comes with its card, for no client, is taken on the first only."""


@dataclass
class VaultProcess:
    """A supervisor with its workers, and where their sockets and output are."""

    process: subprocess.Popen[bytes]
    sockets: Path
    output: Path
    stopped: bool = field(default=False)

    def events(self) -> list[dict[str, Any]]:
        """What it wrote so far."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def is_bound(self) -> bool:
        return all(paths_of(self.sockets, name) for name in SocketName)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(HANG_SECONDS)


def wait_until(true: Callable[[], bool]) -> None:
    """Look again and again; fail when it hangs."""
    ends_at = time.monotonic() + HANG_SECONDS
    while not true():
        assert time.monotonic() < ends_at, "it does not come"
        time.sleep(0.02)


@contextmanager
def serving(
    directory: Path,
    *,
    module: Sequence[str] = ("hsm", "serve", "--sandbox"),
    bound: bool = True,
    pass_fds: Sequence[int] = (),
    **settings: object,
) -> Iterator[VaultProcess]:
    """Serve the HSM token of the environment on the host whose state is in *directory*.

    *module* stands in for ``python -m hsm serve``; not *bound*: do not wait for its sockets. It
    inherits the descriptors *pass_fds*, as from a starter that is careless.
    """
    # Not in the test's own directory: the path of a socket has at most 107 bytes.
    with TemporaryDirectory() as sockets:
        output = Path(sockets) / "output"
        environment = {
            "HSM_STATE_DIRECTORY": str(directory),
            "HSM_TRUST_FILE": str(directory / TRUST_FILE),
            "HSM_SOCKET_DIRECTORY": sockets,
            "HSM_TOKEN_ISSUER": TOKEN_ISSUER,
            "HSM_DEADLINE_SECONDS": str(HANG_SECONDS),
            **{name: str(value) for name, value in settings.items()},
        }
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stderr=file,
                pass_fds=pass_fds,
            )
        vault = VaultProcess(process, Path(environment["HSM_SOCKET_DIRECTORY"]), output)
        try:
            if bound:
                wait_until(lambda: vault.is_bound() or process.poll() is not None)
            yield vault
        finally:
            vault.stop()


@cache
def callers_loop() -> asyncio.AbstractEventLoop:
    """Run one event loop for all callers of this process: each takes a thread and descriptors."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="callers", daemon=True).start()
    return loop


class Caller:
    """The verbs of :class:`hsm.verbs.PinVault`, called over sockets by the asyncio client."""

    def __init__(self, sockets: Path) -> None:
        self.client = VaultClient(
            sockets, BY_RIGHTS, silence_seconds=HANG_SECONDS, wait_seconds_max=HANG_SECONDS
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the verbs
        if name not in VERBS:
            raise AttributeError(name)

        def verb(*arguments: object, **named: object) -> object:
            return self._run(self.client.call(VERBS[name](*arguments, **named)))

        return verb

    def read_manifest(self, issuer_id: str) -> Any:  # noqa: ANN401 - a manifest
        manifest = self._run(self.client.read_manifest(issuer_id))
        if manifest is None:
            raise ManifestRefused("this host has no manifest of the issuer")
        return manifest

    def close(self) -> None:
        self._run(self.client.close())

    def _run(self, coroutine: Any) -> Any:  # noqa: ANN401 - of a verb
        return asyncio.run_coroutine_threadsafe(coroutine, callers_loop()).result(HANG_SECONDS)
