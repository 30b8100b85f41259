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


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A var/ whose path holds a space and a quote, and an environment of its own."""
    var = tmp_path / "a tree's" / "var"
    for name in ("SOFTHSM", "PKI", "DATABASE_URL", "CONTROL_TOKEN_KEY"):
        monkeypatch.setattr(files, name, var / getattr(files, name).relative_to(files.VAR))
    monkeypatch.setattr(settings, "FILE", var / "demo.env")
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    return var


def ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(settings.PREFIXES)}


def test_what_a_demo_used_is_what_a_command_loads(var: Path) -> None:
    settings.make(DATABASE_URL)
    used = ours()
    assert used["CMS_DATABASE_URL_FILE"] == str(var / "database-url")
    os.environ.clear()
    settings.load()
    assert ours() == used


def test_a_shell_reads_the_same(var: Path) -> None:
    settings.make(DATABASE_URL)
    shell = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env -0', "sh", str(var / "demo.env")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        ours().items() <= dict(line.split("=", 1) for line in shell.stdout.split("\0")[:-1]).items()
    )


def test_the_demos_settings_are_never_mixed_with_others() -> None:
    others = {"CMS_WORKERS": "7", "HSM_PIN_FILE": "/elsewhere", "CMS_PUBLIC_URL": "https://x.test"}
    os.environ.update(others)
    settings.make(DATABASE_URL)
    used = ours()
    assert "CMS_WORKERS" not in used
    assert not {*others.items()} & {*used.items()}
    os.environ.update(others)
    settings.load()
    assert ours() == used


def test_before_the_first_demo_there_are_none() -> None:
    with pytest.raises(SystemExit, match=r"^there is no var/demo\.env: run the demo first$"):
        settings.load()


def test_only_the_owner_reads_them(var: Path) -> None:
    settings.make(DATABASE_URL)
    assert {path.stat().st_mode & 0o777 for path in var.iterdir()} == {0o600}


def test_every_secret_has_the_mark_by_which_the_service_refuses_it(
    postgres: Postgres,
) -> None:
    SoftHsm(files.SOFTHSM).ensure()
    settings.make(postgres.url())
    for name in ("CMS_DATABASE_URL_FILE", "CMS_CONTROL_TOKEN_KEY_FILE", "HSM_PIN_FILE"):
        assert SECRET_MARK in Path(os.environ[name]).read_text()
