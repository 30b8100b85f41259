"""The demo's settings: written for a shell, used in the place of all others."""

import os
import subprocess
from pathlib import Path

import pytest

from cms.sandbox import files, settings
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.development import SECRET_MARK

DATABASE_URL = "postgresql://cms@/cms?host=%2Ftmp"
SOCKETS = Path("/tmp/pins")


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A var/ whose path holds a space and a quote, and an environment of its own."""
    var = tmp_path / "a tree's" / "var"
    for name in (
        *("SOFTHSM", "PKI", "DATABASE_URL", "CONTROL_TOKEN_KEY"),
        *("WEB_SETTINGS", "VAULT_SETTINGS"),
    ):
        monkeypatch.setattr(files, name, var / getattr(files, name).relative_to(files.VAR))
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    return var


def ours(*programs: str) -> dict[str, str]:
    """The settings of the programs, or of both."""
    prefixes = tuple(
        prefix for each in programs or settings.PREFIXES for prefix in settings.PREFIXES[each]
    )
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


@pytest.mark.parametrize("program", settings.PREFIXES)
def test_what_a_demo_used_is_what_a_command_loads(program: str) -> None:
    settings.make(DATABASE_URL, SOCKETS)
    used = ours(program)
    os.environ.clear()
    settings.load(program)
    assert ours() == used


def test_each_program_has_settings_and_none_of_the_others(var: Path) -> None:
    settings.make(DATABASE_URL, SOCKETS)
    web, vault = ours(settings.WEB), ours(settings.VAULT)
    assert web["CMS_DATABASE_URL_FILE"] == str(var / "database-url")
    assert vault["HSM_PIN_FILE"] == str(var / "softhsm" / "user-pin")
    assert web["CMS_VAULT_SOCKET_DIRECTORY"] == vault["HSM_SOCKET_DIRECTORY"] == str(SOCKETS)
    for program, own in ((settings.WEB, web), (settings.VAULT, vault)):
        given = settings.environment(program).items()
        assert own.items() <= given
        assert not {*ours().items()} - {*own.items()} & {*given}


@pytest.mark.parametrize("program", settings.PREFIXES)
def test_a_shell_reads_the_same(var: Path, program: str) -> None:
    settings.make(DATABASE_URL, SOCKETS)
    file = {settings.WEB: "web.env", settings.VAULT: "vault.env"}[program]
    shell = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env -0', "sh", str(var / file)],
        capture_output=True,
        text=True,
        check=True,
    )
    read = dict(line.split("=", 1) for line in shell.stdout.split("\0")[:-1])
    assert ours(program).items() <= read.items()


def test_the_demos_settings_are_never_mixed_with_others() -> None:
    others = {"CMS_WORKERS": "7", "HSM_PIN_FILE": "/elsewhere", "CMS_PUBLIC_URL": "https://x.test"}
    os.environ.update(others)
    settings.make(DATABASE_URL, SOCKETS)
    used = ours()
    assert "CMS_WORKERS" not in used
    assert not {*others.items()} & {*used.items()}
    os.environ.update(others)
    settings.load(settings.VAULT)
    assert ours() == {name: value for name, value in used.items() if not name.startswith("CMS_")}


def test_before_the_first_demo_there_are_none() -> None:
    with pytest.raises(SystemExit, match=r"^there is no var/web\.env: run the demo first$"):
        settings.load(settings.WEB)


def test_only_the_owner_reads_them(var: Path) -> None:
    settings.make(DATABASE_URL, SOCKETS)
    assert {path.stat().st_mode & 0o777 for path in var.iterdir()} == {0o600}


def test_every_secret_has_the_mark_by_which_the_service_refuses_it(
    postgres: Postgres,
) -> None:
    SoftHsm(files.SOFTHSM).ensure()
    settings.make(postgres.url(), SOCKETS)
    for name in ("CMS_DATABASE_URL_FILE", "CMS_CONTROL_TOKEN_KEY_FILE", "HSM_PIN_FILE"):
        assert SECRET_MARK in Path(os.environ[name]).read_text()
