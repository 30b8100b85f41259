"""``python -m cms.sandbox``: what it hands on, and to whom."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK
from jwcrypto.jwt import JWT

from cms.sandbox import __main__ as command_line
from cms.sandbox import demo, files, manifests, settings
from cms.sandbox.partners import d1_command
from tests.deployment import ROOT

OPERATORS_WORDS = [
    ["audit", "list", "demobank01"],
    ["--help"],
    ["issuers", "add", "demobank01", "--name", "Demo issuer"],
    ["cards", "add", "--", "-1"],
    [],
]


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the process went on as, with the demo's settings."""
    became: list[list[str]] = []

    def execv(program: str, words: Sequence[str]) -> None:
        assert os.environ["SETTINGS_OF"] == words[2]
        became.append([program, *words])
        raise SystemExit(0)

    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(settings, "load", lambda program: os.environ.update(SETTINGS_OF=program))
    monkeypatch.setattr(os, "execv", execv)
    return became


@pytest.mark.parametrize("package", ["cms", "hsm"])
@pytest.mark.parametrize("words", OPERATORS_WORDS, ids=" ".join)
def test_an_operators_command_is_run_as_it_was_typed(
    became: list[list[str]], package: str, words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        command_line.main([package, *words])
    assert became == [[sys.executable, sys.executable, "-m", package, *words]]


def test_d1_by_hand_gets_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["set-pin", "card-0004", "--seccos"]
    monkeypatch.setattr(d1_command, "main", lambda given: 7 if given == words else 8)
    assert command_line.main(["d1", *words]) == 7


def test_an_access_token_names_whomever_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "IDENTITY", tmp_path)
    asking = ["token", "--subject", "somebody"]
    with pytest.raises(SystemExit, match="run the demo first"):
        command_line.main(asking)
    manifests.identity()  # makes its key
    for seconds, words in ((3600, asking), (60, [*asking, "--seconds", "60"])):
        assert command_line.main(words) == 0
        key = JWK.from_json((tmp_path / "private.jwk").read_text())
        access_token = JWT(jwt=capsys.readouterr().out.strip(), key=key)
        claims = json.loads(access_token.claims)
        assert (claims["sub"], claims["aud"]) == ("somebody", manifests.AUDIENCE)
        assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("once", [True, False])
def test_the_demo_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch, once: bool) -> None:
    monkeypatch.setattr(demo, "run", lambda *, once: 7 if once else 8)
    assert command_line.main(["demo", *["--once"] * once]) == (7 if once else 8)


def test_the_help_is_there_at_once() -> None:
    loads = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cms.sandbox", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    slow = ("cryptography", "httpx", "jwcrypto", "psycopg", "pydantic", "starlette")
    assert "argparse" in loads
    assert [name for name in slow if name in loads] == []
