"""What is told of the commands: their examples, their page, and whose result a program can read."""

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import pytest

import cms.__main__
import hsm.__main__
from cms.operator.examples import EXAMPLES
from hsm import command_help
from hsm.command_help import Example, commands_of
from tests.architecture import command_reference
from tests.architecture.test_documented_commands import is_taken

ROOT = Path(__file__).resolve().parents[2]
ALL_EXAMPLES: Mapping[str, Mapping[str, Example]] = {"cms": EXAMPLES, "hsm": command_help.EXAMPLES}
PARSERS: Mapping[str, ArgumentParser] = {
    "cms": cms.__main__.program_parser(),
    "hsm": hsm.__main__.program_parser(),
}

#: Why a command has no ``--json``.
PRINTS_NOTHING = "its exit code is its result"
PRINTS_JSON = "prints JSON anyway"
SERVES = "runs until it is ended"
NOT_JSON = {
    **dict.fromkeys(
        [
            *("cms issuers add", "cms issuers suspend", "cms issuers resume"),
            *("cms cards state", "cms cards personalised", "cms cards unblock"),
            *("cms clients add", "cms clients add-app", "cms clients remove", "cms manifest load"),
            *("hsm manifest minimum-versions", "hsm manifest begin"),
        ],
        PRINTS_NOTHING,
    ),
    **dict.fromkeys(
        [
            *("cms cards feed-key", "cms manifest show", "cms verification export"),
            *("cms scripts build", "cms scripts delivered", "cms scripts confirmed"),
            *("cms scripts reverse", "cms scripts calls", "cms openapi", "hsm jwks"),
            *("hsm manifest key", "hsm manifest new", "hsm manifest show", "hsm generations show"),
        ],
        PRINTS_JSON,
    ),
    "cms serve": SERVES,
    "hsm serve": SERVES,
    "cms completion": "prints a script of a shell",
    "hsm completion": "prints a script of a shell",
    "hsm change-pin": "says what to do next, and has no other result",
}


def test_the_page_says_of_commands_what_the_parsers_do() -> None:
    text = command_reference.PAGE.read_text()
    assert command_reference.with_reference(text) == text


@pytest.mark.parametrize("program", ALL_EXAMPLES)
def test_an_example_is_one_of_its_command_and_is_taken(program: str) -> None:
    for name, (words, page) in ALL_EXAMPLES[program].items():
        assert f"{words} ".startswith(f"{name} ")
        assert is_taken([program, *shlex.split(words)]), words
        assert (ROOT / page).is_file(), page


def test_every_page_that_the_product_names_is_there() -> None:
    sources = [path for package in ("cms", "hsm") for path in (ROOT / package).rglob("*.py")]
    named = {
        page
        for path in sources
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text("utf-8"))
    }
    assert "docs/settings.md" in named
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_every_command_that_prints_rows_or_a_result_prints_it_as_json_too() -> None:
    has_none = {
        f"{program} {name}"
        for program, parser in PARSERS.items()
        for name, _, command in commands_of(parser)
        if command._subparsers is None and "--json" not in command._option_string_actions
    }
    assert has_none == NOT_JSON.keys()
