"""Somebody who types ``python -m hsm``, with a pipe or at a terminal of their own."""

import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from typing import Self

from cms.sandbox import HANG_SECONDS
from tests.hsm.own_process import ROOT, OwnHsmToken, environment

ROLES = str(ROOT / "hsm" / "roles.toml")
STATE = ("HSM_STATE_DIRECTORY", "HSM_TRUST_FILE")
Done = subprocess.CompletedProcess[str]


class Operator:
    """Somebody at a terminal. Nothing they see holds a secret of the token."""

    def __init__(self, softhsm: OwnHsmToken) -> None:
        self.softhsm = softhsm
        self.secrets = [file.read_text().strip() for file in softhsm.directory.glob("*-pin")]

    def run(self, *arguments: str, typed: str = "", **settings: str) -> Done:
        """Run a command; a setting that is empty is left out."""
        # Keys need no state of a host.
        given = {**environment(self.softhsm), **dict.fromkeys(STATE, ""), **settings}
        done = subprocess.run(
            [sys.executable, "-m", "hsm", *arguments],
            cwd=ROOT,
            env={name: value for name, value in given.items() if value},
            input=typed,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        for secret in self.secrets:
            assert secret not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


def fingerprints(output: str) -> dict[str, str]:
    """The last word of each line, by its first."""
    return {words[0]: words[-1] for words in map(str.split, output.splitlines())}


def lines(*typed: str) -> str:
    return "".join(f"{line}\n" for line in typed)


class Terminal:
    """The controlling terminal of one command."""

    def __init__(
        self,
        softhsm: OwnHsmToken,
        settings: Mapping[str, str],
        *arguments: str,
        piped: bool = False,
    ) -> None:
        self.screen, keyboard = os.openpty()
        # Whoever leads a session and opens a terminal has it for its own.
        command = ["sh", "-c", ': <"$0"; exec "$@"', os.ttyname(keyboard)]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-m", "hsm", *arguments],
            cwd=ROOT,
            env={**environment(softhsm), "PYTHONUNBUFFERED": "", **settings},
            stdin=subprocess.PIPE if piped else keyboard,
            stdout=subprocess.PIPE if piped else keyboard,
            stderr=keyboard,
            start_new_session=True,
            text=True,
        )
        os.close(keyboard)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.screen)

    def type(self, line: str, *, after: str) -> None:
        """Wait for a prompt and answer it."""
        self.wait_for(after)
        os.write(self.screen, f"{line}\n".encode())

    def wait_for(self, prompt: str) -> None:
        """Read the screen until it ends with a prompt."""
        while not self.shown.endswith(prompt):
            assert something_comes(self.screen), self.shown
            self.shown += os.read(self.screen, 1024).decode()

    def all_shown(self) -> str:
        """Read the screen until the command has ended."""
        while something_comes(self.screen):
            try:
                self.shown += os.read(self.screen, 1024).decode()
            except OSError:  # nobody holds the other side any more
                break
        self.process.wait(timeout=HANG_SECONDS)
        return self.shown


def something_comes(file: int) -> bool:
    # Not by select(2): a process of many tests has higher descriptors.
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        return bool(selector.select(HANG_SECONDS))
