"""``python -m hsm serve`` starts, or says in one line why not."""

import json
import re
from collections.abc import Callable, Sequence
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


def changed_trust(state: Path, **members: object) -> Path:
    """Write a trust file beside the one in use, with other members."""
    file = state / "other-trust.json"
    file.write_text(json.dumps({**json.loads((state / TRUST_FILE).read_text()), **members}))
    return file


def no_json(state: Path) -> Path:
    (state / "no.json").write_text("operators: []")
    return state / "no.json"


def of_mode(path: Path, mode: int) -> Path:
    path.touch()
    path.chmod(mode)
    return path


def open_directory(state: Path) -> Path:
    (state / "open").mkdir()
    (state / "open").chmod(0o777)
    return state / "open"


def nothing(state: Path) -> Path:
    return state / "nothing"


REFUSALS: Sequence[tuple[str, Callable[[Path], object], str]] = (
    ("HSM_WORKERS", lambda _: 0, ": Input should be"),
    ("HSM_WORKRES", lambda _: 2, ": no such setting"),
    ("HSM_TRUST_FILE", nothing, ": the trust file cannot be read"),
    ("HSM_TRUST_FILE", no_json, ": the trust file: not a JSON object"),
    (
        "HSM_TRUST_FILE",
        lambda state: changed_trust(state, operators=[]),
        ": the trust file: refused members: more signatures are needed than there are operators",
    ),
    (
        "HSM_TRUST_FILE",
        lambda state: of_mode(changed_trust(state), 0o646),
        ": anybody may write the trust file",
    ),
    ("HSM_STATE_DIRECTORY", nothing, ": no directory that can be read and written"),
    ("HSM_PIN_FILE", nothing, ": No such file or directory"),
    ("HSM_PIN_FILE", lambda state: of_mode(state / "pin", 0o644), ": a secret, and its mode 0644"),
    ("HSM_SOCKET_DIRECTORY", nothing, ": No such file or directory"),
    ("HSM_SOCKET_DIRECTORY", open_directory, ": others own it or may write there"),
)


@pytest.mark.parametrize(("name", "wrong", "why"), REFUSALS)
def test_each_refusal_begins_with_the_setting_and_ends_with_a_page(
    state: Path, name: str, wrong: Callable[[Path], object], why: str
) -> None:
    line = said(state, **{name: wrong(state)})
    assert line.startswith(f"{name}{why}")
    assert re.search(r"; see docs/[a-z-]+\.md\n\Z", line)
    assert line.count("\n") == 1


def test_a_trust_file_for_trials_needs_the_option(state: Path) -> None:
    trust = json.loads((state / TRUST_FILE).read_text())
    assert trust["sandbox"], "the test's own operators are one"
    line = said(state, *PRODUCTION)
    assert line.startswith("HSM_TRUST_FILE is for trials")
    assert line.endswith("; see docs/settings.md\n")


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
        refused, unavailable, *_ = vault.events()  # it tries again after some seconds
    assert (refused["event"], refused["keys"]) == ("vault.keys_refused", [label])
    assert unavailable["reason"] == "keys are not as their roles want them: hsm check says how"
