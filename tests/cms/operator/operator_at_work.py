"""Somebody at the command line, in this process over its token or in a process of its own."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from cms.__main__ import main
from cms.sandbox import HANG_SECONDS
from hsm.verbs import PinVault
from tests.in_process_admin import InProcessAdmin

ROOT = Path(__file__).resolve().parents[3]
#: Eight digits, so that nothing else reads like it.
PIN = "73918264"
NEW_PAN = "6011111111111117"


def use_vault(monkeypatch: pytest.MonkeyPatch, vault: object) -> None:
    """Have commands that call the vault of this host call *vault*, in this process."""
    client = nullcontext(InProcessAdmin(cast("PinVault", vault)))
    monkeypatch.setenv("CMS_VAULT_SOCKET_DIRECTORY", "/run/vault")
    monkeypatch.setattr("cms.operator.vault.AdminClient", lambda *_: client)


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@dataclass
class Operator:
    """Somebody at the command line; what they saw is kept."""

    capture: pytest.CaptureFixture[str]
    seen: list[str] = field(default_factory=list)

    def __call__(self, *words: object) -> Answer:
        self.capture.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as usage:
            code = int(str(usage.code))
        answer = Answer(code, *self.capture.readouterr())
        self.seen += [answer.out, answer.err]
        return answer

    def must(self, *words: object) -> str:
        """Run a command that succeeds and says nothing on standard error."""
        answer = self(*words)
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    def refused(self, *words: object) -> str:
        """Run a command that is refused with one line, and return the line."""
        answer = self(*words)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.count("\n") == 1
        return answer.err.strip()


def run_module(*words: object, **environment: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
