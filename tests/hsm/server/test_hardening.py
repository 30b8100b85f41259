"""What another process of the vault's own user sees of the vault: nothing."""

import json
import os
import resource
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from hsm.admin_client import AdminClient
from hsm.messages import ManifestVersion, SocketName
from hsm.socket_files import paths_of
from tests.hsm.server import intruder, stub_vault
from tests.processes import ROOT, children, status_of
from tests.vault_process import VaultProcess, serving, wait_until

pytestmark = pytest.mark.slow

#: Root's own capabilities would let it look into anything.
WITHOUT = "tests.without_capabilities"
HARDENED = "tests.hsm.server.hardened"
STUB = ("tests.hsm.server.stub_vault",)
DIRECT = (*STUB, "careless")
"""A supervisor that closes nothing."""
KEPT_SECONDS = 1.0
CORES_POSSIBLE = resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


@contextmanager
def process(defences: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", WITHOUT, HARDENED, defences],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"
        yield started


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultProcess]:
    with serving(tmp_path, module=(WITHOUT, *STUB)) as vault:
        yield vault


def worker_of(vault: VaultProcess) -> int:
    """Have it answer, and return its worker."""
    with AdminClient(vault.sockets, HANG_SECONDS) as client:
        return client.call(ManifestVersion(stub_vault.PID))


def ways_into(pid: int) -> dict[str, bool]:
    done = subprocess.run(
        [sys.executable, "-m", WITHOUT, "tests.hsm.server.intruder", str(pid)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    ways: dict[str, bool] = json.loads(done.stdout)
    assert ways.keys() == intruder.WAYS.keys()
    return ways


def test_no_way_leads_into_supervisor_or_worker(vault: VaultProcess) -> None:
    for pid in (worker_of(vault), vault.process.pid):
        assert not any(ways_into(pid).values())


def test_every_way_leads_into_a_process_that_asked_for_no_defence(tmp_path: Path) -> None:
    with process("none", tmp_path) as undefended:
        assert all(ways_into(undefended.pid).values())
        undefended.kill()


def dumped_core(defences: str, directory: Path) -> bool:
    """End a process by SIGSEGV and tell whether the kernel kept its memory."""
    with process(defences, directory) as started:
        assert started.stdin is not None
        started.stdin.write(b"\n")
        started.stdin.flush()
        _, status = os.waitpid(started.pid, 0)
        started.returncode = status
    assert os.WIFSIGNALED(status)
    return os.WCOREDUMP(status) or bool([*directory.glob("core*")])


@pytest.mark.parametrize("defences", ["all", "undumpable"])
def test_a_crash_leaves_no_core(tmp_path: Path, defences: str) -> None:
    assert not dumped_core(defences, tmp_path)


@pytest.mark.skipif(not CORES_POSSIBLE, reason="a limit of this machine forbids cores altogether")
def test_a_crash_of_a_process_without_defence_leaves_one(tmp_path: Path) -> None:
    assert dumped_core("none", tmp_path)


def test_supervisor_and_worker_gain_no_right_by_starting_a_program(vault: VaultProcess) -> None:
    for pid in (worker_of(vault), vault.process.pid):
        assert status_of(pid)["NoNewPrivs"] == "1"


@pytest.mark.parametrize("module", [STUB, DIRECT], ids=["serves", "keeps what it inherits"])
def test_the_vault_keeps_nothing_that_its_starter_had_open(
    tmp_path: Path, module: tuple[str, ...]
) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as reading, serving(tmp_path, module=module, pass_fds=[theirs]):
        os.close(theirs)
        with selectors.DefaultSelector() as selector:
            selector.register(reading, selectors.EVENT_READ)
            ready = selector.select(KEPT_SECONDS if module is DIRECT else HANG_SECONDS)
        # At its end once nobody has the other side open.
        assert bool(ready) is (module is STUB)


def test_a_worker_listens_on_the_sockets_of_its_slot_only(tmp_path: Path) -> None:
    with serving(tmp_path, module=STUB, HSM_WORKERS=2) as vault:
        wait_until(lambda: len(children(vault.process.pid)) == 2)
        with AdminClient(vault.sockets, HANG_SECONDS) as client:
            assert client.call(ManifestVersion(stub_vault.LISTENING)) == len(SocketName)
        assert sum(len(paths_of(vault.sockets, name)) for name in SocketName) == 6


@pytest.mark.parametrize("is_there", [True, False])
def test_a_worker_whose_supervisor_is_gone_does_not_begin(is_there: bool) -> None:
    """It would hold its sockets for ever: the signal comes to those only who asked before."""
    parent = os.getpid() if is_there else 1
    script = f"from hsm.hardening import end_with; raise SystemExit(end_with({parent}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, timeout=HANG_SECONDS, check=False
    )
    assert bool(done.returncode) is is_there
