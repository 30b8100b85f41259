"""``python -m cms manifest``: manifests are stored, shown, and awaited on their hosts."""

import io
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cms.operator import manifests
from cms.persistence import admin
from cms.sandbox import HANG_SECONDS
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from tests.cms.operator.operator_at_work import Operator, use_vault
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import run_sql
from tests.operators import (
    OPERATORS,
    OperatorKey,
    manifest,
    minimum_versions,
    open_vault,
    signed,
)

ISSUER = "testbank01"
TOO_FEW = "too few signatures of operators who may sign for this issuer"

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a text to a file."""

    def put(text: str) -> Path:
        file = tmp_path / "manifest.jws"
        file.write_text(text)
        return file

    return put


@pytest.fixture(autouse=True)
def without_a_vault(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests are loaded from a machine that has none."""
    monkeypatch.delenv("CMS_VAULT_SOCKET_DIRECTORY")


@pytest.fixture(autouse=True)
def issuer(operator: Operator) -> None:
    operator.must("issuers", "add", ISSUER, "--name", "A bank")


def answer(url: str, host: str, version: int, outcome: str = "taken") -> None:
    """Say what a host says."""
    run_sql(
        url,
        "INSERT INTO manifest_hosts (issuer_id, host, version, outcome) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (issuer_id, host) DO UPDATE SET version = excluded.version,"
        " outcome = excluded.outcome",
        *(ISSUER, host, version, outcome),
    )


def listed(operator: Operator) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = json.loads(operator.must("manifest", "list", "--json"))
    return rows


def test_a_manifest_is_stored_listed_and_shown(
    operator: Operator, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        signed(manifest(ISSUER, version, policy={"length_max": 4 + version})) for version in (1, 2)
    ]
    operator.must("manifest", "load", put(texts[0]))
    monkeypatch.setattr("sys.stdin", io.StringIO(texts[1]))
    operator.must("manifest", "load", "-")
    assert json.loads(operator.must("manifest", "show", ISSUER))["policy"]["length_max"] == 6
    first = ("manifest", "show", ISSUER, "--version", "1")
    assert json.loads(operator.must(*first))["policy"]["length_max"] == 5
    assert operator.must(*first, "--signed").strip() == texts[0].strip()
    assert [(row["issuer_id"], row["version"], row["host"]) for row in listed(operator)] == [
        (ISSUER, 1, None),
        (ISSUER, 2, None),
    ]
    assert "reason=2" in operator.must("audit", "list", ISSUER, "--event", "manifest.loaded")


def test_what_is_shown_is_a_draft(operator: Operator, put: Put, tmp_path: Path) -> None:
    operator.must("manifest", "load", put(signed(manifest(ISSUER))))
    draft = tmp_path / "draft.json"
    draft.write_text(operator.must("manifest", "show", ISSUER))
    operator.must("clients", "add-app", draft, "testbank01-app")
    assert "testbank01-app" in operator.must("clients", "list", draft)


def test_who_has_which_version_is_listed(operator: Operator, put: Put, database_url: str) -> None:
    for version in (1, 2):
        operator.must("manifest", "load", put(signed(manifest(ISSUER, version))))
    answer(database_url, "a", 2)
    answer(database_url, "b", 1)
    answer(database_url, "c", 2, "no minimum versions")
    answer(database_url, "ahead", 9)
    found = [(row["version"], row["host"], row["outcome"]) for row in listed(operator)]
    assert found == [
        *((1, "b", "taken"), (2, "a", "taken"), (2, "c", "no minimum versions")),
        (9, "ahead", "taken"),
    ]
    lines = operator.must("manifest", "list").splitlines()
    assert len(lines) == len(found)
    assert "host=b  outcome=taken" in lines[0]


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", "not a signed text in canonical form"),
        (manifest(ISSUER).decode(), "not a signed text in canonical form"),
        (signed(b"{}"), "refused members: "),
        (signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE), "refused members: "),
        (signed(manifest(ISSUER, valid_until="2021-01-01T00:00:00Z")), "the manifest has ended"),
        (signed(manifest("nobodybank")), "no such issuer"),
    ],
)
def test_what_no_host_would_take_is_not_stored(
    operator: Operator, put: Put, text: str, refusal: str
) -> None:
    assert operator.refused("manifest", "load", put(text)).startswith(refusal)
    assert listed(operator) == []


def test_what_the_vault_of_this_host_refuses_is_not_stored(
    operator: Operator, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = open_vault(SoftwareToken(), tmp_path)
    use_vault(monkeypatch, vault)
    for operators in (OPERATORS[:1], (OPERATORS[0], OperatorKey())):
        file = put(signed(manifest(ISSUER), operators=operators))
        assert operator.refused("manifest", "load", file) == TOO_FEW
    assert listed(operator) == []
    for _ in range(2):
        operator.must("manifest", "load", put(signed(manifest(ISSUER))))
    assert vault.manifest_version(ISSUER) == 1
    assert len(listed(operator)) == 1


def test_what_the_database_refuses_the_vault_is_not_given(
    operator: Operator, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = open_vault(SoftwareToken(), tmp_path)
    use_vault(monkeypatch, vault)
    refused = operator.refused("manifest", "load", put(signed(manifest("nobodybank"))))
    assert refused == "no such issuer"
    assert vault.manifest_version("nobodybank") == 0


def test_an_older_version_is_not_stored(operator: Operator, put: Put) -> None:
    operator.must("manifest", "load", put(signed(manifest(ISSUER, 2))))
    older = put(signed(manifest(ISSUER, 1)))
    assert operator.refused("manifest", "load", older) == "the issuer has a newer manifest"


def test_a_version_is_stored_anew_until_a_host_has_taken_it(
    operator: Operator, put: Put, database_url: str
) -> None:
    short = signed(manifest(ISSUER), operators=OPERATORS[:1])
    full = signed(manifest(ISSUER))
    operator.must("manifest", "load", put(short))
    answer(database_url, "a", 1, TOO_FEW)
    operator.must("manifest", "load", put(full))
    show = ("manifest", "show", ISSUER, "--signed")
    assert operator.must(*show).strip() == full.strip()
    # What it was refused for may be over.
    with admin.transaction(database_url) as database:
        assert admin.manifest_answers(database, ISSUER) == {}
    answer(database_url, "a", 1)
    operator.must("manifest", "load", put(full))
    assert operator.refused("manifest", "load", put(short)) == (
        "a host has taken another manifest of this version"
    )
    assert operator.must(*show).strip() == full.strip()


def test_a_manifest_that_is_not_there_cannot_be_shown(operator: Operator, put: Put) -> None:
    assert operator.refused("manifest", "show", ISSUER) == "no such manifest"
    assert operator.refused("manifest", "show", "nobodybank") == "no such issuer"
    operator.must("manifest", "load", put(signed(manifest(ISSUER))))
    assert operator.refused("manifest", "show", ISSUER, "--version", 2) == "no such manifest"
    too_large = operator.refused("manifest", "show", ISSUER, "--version", 2**70)
    assert too_large == "a value does not fit its column"


# Hosts


def test_loading_waits_until_every_host_has_the_version_or_a_newer_one(
    operator: Operator, put: Put, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "POLL_SECONDS", 0.01)
    file = put(signed(manifest(ISSUER, 2)))
    answer(database_url, "a", 1)
    answer(database_url, "b", 3)
    later = threading.Timer(0.2, answer, (database_url, "a", 2))
    later.start()
    words = ("--host", "a", "b", "--wait-seconds", HANG_SECONDS)
    assert operator.must("manifest", "load", file, *words) == ""
    later.join()
    with admin.transaction(database_url) as database:
        assert admin.manifest_answers(database, ISSUER)["a"].version == 2


def test_a_host_that_refuses_ends_it_with_its_reason(
    operator: Operator, put: Put, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: float) -> None:
        answer(database_url, "b", 2, "this host has no minimum versions")

    monkeypatch.setattr("time.sleep", refuse)
    answer(database_url, "a", 2)
    file = put(signed(manifest(ISSUER, 2)))
    refusal = operator.refused("manifest", "load", file, "--host", "a", "--host", "b")
    assert refusal == "stored; b refused it: this host has no minimum versions"


def test_a_refusal_of_before_is_not_taken_for_one_of_now(
    operator: Operator, put: Put, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(signed(manifest(ISSUER, 2)))
    operator.must("manifest", "load", file)
    answer(database_url, "a", 2, "this host has no minimum versions")

    def take(_: float) -> None:
        answer(database_url, "a", 2)

    monkeypatch.setattr("time.sleep", take)
    operator.must("manifest", "load", file, "--host", "a")


def test_a_host_that_does_not_answer_is_named(
    operator: Operator, put: Put, database_url: str
) -> None:
    answer(database_url, "a", 1)
    file = put(signed(manifest(ISSUER)))
    words = ("--host", "a", "lost", "old", "--wait-seconds", "0")
    assert (
        operator.refused("manifest", "load", file, *words) == "stored; no answer yet of lost, old"
    )
    assert len(listed(operator)) == 1
