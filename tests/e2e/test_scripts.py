"""A PIN from D1's PUT to the chip: programs of their own, HSM token, Postgres and TLS."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from crypto.secret import Secret
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.keys import KeyKind, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from tests.chip import Chip, ScriptFailed
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.deployment import ROOT, Deployment, deployment, new_database
from tests.issuer_records import change_manifest

pytestmark = takes_tdes_the_old_way

ISSUER = "chipbank01"
SMC, SMI = os.urandom(16), os.urandom(16)
FIRST, SECOND = "407193", "938261"


@pytest.fixture
def keys(hsm_token: Pkcs11Token) -> Iterator[None]:
    """The issuer's two master keys, until the test is over."""
    labels = [
        shared_keys.store(hsm_token, role, ISSUER, ClearKey(KeyKind.TDES_2KEY, Secret(key)))
        for role, key in ((KeyRole.SMC, SMC), (KeyRole.SMI, SMI))
    ]
    yield
    for label in labels:
        hsm_token._keys.pop(label).destroy()


class AuthorisationHost:
    """Keeps one process of ``python -m cms scripts calls``."""

    def __init__(self, prepared: Deployment) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cms", "scripts", "calls"],
            cwd=ROOT,
            env=prepared.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, name: str, counter: int, **more: str) -> dict[str, Any]:
        members = {"issuerId": ISSUER, "cardId": "card-1", "counter": counter}
        there, back = self._streams()
        there.write(json.dumps({"call": name, **members, **more}) + "\n")
        there.flush()
        answer: dict[str, Any] = json.loads(back.readline())
        return answer

    def deliver(self, counter: int, chip: Chip) -> str:
        """Build a script in the card's next transaction, and have the chip take it."""
        seen = chip.transact()
        built = self.call("build", counter, atc=seen.atc.hex(), arqc=seen.arqc.hex())
        chip.execute(bytes.fromhex(built["command"]))
        return str(built["command"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._streams()[0].close()
        self.process.wait(HANG_SECONDS)

    def _streams(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout


def test_a_pin_goes_from_d1_onto_the_chip_and_back(
    tmp_path: Path,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
    keys: None,
) -> None:
    prepared = deployment(tmp_path, new_database(postgres), softhsm)
    enrolled = prepared.enrol(hsm_token, ISSUER)
    change_manifest(prepared.vault(hsm_token), ISSUER, scripts={"scheme": "ccd"})
    pan = enrolled.sample_issuer.pans["card-1"]
    chip = Chip(SMC, SMI, pan, psn=0, ccd=True)
    with prepared.serving(), enrolled.client() as d1, AuthorisationHost(prepared) as host:
        d1.set_pin("card-1", FIRST, pan)
        old = host.deliver(1, chip)
        assert host.call("confirmed", 1)["state"] == "confirmed"
        assert chip.pin == FIRST

        d1.set_pin("card-1", SECOND, pan)
        host.deliver(2, chip)
        assert chip.pin == SECOND
        chip.transact()
        with pytest.raises(ScriptFailed):
            chip.execute(bytes.fromhex(old))
        assert "error" in host.call("build", 1, atc="0001", arqc="00" * 8)

        assert host.call("reverse", 2)["counter"] == 3
        host.deliver(3, chip)
        assert (chip.pin, d1.get_pin("card-1", pan)) == (FIRST, FIRST)
        assert host.call("confirmed", 3)["state"] == "confirmed"
        assert d1.counter("card-1") == 3
    assert host.process.returncode == 0
