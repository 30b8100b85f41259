"""Every command line that the documentation shows is one that the programs take."""

import argparse
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cms.__main__
import cms.sandbox.__main__
import hsm.__main__

ROOT = Path(__file__).resolve().parents[2]
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "cms": cms.__main__.program_parser,
    "hsm": hsm.__main__.program_parser,
    "cms.sandbox": cms.sandbox.__main__.program_parser,
}
PAGES = [path for pattern in ("*.md", "docs/*.md") for path in ROOT.glob(pattern)]


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command in the page's blocks of code, up to a redirection.

    What stands for more than one command, with ``…`` or alternatives, is left out, unless it is
    within the quotes of a value.
    """
    for block in re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", "").splitlines():
            if re.match(r"python -m (cms|hsm|cms\.sandbox) ([^|…']|'[^']*')*$", line):
                # What is left out of a JSON value may as well be absent.
                words = shlex.split(re.sub(r'(, )?(?<!")…', "", line), comments=True)
                yield words[2 : words.index(">") if ">" in words else None]


def is_taken(words: list[str]) -> bool:
    """Whether the parser of a program takes its words; what ``cms.sandbox`` passes on, too."""
    program, *rest = words
    try:
        parsed = PARSERS[program]().parse_args(rest)
    except SystemExit:
        return False
    if program == "cms.sandbox" and parsed.command in PARSERS:
        return is_taken([parsed.command, *parsed.words])
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_documented_command_is_taken(page: Path) -> None:
    refused = [shlex.join(words) for words in commands(page.read_text()) if not is_taken(words)]
    assert refused == []


def test_the_pages_show_commands_and_one_that_there_is_not_is_found() -> None:
    onboarding = (ROOT / "docs" / "onboarding.md").read_text()
    assert len([*commands(onboarding)]) > 15
    assert not is_taken(["hsm", "manifest", "load", "draft.json"])
