"""What keys enciphered, counted by workers of a vault that end, are killed and start again."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from crypto.secret import Secret
from hsm.errors import KeyUsedUp
from hsm.messages import SocketName
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import SealedPin
from tests.contracts.issuer import ISSUER_ID, PIN, Host, Issuer, block, open_issuer
from tests.hsm.server.working import working
from tests.operators import open_vault
from tests.processes import children
from tests.vault_process import Caller, VaultProcess, serving, wait_until

PVK, ZPK = (KeyLabel(role, 1, ISSUER_ID) for role in (KeyRole.PVK, KeyRole.ZPK))
KEY = Secret(bytes.fromhex("0123456789ABCDEF23456789ABCDEF01"))
PVV = {"pvv": {"key_index": 1}}


@pytest.fixture
def issuer(emptied: Pkcs11Token, tmp_path: Path) -> Issuer:
    """An issuer that asks for PVVs, at a host whose vault is here."""
    for label in (PVK, ZPK):
        emptied.import_key(label, KeyKind.TDES_2KEY, KEY)
    host = Host(emptied, tmp_path, open_vault(emptied, tmp_path))
    return open_issuer(host, verification=PVV)


@contextmanager
def served(issuer: Issuer, workers: int = 1) -> Iterator[tuple[Issuer, VaultProcess]]:
    """Serve the host of *issuer*, and call the vault over its sockets."""
    with serving(issuer.host.directory, HSM_WORKERS=workers) as vault:
        caller = Caller(vault.sockets)
        there = Host(issuer.host.hsm_token, issuer.host.directory, caller)
        yield Issuer(there, issuer.members, issuer.d1_key, issuer.issuer_id), vault
        caller.close()


def uses(issuer: Issuer) -> dict[str, int]:
    """What another process of the host reads, by label."""
    return {one.label: one.uses for one in issuer.vault.key_uses()}


def test_two_workers_count_together_over_a_restart(issuer: Issuer) -> None:
    times = 6
    with served(issuer, workers=2) as (there, vault):
        wait_until(lambda: len(children(vault.process.pid)) == 2)
        record = there.seal_record()
        for _ in range(times):
            there.set_pin(PIN, record)
        # What the worker that answers has not kept yet it keeps now.
        assert uses(there)[str(PVK)] <= times
    assert uses(issuer) == {
        str(PVK): times,
        str(KeyLabel(KeyRole.RECORD, 1)): 1,
        str(KeyLabel(KeyRole.VALUES, 1)): times,
    }
    jwes = {one.label: one.jwes for one in issuer.vault.read_generations().keys}
    assert (jwes["d1.g1"], jwes["intake.g1"]) == (times, 1)
    with served(issuer) as (there, _):
        there.set_pin(PIN, record)
        assert uses(there)[str(PVK)] == times + 1


def test_a_worker_that_is_killed_loses_what_it_had_not_kept(issuer: Issuer) -> None:
    with served(issuer) as (there, vault):
        record = there.seal_record()
        there.set_pin(PIN, record)
        assert uses(there)[str(PVK)] == 1
        there.set_pin(PIN, record)
        (worker,) = children(vault.process.pid)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: children(vault.process.pid) not in ([], [worker]))
        there.set_pin(PIN, record)
        assert uses(there)[str(PVK)] == 2


def test_a_manifest_that_says_so_stops_a_key_and_only_what_needs_it(issuer: Issuer) -> None:
    wire = {"iso0": {"protection": "zpk-tdes"}}
    text = issuer.signed(2, wire=wire, limits={"tdes_blocks_max": 3})
    zone = issuer.host.hsm_token

    def put(issuer: Issuer, pin: str) -> SealedPin:
        enciphered = zone.tdes_encrypt(ZPK, bytes.fromhex(block(pin))).hex()
        jwe = issuer.pin_jwe({"pinBlock": enciphered})
        return issuer.set_jwe(jwe, record)

    with served(issuer) as (there, vault):
        there.vault.load_manifest(text)
        record = there.seal_record()
        sealed_pin = put(there, PIN)
        there.export(sealed_pin, record)
        there.export(sealed_pin, record)
        # The ZPK has deciphered one block and enciphered two.
        with pytest.raises(KeyUsedUp):
            there.export(sealed_pin, record)
        # It goes on deciphering, and the PVK goes on.
        put(there, PIN)
        put(there, PIN)
        with pytest.raises(KeyUsedUp):
            put(there, PIN)
        # A block that is wrong is answered like one that is right: nobody learns which it was.
        wrong = there.pin_jwe({"pinBlock": "00" * 8})
        with pytest.raises(KeyUsedUp):
            there.set_jwe(wrong, record)
        # Everything else goes on, by the same login.
        there.vault.health()
        refused = [one["key"] for one in vault.events() if one["event"] == "vault.key_refused"]
        assert refused == [str(ZPK), str(PVK)]
        assert not any(one["event"] == "vault.unavailable" for one in vault.events())
    with served(issuer) as (there, _):
        with pytest.raises(KeyUsedUp):
            put(there, PIN)
        # The control: the same host without the member.
        there.vault.load_manifest(issuer.signed(3, wire=wire))
        put(there, PIN)
        there.export(sealed_pin, record)


def test_a_worker_at_rest_comes_back_when_it_was_told_to() -> None:
    seconds: list[float | None] = [0.01, 0.01, None]
    called: list[None] = []

    def tidy() -> float | None:
        called.append(None)
        return seconds[min(len(called), len(seconds)) - 1]

    with working(lambda _: None, tidy=tidy) as worker:
        wait_until(lambda: len(called) == len(seconds))
        # It rests now, until somebody comes.
        with worker.connect(SocketName.D1) as caller:
            assert caller.is_greeted()
        wait_until(lambda: len(called) > len(seconds))


def test_a_worker_that_hangs_at_the_disk_is_seen_to() -> None:
    goes_on = threading.Event()

    def tidy() -> None:
        goes_on.wait(HANG_SECONDS)

    with working(lambda _: None, tidy=tidy) as worker:
        wait_until(worker.is_busy)
        goes_on.set()
        wait_until(lambda: not worker.is_busy())
