"""What is wrong with settings is one line: which, what to do, and where to read on."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from hsm.setting_faults import PAGE, faults, file_fault, unknown, with_page

ROOT = Path(__file__).resolve().parents[2]


class Sample(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_", hide_input_in_errors=True)

    pin_file: Path
    workers: Annotated[int, Field(ge=1)] = 1
    peers: frozenset[str] = frozenset()
    token: str = ""

    @model_validator(mode="after")
    def _token_has_peers(self) -> "Sample":
        if self.token and not self.peers:
            raise ValueError("SAMPLE_TOKEN needs SAMPLE_PEERS")
        return self


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, f"SAMPLE_PIN_FILE is missing; see {PAGE}"),
        (
            {"WORKERS": "0"},
            "SAMPLE_PIN_FILE is missing; SAMPLE_WORKERS: Input should be greater than or equal to"
            f" 1; see {PAGE}",
        ),
        (
            {"PIN_FILE": "/pin", "PEERS": "s3cret"},
            f"SAMPLE_PEERS: no JSON as it must be; see {PAGE}",
        ),
        (
            {"PIN_FILE": "/pin", "TOKEN": "s3cret"},
            f"SAMPLE_TOKEN needs SAMPLE_PEERS; see {PAGE}",
        ),
    ],
    ids=str,
)
def test_each_setting_is_named_and_no_value(
    given: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"SAMPLE_{name}", value)
    with pytest.raises((ValidationError, SettingsError)) as caught:
        Sample()
    assert isinstance(caught.value, ValidationError | SettingsError)
    assert faults(caught.value, "SAMPLE_") == line
    assert "s3cret" not in line


def test_a_name_that_no_setting_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLE_WORKERS", "sample_peers", "SAMPLING", "OTHER_SAMPLE_X"):
        monkeypatch.setenv(name, "s3cret")
    assert unknown("SAMPLE_", Sample) is None
    for name in ("SAMPLE_WORKRES", "SAMPLE_", "sample_pears"):
        monkeypatch.setenv(name, "s3cret")
    said = unknown("SAMPLE_", Sample)
    assert said == f"SAMPLE_, SAMPLE_WORKRES, sample_pears: no such setting; see {PAGE}"


def test_the_page_is_there() -> None:
    assert (ROOT / PAGE).is_file()


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_secret_for_its_user_and_group_is_taken(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode)
    secret.chmod(mode)
    assert file_fault("SAMPLE", secret, is_secret=True) is None


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601])
def test_a_secret_for_every_user_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    secret.chmod(mode)
    said = file_fault("CMS_SECRET_FILE", secret, is_secret=True)
    assert said is not None
    assert said.startswith(f"CMS_SECRET_FILE: a secret, and its mode {mode:04o} is for every user")
    assert "chmod 0600" in said
    assert said.endswith(f"; see {PAGE}")
    assert file_fault("CMS_CERTIFICATE_FILE", secret, is_secret=False) is None


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        said = file_fault("HSM_PIN_FILE", path, is_secret=True)
        assert said == f"HSM_PIN_FILE: {why}; see {PAGE}"


def test_the_page_is_added_to_what_begins_with_a_setting_and_names_none() -> None:
    assert with_page("HSM_MODULE: wrong") == f"HSM_MODULE: wrong; see {PAGE}"
    assert with_page("Is HSM_MODULE there?") == "Is HSM_MODULE there?"
    for said in ("the token refused the PIN", "CMS_TRACES_URL: see docs/tracing.md", ""):
        assert with_page(said) == said
