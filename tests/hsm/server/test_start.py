"""``python -m hsm serve`` starts, or says in one line why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.admin_client import AdminClient
from hsm.errors import VaultUnavailable
from hsm.messages import Health
from hsm.pkcs11.token import Pkcs11Token
from tests.hsm import own_process
from tests.operators import TRUST_FILE, open_vault
from tests.vault_process import serving

pytestmark = pytest.mark.slow

PRODUCTION = ("hsm", "serve")
SANDBOX = (*PRODUCTION, "--sandbox")


@pytest.fixture
def state(hsm_token: Pkcs11Token, tmp_path: Path) -> Path:
    open_vault(hsm_token, tmp_path)
    return tmp_path


def said(state: Path, *module: str, **env: Any) -> str:  # noqa: ANN401
    """Start it; it must end by itself and fail. Return what it said."""
    with serving(state, module=module or SANDBOX, bound=False, **env) as vault:
        assert vault.process.wait(HANG_SECONDS) != 0
        return vault.output.read_text()


def test_a_setting_that_is_wrong_is_named(state: Path) -> None:
    assert said(state, HSM_WORKERS=0) == (
        "HSM_WORKERS: Input should be greater than or equal to 1; see docs/settings.md\n"
    )


def test_a_name_that_is_misspelled_is_named(state: Path) -> None:
    assert said(state, HSM_WORKRES=2) == "HSM_WORKRES: no such setting; see docs/settings.md\n"


@pytest.mark.parametrize("name", ["HSM_TRUST_FILE", "HSM_STATE_DIRECTORY", "HSM_SOCKET_DIRECTORY"])
def test_a_path_where_nothing_is_is_named(state: Path, name: str) -> None:
    line = said(state, **{name: state / "nothing"})
    assert line.startswith(f"{name}: ")
    assert line.count("\n") == 1


def test_a_pin_file_for_every_user_is_named(state: Path, tmp_path: Path) -> None:
    pin_file = tmp_path / "pin"
    pin_file.write_text("1234")
    pin_file.chmod(0o644)
    line = said(state, HSM_PIN_FILE=pin_file)
    assert line.startswith("HSM_PIN_FILE: a secret, and its mode 0644 is for every user: chmod ")
    assert line.count("\n") == 1


def test_a_trust_file_for_trials_needs_the_option(state: Path) -> None:
    trust = json.loads((state / TRUST_FILE).read_text())
    assert trust["sandbox"], "the test's own operators are one"
    assert said(state, *PRODUCTION).startswith("HSM_TRUST_FILE is for trials")


def test_an_hsm_token_in_software_needs_the_option(state: Path) -> None:
    trust = json.loads((state / TRUST_FILE).read_text())
    (state / TRUST_FILE).write_text(json.dumps({**trust, "sandbox": False}))
    assert "development" in said(state, *PRODUCTION)


def test_a_wrong_user_pin_is_tried_no_more_than_twice(state: Path) -> None:
    (state / "pin").write_text("00000000")
    (state / "pin").chmod(0o600)
    text = said(state, HSM_PIN_FILE=state / "pin", HSM_WORKERS=4)
    assert text.endswith("the HSM token refused the PIN twice: not tried again\n")
    assert text.count('"code": 3') == 2


def test_a_library_that_is_no_hsm_token_does_not_keep_it_from_waiting(state: Path) -> None:
    with serving(state, HSM_MODULE="/usr/lib/none.so") as vault:
        assert vault.process.poll() is None


def test_a_key_that_is_not_as_its_role_wants_it_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    softhsm = SoftHsm(tmp_path / "softhsm")
    softhsm.directory.mkdir()
    softhsm.ensure()
    for name, value in softhsm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HSM_STATE_DIRECTORY", str(tmp_path))
    assert own_process.run("begun_host", softhsm)
    with serving(tmp_path) as vault, AdminClient(vault.sockets, HANG_SECONDS) as client:
        client.call(Health())  # the control
    label = own_process.run("extractable_key", softhsm)
    with serving(tmp_path) as vault, AdminClient(vault.sockets, HANG_SECONDS) as client:
        with pytest.raises(VaultUnavailable):
            client.call(Health())
        refused, unavailable = vault.events()
    assert (refused["event"], refused["keys"]) == ("vault.keys_refused", [label])
    assert unavailable["reason"] == "keys are not as their roles want them: hsm check says how"
