"""``completion``: real shells at a terminal, in which somebody presses Tab."""

import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from tests.cms.operator.operator_at_work import ROOT

#: Without anybody's settings.
SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "fish": ("fish", "--no-config", "--interactive"),
    "tcsh": ("tcsh", "-f", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
#: Readline's insert-completions: every word that fits comes into the line.
ALL = "\x1b*"


def script(program: str, shell: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", program, "completion", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of bash, and in their place of the programs one that prints its words."""
    directory = tmp_path_factory.mktemp("scripts")
    for program in ("cms", "hsm"):
        made = script(program, "bash")
        show = f"\n{program}() {{ printf '%s\\n' \"$@\"; }}\n"
        (directory / f"{program}.bash").write_text(made + show)
    return directory


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "draft.json").touch()
    (tmp_path / "draft two.json").touch()
    (tmp_path / "logs").mkdir()
    return tmp_path


def typed_in_bash(line: str, scripts: Path, directory: Path) -> list[str]:
    """Type a line, have all that fits inserted, press Return; give what the program got."""
    program = line.split(maxsplit=1)[0]
    setup = f"stty -echo; PS1=; . {shlex.quote(str(scripts / program))}.bash"
    screen = at_a_terminal(SHELLS["bash"], [setup, line + ALL], directory)
    return screen[-1].splitlines()


def at_a_terminal(shell: Sequence[str], lines: Sequence[str], directory: Path) -> list[str]:
    """Type lines into a shell, and give what it shows of each until it has run it."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        # Bash edits lines without control sequences on the one, tcsh edits them only on the other.
        term = "dumb" if shell[0] == "bash" else "vt100"
        os.environ.update(TERM=term, HOME=str(directory), PYTHONPATH=str(ROOT))
        signal.alarm(HANG_SECONDS)
        os.execvp(shell[0], [*shell])
    shown = []
    try:
        for number, line in enumerate(lines):
            # A line is typed when the one before was run: only then the shell takes Tab. What is
            # typed may show, too: its quotes tell it from what is printed.
            os.write(terminal, f"{line}\necho 'do'ne{number}\n".encode())
            seen = b""
            while f"done{number}".encode() not in seen:
                seen += os.read(terminal, 65536)
            shown.append(seen.decode().partition(f"done{number}")[0])
    finally:
        os.close(terminal)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return shown


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cms cards st", ["cards", "state"]),
        ("cms cards state bank card ", ["active", "blocked", "closed", "inactive"]),
        ("cms audit compare bank --l", ["--log"]),
        ("cms audit compare bank --log ", ["logs"]),
        ("cms clients show dr", ["draft two.json", "draft.json"]),
        ("cms cards import bank ", ["draft two.json", "draft.json", "logs"]),
        ("cms completion z", ["zsh"]),
        ("hsm manifest si", ["manifest", "sign"]),
        ("hsm manifest sign x --key ", ["draft two.json", "draft.json", "logs"]),
        ("hsm jwks p", ["page"]),
        ("hsm make-key zpk bank --version ", ["B", "D"]),
        ("hsm import-components kbpk bank --kind tdes-2", ["tdes-2-key"]),
    ],
)
def test_bash_completes_commands_options_choices_and_files(
    scripts: Path, files: Path, line: str, words: list[str]
) -> None:
    assert typed_in_bash(line, scripts, files)[-len(words) :] == words


def test_bash_completes_no_more_than_there_is(scripts: Path, files: Path) -> None:
    assert typed_in_bash("cms cards no-such", scripts, files) == ["cards", "no-such"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_has_the_command_and_completes_it(shell: str, files: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    source = files / "completion"
    source.write_text(script("hsm", shell))
    setup = [f"source {source}"]
    if shell == "zsh":
        setup = ["autoload -U compinit; compinit -D", f'eval "$(cat {source})"']
    screen = at_a_terminal(SHELLS[shell], [*setup, "hsm manif\tne\tdemobank01"], files)
    assert '"valid_until": "' in screen[-1]
