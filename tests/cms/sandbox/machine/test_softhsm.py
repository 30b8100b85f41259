import os
import re
import subprocess
from pathlib import Path

import pytest

from cms.sandbox import demo, files
from cms.sandbox.machine import softhsm
from cms.sandbox.machine.softhsm import SoftHsm, SoftHsmError
from hsm.development import SECRET_MARK
from hsm.settings import HsmTokenSettings
from tests.deployment import wait_for


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    made = SoftHsm(tmp_path_factory.mktemp("a token") / "softhsm")
    assert made.ensure()
    return made


def pins(token: SoftHsm) -> list[str]:
    return [(token.directory / name).read_text().strip() for name in ("officer-pin", "user-pin")]


def test_the_pins_are_random_and_differ_between_tokens_and_roles(
    made: SoftHsm, tmp_path: Path
) -> None:
    other = SoftHsm(tmp_path)
    other.ensure()
    known = [*pins(made), *pins(other)]
    assert len(set(known)) == 4
    assert all(re.fullmatch(f"{SECRET_MARK}-[0-9a-f]{{32}}", pin) for pin in known)


def test_nobody_else_can_read_what_was_made(made: SoftHsm) -> None:
    found = [made.directory, *made.directory.rglob("*")]
    modes = {path: path.stat().st_mode & 0o777 for path in found}
    assert {modes[path] for path in found if path.is_dir()} == {0o700}
    assert {modes[path] for path in found if path.is_file()} == {0o600}
    assert len(found) > 6  # the token's own files are among them


def test_a_token_that_is_there_stays_as_it_is(made: SoftHsm) -> None:
    before = {path: path.read_bytes() for path in made.directory.rglob("*") if path.is_file()}
    assert not made.ensure()
    after = {path: path.read_bytes() for path in made.directory.rglob("*") if path.is_file()}
    assert after == before


def test_the_environment_names_the_token(made: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    settings = HsmTokenSettings()
    assert settings.module.exists()
    assert settings.pin_file.read_text().strip() == pins(made)[1]
    shown = subprocess.run(
        ["softhsm2-util", "--show-slots"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.count(settings.token_label) == 1
    assert len(re.findall(r"User PIN init\.: +yes", shown)) == 1


def test_no_pin_is_on_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, seen = tmp_path / "slow-softhsm2-util", tmp_path / "seen"
    # What the process list and the environment show while the tool runs.
    tool.write_text(
        f'#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ > "{seen}"\nexec softhsm2-util "$@"\n'
    )
    tool.chmod(0o700)
    monkeypatch.setattr(softhsm, "_tool", lambda: str(tool))
    token = SoftHsm(tmp_path / "token")
    token.ensure()
    content = seen.read_text()
    assert "--init-token" in content
    assert not [pin for pin in pins(token) if pin in content]


def test_a_token_that_could_not_be_made_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = SoftHsm(tmp_path / "token")
    with monkeypatch.context() as patch:
        patch.setattr(softhsm, "_tool", lambda: "/bin/false")
        with pytest.raises(SoftHsmError, match="did not make an HSM token"):
            token.ensure()
    assert token.ensure()


def test_a_token_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    token = SoftHsm(tmp_path / "token")
    token.ensure()
    before = pins(token)
    token.remove()
    assert token.ensure()
    assert not {*before} & {*pins(token)}


def test_a_tool_that_hangs_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, started = tmp_path / "hanging-util", tmp_path / "pid"
    tool.write_text(f'#!/bin/sh\necho $$ > "{started}"\nexec sleep infinity\n')
    tool.chmod(0o700)
    monkeypatch.setattr(softhsm, "_tool", lambda: str(tool))

    def wait_in_vain(tool: subprocess.Popen[bytes], timeout: float) -> None:
        wait_for(lambda: started.exists() and started.read_text() != "")
        raise subprocess.TimeoutExpired(tool.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", wait_in_vain)
    with pytest.raises(SoftHsmError, match="did not make an HSM token"):
        SoftHsm(tmp_path / "token").ensure()
    assert not Path(f"/proc/{started.read_text().strip()}").exists()


@pytest.mark.parametrize("missing", ["module", "tool"])
def test_a_missing_softhsm_is_said_in_one_line_with_the_command_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "module":
        monkeypatch.setattr(softhsm, "MODULES", (tmp_path / "none.so",))
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SoftHsmError) as refused:
        SoftHsm(tmp_path / "token").ensure()
    assert str(refused.value) == "SoftHSM2 is not installed: apt-get install softhsm2"
    assert not (tmp_path / "token" / "user-pin").exists()


def test_the_demo_without_softhsm_ends_with_that_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(softhsm, "MODULES", ())
    monkeypatch.setattr(files, "VAR", tmp_path / "var")
    monkeypatch.setattr(files, "SOFTHSM", tmp_path / "var" / "softhsm")
    monkeypatch.setattr(demo, "exit_on_sigterm", lambda: None)
    before = os.umask(0o077)
    try:
        assert demo.run(once=True) == 1
    finally:
        os.umask(before)
    said = capsys.readouterr().err
    assert said.endswith("SoftHSM2 is not installed: apt-get install softhsm2\n")
    assert said.count("\n") == 1
