"""``python -m cms``: what all commands share."""

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import cms.sandbox.__main__
import hsm.__main__
from cms.__main__ import program_parser
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.partners import d1_command
from tests.cms.operator.operator_at_work import Operator
from tests.issuer_records import SampleIssuer, run_sql
from tests.processes import loaded_by


def test_a_command_without_settings_says_which(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CMS_DATABASE_URL_FILE")
    assert operator.refused("issuers", "list") == (
        "CMS_DATABASE_URL_FILE is missing; see docs/settings.md"
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://cms:s3cret@/cms?host=/nowhere",
        "postgresql://cms:s3cret@127.0.0.1:1/cms",
    ],
)
def test_a_database_that_is_unavailable_is_said_in_one_line(
    operator: Operator, tmp_path: Path, url: str
) -> None:
    (tmp_path / "database-url").write_text(url)
    assert operator.refused("issuers", "list") == "the database is unavailable"
    assert "s3cret" not in "".join(operator.seen)


def test_a_database_url_that_cannot_be_read_is_not_shown(
    operator: Operator, tmp_path: Path
) -> None:
    for text in ("s3cret", "https://s3cret@host/db", "postgresql://s3cret:x@[h/", "postgresql://%"):
        (tmp_path / "database-url").write_text(text)
        assert operator.refused("issuers", "list") == (
            "CMS_DATABASE_URL_FILE: the database URL cannot be read; see docs/settings.md"
        )


def test_a_file_of_the_database_url_that_serve_refuses_commands_refuse(
    operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "database-url"
    for content, mode, wrong in (
        (b"\xff", 0o600, "no text"),
        (
            b"",
            0o644,
            "a secret, and its mode 0644 is for every user: chmod 0600 it, or 0640 for a group",
        ),
    ):
        file.write_bytes(content)
        file.chmod(mode)
        said = f"CMS_DATABASE_URL_FILE: {wrong}; see docs/settings.md"
        assert operator.refused("issuers", "list") == said
    file.unlink()
    said = "CMS_DATABASE_URL_FILE: No such file or directory; see docs/settings.md"
    assert operator.refused("issuers", "list") == said


def test_a_database_without_tables_is_said_so(
    operator: Operator, postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / "database-url").write_text(postgres.url("postgres"))
    assert operator.refused("issuers", "list") == (
        "the database has no tables: run alembic upgrade head"
    )


def test_tables_of_an_earlier_version_are_said_so(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str
) -> None:
    run_sql(database_url, "ALTER TABLE cards DROP COLUMN personalised")
    assert operator.refused("cards", "list", sample_issuer.issuer_id) == (
        "the tables are of another version: run alembic upgrade head of this release, or use the"
        " one that they were upgraded for"
    )


def test_a_role_that_may_not_do_it_is_said_so(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    url = f"{database_url}&options=-c%20role%3Dpg_read_all_data"
    (tmp_path / "database-url").write_text(url)
    assert operator.must("issuers", "list")
    assert operator.refused("issuers", "suspend", sample_issuer.issuer_id) == (
        "this role of the database may not do that: its owner's may"
    )


def test_the_database_url_may_be_any_that_postgres_reads(
    operator: Operator, sample_issuer: SampleIssuer, database_url: str, tmp_path: Path
) -> None:
    for text in (
        database_url.replace("postgresql://", "postgres://"),
        psycopg.conninfo.make_conninfo(database_url),
        f"\N{BYTE ORDER MARK}{database_url}\n",
    ):
        (tmp_path / "database-url").write_text(text)
        assert sample_issuer.issuer_id in operator.must("issuers", "list")


def test_no_argument_takes_a_pan_a_pin_or_a_secret() -> None:
    named = {
        argument
        for argument in arguments_of(program_parser())
        if re.search("pan|pin|secret", argument)
    }
    paths = {"secret_file", "new_secret_file"}
    assert named == {*paths, "old_secret_valid_minutes"}


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    return (action.dest for _, action in actions_of(parser))


def actions_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Every argument of a parser and of those below it, and whose it is."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from actions_of(sub)
        else:
            yield parser.prog, action


PARSERS = (
    program_parser,
    hsm.__main__.program_parser,
    cms.sandbox.__main__.program_parser,
    d1_command.program_parser,
)


@pytest.mark.parametrize("build", PARSERS, ids=lambda build: build.__module__)
def test_help_explains_every_argument(build: Callable[[], argparse.ArgumentParser]) -> None:
    arguments = list(actions_of(build()))
    assert len(arguments) > 3
    assert [(prog, action.dest) for prog, action in arguments if not action.help] == []


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str | None]]:
    """Every noun and command of a parser and of those below it, and its line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {listed.dest: listed.help for listed in action._choices_actions}
            for name, sub in action.choices.items():
                yield sub.prog, helps.get(name)
                yield from commands_of(sub)


@pytest.mark.parametrize("build", PARSERS[:3], ids=lambda build: build.__module__)
def test_help_explains_every_command(build: Callable[[], argparse.ArgumentParser]) -> None:
    commands = list(commands_of(build()))
    assert len(commands) > 3
    assert [prog for prog, text in commands if not text] == []


@pytest.mark.parametrize("build", PARSERS, ids=lambda build: build.__module__)
def test_a_choice_is_what_is_typed(build: Callable[[], argparse.ArgumentParser]) -> None:
    for prog, action in actions_of(build()):
        choices = action.choices or ()
        assert [choice for choice in choices if type(choice) not in (str, int)] == [], prog


def test_a_choice_that_there_is_not_is_refused_with_those_that_there_are(
    operator: Operator,
) -> None:
    assert "choose from 'inactive'" in operator("cards", "state", "a", "b", "x").err


# What the parser does not load

#: Whatever a command works with; none of it says what may be typed.
HEAVY = {
    *("alembic", "anyio", "argon2", "asyncio", "cryptography", "fastapi", "httpx", "jwcrypto"),
    *("pkcs11", "psycopg", "pydantic", "pydantic_settings", "sqlalchemy", "starlette", "uvicorn"),
    *("crypto", "hsm"),
}
#: What both programs begin and end with: the standard library only.
SHARED = {
    *("hsm", "hsm.command_help", "hsm.command_line", "hsm.completion", "hsm.hardening"),
    "hsm.printing",
}


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "cards --help",
        "cards import --help",
        "serve --help",
        "clients add",
        "no-such-noun",
    ],
)
def test_help_and_a_refused_word_load_neither_libraries_nor_the_vault(words: str) -> None:
    loaded = loaded_by("cms", *words.split())
    assert "argparse" in loaded
    assert {module.partition(".")[0] for module in loaded - SHARED} & HEAVY == set()


def test_what_a_command_works_with_is_seen_to_be_loaded() -> None:
    loaded = loaded_by("cms", "issuers", "list")
    assert {"hsm", "psycopg", "pydantic", "sqlalchemy"} <= loaded
