"""Vaults in processes of their own, for the contract suite: the asyncio client calls them.

``python -m tests.contracts.served`` is one process that forks a worker of the vault for a line of
its standard input, before any of them has called the HSM token, and for a number ends all workers
but the first ones, so many. A start of Python for each host would take a second.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from cryptography.hazmat.primitives.asymmetric import ec

from cms.sandbox import HANG_SECONDS
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KeyLabel
from hsm.pkcs11.token import Pkcs11Token
from hsm.server import sockets
from hsm.server.busy import Cell
from hsm.server.disk import Disk
from hsm.server.worker import Worker, run_until_told
from hsm.settings import HsmTokenSettings, ServerSettings
from tests.contracts.issuer import Host
from tests.contracts.software_token import SoftwareToken
from tests.operators import minimum_versions, now, prepare_host, reopen_vault, signed
from tests.processes import ROOT
from tests.vault_process import Caller


class Servers:
    """Starts vaults over *hsm_token*, which *environment* names, or *keys* are all there is of."""

    def __init__(
        self,
        hsm_token: HsmToken,
        environment: Mapping[str, str],
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.hsm_token = hsm_token
        self._sockets = TemporaryDirectory()
        self._callers: list[Caller] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.served"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(keys) + "\n")

    def start(self, directory: Path, clock: Callable[[], datetime]) -> Caller:
        """Serve the host in *directory*, whose clock runs, or stands at what *clock* says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        path = mkdtemp(dir=self._sockets.name)
        stands_at = None if clock is now else clock().isoformat()
        self._process.stdin.write(json.dumps([str(directory), path, stands_at]) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"
        self._callers.append(Caller(Path(path)))
        return self._callers[-1]

    @property
    def started(self) -> int:
        """How many vaults run."""
        return len(self._callers)

    def end_from(self, first: int) -> None:
        """End those vaults that were started after the first ones, so many."""
        if self.started == first:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for caller in self._callers[first:]:
            caller.close()
        del self._callers[first:]
        self._process.stdin.write(json.dumps(first) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ended\n"

    def close(self) -> None:
        for caller in self._callers:
            caller.close()
        self._process.communicate(timeout=HANG_SECONDS)
        self._sockets.cleanup()


@dataclass(frozen=True)
class ServedHost(Host):
    """A host whose vault is in a process of its own."""

    servers: Servers

    def another(self) -> "ServedHost":
        return open_served(self.servers, self.directory.parent)

    def reopened(self, clock: Callable[[], datetime] = now) -> Host:
        if self.hsm_token is not self.servers.hsm_token:
            return self.in_this_process(clock)
        return replace(self, vault=self.servers.start(self.directory, clock))


def open_served(servers: Servers, hosts: Path) -> ServedHost:
    """Open a new host, whose state is in a new directory in *hosts*."""
    directory = Path(mkdtemp(dir=hosts))
    prepare_host(directory)
    vault = servers.start(directory, now)
    vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    return ServedHost(servers.hsm_token, directory, vault, servers)


def environment_of(settings: HsmTokenSettings) -> Mapping[str, str]:
    """Name an HSM token as the environment does."""
    parameters = settings.module_parameters
    return {
        "HSM_MODULE": str(settings.module),
        **({} if parameters is None else {"HSM_MODULE_PARAMETERS": parameters}),
        "HSM_TOKEN_LABEL": settings.token_label,
        "HSM_PIN_FILE": str(settings.pin_file),
    }


def exported(hsm_token: SoftwareToken) -> Mapping[str, str]:
    """Write the keys of an HSM token in memory, hexadecimal: a secret, or a private number."""
    secrets = {str(label): key.hex() for label, key in hsm_token.secrets.items()}
    numbers = {
        str(label): f"{key.private_numbers().private_value:064x}"
        for label, key in hsm_token.private.items()
    }
    return {**secrets, **numbers}


def imported(keys: Mapping[str, str]) -> SoftwareToken:
    """Make such an HSM token of its keys."""
    hsm_token = SoftwareToken([KeyLabel.parse(text) for text in keys])
    for label in hsm_token.labels():
        key = keys[str(label)]
        if label in hsm_token.private:
            hsm_token.private[label] = ec.derive_private_key(int(key, 16), ec.SECP256R1())
        else:
            hsm_token.secrets[label] = bytes.fromhex(key)
    return hsm_token


def serve(
    keys: Mapping[str, str] | None, directory: Path, path: Path, stands_at: str | None
) -> None:
    """Be a worker."""
    clock = now if stands_at is None else lambda: datetime.fromisoformat(stands_at)
    hsm_token = Pkcs11Token.open(HsmTokenSettings()) if keys is None else imported(keys)
    vault = reopen_vault(hsm_token, directory, clock)
    settings = ServerSettings(socket_directory=path)
    with sockets.bound(settings) as (listeners,):
        show_ready()
        uids = sockets.uids(settings)
        perform = lambda message: message.perform(vault)  # noqa: E731 - too long for one line
        worker = Worker(listeners, uids, perform, Cell.make(), Disk())
        run_until_told(worker)


def show_ready() -> None:
    os.write(1, b"ready\n")


def main() -> None:
    workers: list[int] = []
    keys = json.loads(sys.stdin.readline())
    # Not by iteration, which reads ahead: a child would have the lines of the next ones.
    while line := sys.stdin.readline():
        asked = json.loads(line)
        if isinstance(asked, int):
            end(workers[asked:])
            del workers[asked:]
            os.write(1, b"ended\n")
            continue
        directory, path, stands_at = asked
        if (pid := os.fork()) == 0:
            serve(keys, Path(directory), Path(path), stands_at)
            os._exit(0)
        workers.append(pid)
    end(workers)


def end(workers: Sequence[int]) -> None:
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
