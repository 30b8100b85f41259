"""What code finds that runs as a listener of the web, and what its socket of the vault gives it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from hsm import messages
from hsm.frames import frame
from hsm.messages import SocketName, Verb
from hsm.port import SealedPin, SealedRecord
from tests.contracts.issuer import ISSUER_ID, Issuer, clients, open_host, open_issuer
from tests.contracts.software_token import SoftwareToken
from tests.deployment import ROOT, Deployment
from tests.hsm.server.working import Stranger, Working, working
from tests.issuer_records import d1_client

T = TypeVar("T")
PIN = "739182640517"
D1_SECRET = "a secret of the issuer's D1"
SEPARATE = os.geteuid() == 0
"""Whether tests can be another user than the vault."""
SOMEBODY_ELSE = os.geteuid() + 1


def found_by_code_in(prepared: Deployment, softhsm: SoftHsm, name: SocketName) -> dict[str, Any]:
    """Run code with the environment and the user of the listener of *name*.

    Where tests cannot be three users the vault expects nobody on the other sockets.
    """
    users = {
        each: 60_001 + number if SEPARATE else SOMEBODY_ELSE
        for number, each in enumerate(SocketName)
    }
    own = users[name] if SEPARATE else os.geteuid()
    return _found(prepared, softhsm, name, {**users, name: own})


def found_where_all_are_one_user(prepared: Deployment, softhsm: SoftHsm) -> dict[str, Any]:
    """Run it as the vault's own user."""
    users = dict.fromkeys(SocketName, os.geteuid())
    return _found(prepared, softhsm, SocketName.D1, users)


def _found(
    prepared: Deployment, softhsm: SoftHsm, name: SocketName, users: Mapping[SocketName, int]
) -> dict[str, Any]:
    expected = {f"{each}_uid": uid for each, uid in users.items()}
    with (
        prepared.vault_given(**expected).serving_vault() as (supervisor, _),
        reachable(prepared.sockets),
    ):
        secrets = [Path(softhsm.environment["HSM_PIN_FILE"]), softhsm.directory / "tokens"]
        words = [users[name], supervisor.pid, *secrets, prepared.host / "log"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.attacks.taken_over", *map(str, words)],
            cwd=ROOT,
            env=prepared.given(listeners=str(name)).environment,
            capture_output=True,
            check=False,
            timeout=HANG_SECONDS,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def reachable(directory: Path) -> Iterator[None]:
    """Let every user connect: who that is is then the vault's to ask."""
    around = (directory, *directory.parents)
    closed = {path: mode for path in around if not (mode := path.stat().st_mode) & 0o001}
    for path, mode in closed.items():
        path.chmod(mode | 0o011)
    for path in directory.glob("*.sock"):
        path.chmod(0o666)
    yield
    for path, mode in closed.items():
        path.chmod(mode)


@dataclass(frozen=True)
class TakenOver:
    """Code in a listener: its socket, and the database's rows of a card."""

    D1_SECRET: ClassVar = D1_SECRET
    worker: Working
    stranger: Stranger
    issuer: Issuer
    record: SealedRecord
    sealed_pin: SealedPin
    sent: list[bytes]
    """All that the vault answered."""

    def call(self, message: Verb[T]) -> T:
        """Call a verb.

        Raises:
            ConnectionError: the vault closed the connection.
            HsmError: the verb's refusal.
        """
        self.stranger.send(frame(messages.encode_call(1, message)))
        answer = self.stranger.read()
        if answer is None:
            raise ConnectionError
        self.sent.append(answer)
        _, error, raw = messages.decode_answer(answer)
        if error is not None:
            raise error
        return messages.read_answer(type(message), raw)

    def received_pin(self) -> bool:
        """Whether any answer has the PIN in it."""
        return any(PIN.encode() in each for each in self.sent)

    def log_lines(self) -> int:
        """How many lines the vault's own log has."""
        log = self.issuer.host.directory / "log"
        return sum(path.read_text().count("\n") for path in log.rglob("*.jsonl"))

    @contextmanager
    def at(self, name: SocketName) -> Iterator["TakenOver"]:
        """The same at another listener."""
        with self.worker.connect(name) as stranger:
            assert stranger.is_greeted()
            yield replace(self, stranger=stranger)


@contextmanager
def taken_over(directory: Path, name: SocketName, **members: Any) -> Iterator[TakenOver]:  # noqa: ANN401
    """Take over the listener of *name* at a host with a card that has a PIN."""
    policy = {"length_max": 12, "page_length_max": 12, "text_reveal": True}
    d1 = d1_client(f"{ISSUER_ID}-d1", "CN=d1", secret=D1_SECRET)
    known = [*clients(ISSUER_ID), d1]
    host = open_host(SoftwareToken(), directory)
    issuer = open_issuer(host, policy=policy, clients=known, **members)
    record = issuer.seal_record()
    sealed_pin = issuer.set_pin(PIN, record)

    def perform(message: Verb[Any]) -> object:
        return message.perform(issuer.vault)

    with working(perform) as worker, worker.connect(name) as stranger:
        assert stranger.is_greeted()
        yield TakenOver(worker, stranger, issuer, record, sealed_pin, [])
