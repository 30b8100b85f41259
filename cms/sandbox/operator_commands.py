"""Run the commands of the service's operator, and show them as they are typed."""

import io
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

import cms.__main__
import hsm.__main__
from cms.sandbox import settings
from cms.sandbox.files import ROOT


class CommandError(Exception):
    """A command was refused; it said why on standard error."""


def run(package: str, *words: str, quiet: bool = False) -> str:
    """Run ``python -m PACKAGE WORDS``, inside this process, and return what it printed.

    Args:
        package: ``cms`` or ``hsm``.
        words: the command and its arguments.
        quiet: show the command and not what it prints.

    Raises:
        CommandError: its exit code is not 0.
    """
    print(_line(package, words))
    code, printed = _run(package, words)
    return _checked(code, printed, quiet=quiet)


def printed_by(package: str, *words: str) -> str:
    """Do as :func:`run` does, and show nothing.

    Raises:
        CommandError: its exit code is not 0.
    """
    code, printed = _run(package, words)
    return _checked(code, printed, quiet=True)


def run_apart(package: str, *words: str, typed: Sequence[str] = (), quiet: bool = False) -> str:
    """Do as :func:`run` does, in a process of its own, and type lines.

    Raises:
        CommandError: its exit code is not 0.
    """
    print(_line(package, words), flush=True)
    done = subprocess.run(  # noqa: S603 - no word from outside
        [sys.executable, "-m", package, *words],
        cwd=ROOT,
        env=settings.environment(package),
        input="".join(f"{line}\n" for line in typed),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return _checked(done.returncode, done.stdout, quiet=quiet)


def _run(package: str, words: Sequence[str]) -> tuple[int, str]:
    """Run a command inside this process; return its exit code and what it printed."""
    main = cms.__main__.main if package == "cms" else hsm.__main__.main
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = main(words)
    return code, printed.getvalue()


def _line(package: str, words: Sequence[str]) -> str:
    return f"$ python -m {package} {shlex.join(words)}"


def _checked(code: int, printed: str, *, quiet: bool) -> str:
    if not quiet:
        print("".join(f"  {line}\n" for line in printed.splitlines()), end="")
    if code != 0:
        raise CommandError(f"that command was refused, with exit code {code}")
    return printed
