"""Each request statement can be read as SQL, in a file, and is about one issuer.

A change of a statement shows in its file: run ``make sql``, read the difference, commit it.
"""

import re
from collections.abc import Mapping
from typing import Final

import pytest

from tests.cms.persistence.issuer_rule import unbound
from tests.cms.persistence.rendered_sql import (
    rendered,
    request_statements,
    written,
)

STATEMENTS: Final = request_statements()
#: What is not about one issuer: the tables it reads, and why.
OF_NO_ISSUER: Final[Mapping[str, tuple[list[str], str]]] = {
    "READ_NEWEST_MANIFESTS": (
        ["issuers", "manifests"],
        "The manifests of all issuers are on their way to the vault.",
    ),
    "READ_ISSUER_IDS": (
        ["issuers"],
        "By the hashes of their ids it is found of which issuer a control token is.",
    ),
    "READ_HOST_ANSWERS": (["manifest_hosts"], "What this host answered of them."),
    "READ_CONNECTION": ([], "What a connection leads to."),
    "LIMIT_CONNECTION": (["pg_settings"], "A setting of the connection."),
    "READ_FITNESS": (
        ["pg_stat_activity", "pg_stat_replication"],
        "The settings of the server, and whether its commits reach a standby.",
    ),
    "READ_REVISION": (["alembic_version"], "The migration that the database had last."),
}


def test_every_statement_has_its_file_and_every_file_its_statement() -> None:
    assert written() == rendered(), "run make sql"


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_file_differs_from_what_is_sent_in_white_space_only(name: str) -> None:
    sent = STATEMENTS[name].sql
    assert re.sub(r"\s", "", rendered()[name]) == re.sub(r"\s", "", sent)


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - OF_NO_ISSUER.keys()))
def test_a_statement_is_about_one_issuer(name: str) -> None:
    assert unbound(STATEMENTS[name].sql) == []
    assert "%(issuer_id)s" in STATEMENTS[name].sql


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - OF_NO_ISSUER.keys()))
def test_a_statement_that_forgot_one_comparison_would_be_found(name: str) -> None:
    sql = STATEMENTS[name].sql
    for comparison in re.finditer(r"\w+\.issuer_id = [\w.%():]+", sql):
        forgetful = sql[: comparison.start()] + "true" + sql[comparison.end() :]
        assert unbound(forgetful), comparison[0]


@pytest.mark.parametrize("name", OF_NO_ISSUER)
def test_what_is_of_no_issuer_reads_what_it_has_to(name: str) -> None:
    tables, _reason = OF_NO_ISSUER[name]
    assert unbound(STATEMENTS[name].sql) == tables
    assert "%(issuer_id)s" not in STATEMENTS[name].sql
