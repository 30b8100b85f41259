"""Every command line that the documentation shows is one that the programs take."""

import argparse
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.config import CommandLine
from ruamel.yaml import YAML

import cms.__main__
import cms.sandbox.__main__
import hsm.__main__

ROOT = Path(__file__).resolve().parents[2]
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "cms": cms.__main__.program_parser,
    "hsm": hsm.__main__.program_parser,
    "cms.sandbox": cms.sandbox.__main__.program_parser,
    "alembic": lambda: CommandLine().parser,
}
# Of a whole line: who runs it, and where the program is, count for nothing here.
RUN = re.compile(r"(?:runuser .* )?(?:\S*/bin/)?(python -m (?:cms|hsm|cms\.sandbox)|alembic) (.*)")
COMPOSE = re.compile(r"docker compose run --rm (\w[\w-]*) (.*)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SERVICES = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
PAGES = [path for pattern in ("*.md", "docs/*.md") for path in ROOT.glob(pattern)]


def command_lines(page: str) -> Iterator[str]:
    """The lines in the page's blocks of code, and those of containers in its prose."""
    for language, block in FENCED.findall(page):
        if not language:
            yield from block.replace("\\\n", "").splitlines()
    yield from re.findall(r"`(docker compose run [^`]*)`", FENCED.sub("", page))


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command on a page, the program first, up to a redirection.

    What stands for more than one command, with ``…`` or alternatives, is left out, unless it is
    within the quotes of a value.
    """
    for line in command_lines(page):
        if found := RUN.fullmatch(line):
            program = [found[1].removeprefix("python -m ")]
        elif found := COMPOSE.fullmatch(line):
            program = entrypoint(found[1])
        else:
            continue
        if re.fullmatch(r"([^|…']|'[^']*')*", found[2]):
            # What is left out of a JSON value may as well be absent.
            words = shlex.split(re.sub(r'(, )?(?<!")…', "", found[2]), comments=True)
            yield program + words[: words.index(">") if ">" in words else None]


def entrypoint(service: str) -> list[str]:
    """The program that a service of docker-compose.yml begins with, and its first words."""
    words = SERVICES.get(service, {}).get("entrypoint", [])
    return words[2:] if words[:2] == ["python", "-m"] else [service]


def is_taken(words: list[str]) -> bool:
    """Whether the parser of a program takes its words; what ``cms.sandbox`` passes on, too."""
    program, *rest = words
    if program not in PARSERS:
        return False
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
    assert [*commands("```text\nno command\n```\nAnd\n```\nalembic current\n```\n")] == [
        ["alembic", "current"]
    ]
    assert not is_taken(["hsm", "manifest", "load", "draft.json"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("docker compose run --rm manifest show a", ["hsm", "manifest", "show", "a"]),
        ("docker compose run --rm operator issuers list", ["cms", "issuers", "list"]),
        ("docker compose run --rm web issuers list", ["web", "issuers", "list"]),
        ("/opt/pins/.venv/bin/python -m hsm check", ["hsm", "check"]),
        (
            "runuser -u vault -- env A=b \\\n  /opt/pins/.venv/bin/python -m hsm serve",
            ["hsm", "serve"],
        ),
        (".venv/bin/alembic upgrade head", ["alembic", "upgrade", "head"]),
    ],
)
def test_a_command_is_found_however_it_is_run(line: str, words: list[str]) -> None:
    assert [*commands(f"```\n{line}\n```\n")] == [words]
    assert is_taken(words) == (words[0] != "web")
    assert not is_taken([*words, "one-word-more", "--no-such-option"])
