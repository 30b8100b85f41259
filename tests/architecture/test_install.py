"""The page on installing, the units and the examples of settings agree; the programs take them."""

import os
import re
import tomllib

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from cms.settings import DatabaseSettings, Settings, VaultAddress
from hsm.settings import ServerSettings, VaultSettings
from tests.systemd_units import (
    CARDHOLDER,
    D1,
    ETC,
    ROOT,
    TRIAL_VAULT,
    UNITS,
    VAULT,
    Unit,
    example_of,
    variables,
)

PAGE = (ROOT / "docs" / "install.md").read_text()
STARTED = [VAULT, TRIAL_VAULT, D1, CARDHOLDER]
OPERATOR = "/etc/pins/operator.env"
OF_VAULT = (VaultSettings, ServerSettings)
PROGRAMS: dict[str, tuple[dict[str, str], tuple[type[BaseSettings], ...]]] = {
    "vault": (VAULT.environment(), OF_VAULT),
    "vault of a trial": (TRIAL_VAULT.environment(), OF_VAULT),
    "d1": (D1.environment(), (Settings,)),
    "cardholder": (CARDHOLDER.environment(), (Settings,)),
    "operator": (variables(example_of(OPERATOR)), (DatabaseSettings, VaultAddress)),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_examples_are_all_that_a_program_needs(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, classes = PROGRAMS[program]
    monkeypatch.setattr(os, "environ", {**environment})
    assert all(each() for each in classes)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_examples_name_settings_only(program: str) -> None:
    environment, classes = PROGRAMS[program]
    known = {
        f"{each.model_config['env_prefix']}{name}".upper()
        for each in classes
        for name in each.model_fields
    }
    of_others = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "SOFTHSM2_CONF"}
    assert environment.keys() - of_others <= known


@pytest.mark.parametrize(
    ("unit", "lacking"),
    [(VAULT, "HSM_TRUST_FILE"), (D1, "CMS_PUBLIC_URL"), (CARDHOLDER, "CMS_CARDHOLDER_URL")],
    ids=lambda given: given if isinstance(given, str) else given.name,
)
def test_a_line_that_lacks_would_be_found(
    unit: Unit, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = unit.environment()
    del environment[lacking]
    monkeypatch.setattr(os, "environ", {**environment})
    with pytest.raises(ValidationError):
        _ = VaultSettings() if unit is VAULT else Settings()


def test_web_and_vault_are_told_the_same() -> None:
    vault, d1 = VAULT.environment(), D1.environment()
    assert vault["HSM_TOKEN_ISSUER"] == d1["CMS_PUBLIC_URL"]
    operator = variables(example_of(OPERATOR))
    for web in (d1, CARDHOLDER.environment(), operator):
        assert web["CMS_VAULT_SOCKET_DIRECTORY"] == vault["HSM_SOCKET_DIRECTORY"]
    ports = [CARDHOLDER.environment()[name] for name in ("CMS_CARDHOLDER_PORT", "CMS_OPS_PORT")]
    assert {d1["CMS_D1_PORT"], d1["CMS_OPS_PORT"]}.isdisjoint(ports)
    # Whose sockets they are is known when the users are made.
    assert "printf 'HSM_%s_UID=%s\\n' D1 " in PAGE
    assert not {name for name in vault if name.endswith("_UID")}


@pytest.mark.parametrize("unit", STARTED, ids=lambda unit: "+".join((unit.name, *unit.drop_ins)))
def test_the_page_makes_what_a_unit_needs(unit: Unit) -> None:
    for file in unit.given("EnvironmentFile"):
        example = example_of(file).relative_to(ROOT)
        assert f"install -m 0644 {example} {file}\n" in PAGE
    (python,) = {line.split()[0] for line in unit.given("ExecStart") if line}
    assert python == "/opt/pins/.venv/bin/python"
    assert "python3 -m venv .venv\n" in PAGE
    (user,) = unit.given("User")
    assert re.search(rf"^useradd .* {user}$", PAGE, re.MULTILINE)
    assert "groupadd --system pins-sockets\n" in PAGE
    for credential in unit.given("LoadCredential"):
        name, _, file = credential.partition(":")
        assert f"{unit.credentials}/{name}" in unit.environment().values()
        assert re.search(rf"^ *.*install -m 04[04]0 .*{file}$", PAGE, re.MULTILINE), file


def test_every_file_that_an_example_names_is_made_on_the_page() -> None:
    installed = {
        name if name.startswith("/") else f"{ETC}{name}"
        for line in re.findall(r"install -m .*", PAGE)
        for name in line.split()[3:]
    }
    for environment, _ in PROGRAMS.values():
        named = {value for value in environment.values() if value.startswith(ETC)}
        assert named - {"/etc/pins/softhsm2.conf"} <= installed
    assert "> /etc/pins/softhsm2.conf" in PAGE


def test_the_shells_have_the_settings_of_their_users() -> None:
    vault, operator = re.findall(r"^runuser -u (.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert vault.split()[0] == next(VAULT.given("User"))
    assert ". /etc/pins/vault.env;" in vault
    # The unit has a copy of the file, and this path by itself.
    (pin,) = (each for each in VAULT.given("LoadCredential") if each.startswith("hsm-pin:"))
    assert f"HSM_PIN_FILE={pin.partition(':')[2]} " in vault
    assert f"HSM_STATE_DIRECTORY={VAULT.environment()['HSM_STATE_DIRECTORY']} " in vault
    assert operator.split()[0] == "pins-admin"
    assert f". {OPERATOR};" in operator


def test_the_page_installs_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {*re.findall(r"issuer-pin-service-([\d.]+\d)", PAGE)} == {version}


def test_an_example_holds_no_secret_and_is_installed() -> None:
    for example in UNITS.glob("*.env.example"):
        assert f"deploy/systemd/{example.name} " in PAGE
        assert all("password" not in value for value in variables(example).values())
