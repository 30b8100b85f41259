"""The table of key generations as an operator loads it; retiring a key needs proof."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from hsm.pkcs11.keys import KeyLabel
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import Operator, use_vault
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import open_issuer, run_sql
from tests.key_tables import FIRST, Tables, rotated
from tests.operators import open_vault


class Loading:
    """An operator with a host of their own, who signs tables and loads them."""

    def __init__(self, operator: Operator, directory: Path) -> None:
        self.operator = operator
        self.hsm_token = SoftwareToken()
        self.vault: Vault = open_vault(self.hsm_token, directory)
        self.file = directory / "table.jws"
        self.tables = Tables()

    def words(self, states: Mapping[str, str]) -> tuple[object, ...]:
        for label in map(KeyLabel.parse, states):
            if label not in self.hsm_token.labels():
                self.hsm_token.generate(label)
        self.file.write_text(self.tables.next(states))
        return ("generations", "load", self.file)


@pytest.fixture
def loading(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loading:
    directory = tmp_path / "host"
    directory.mkdir()
    loading = Loading(operator, directory)
    use_vault(monkeypatch, loading.vault)
    return loading


def test_a_table_is_loaded_and_shown(loading: Loading) -> None:
    shown = loading.operator.must("generations", "show")
    assert shown.splitlines()[0] == "table: none"
    said = loading.operator.must(*loading.words(rotated("d1")))
    assert said == "version 1 is in force on this host\n"
    shown = loading.operator.must("generations", "show", "--json")
    keys = {key["label"]: key for key in json.loads(shown)}
    assert (keys["d1.g1"]["state"], keys["d1.g2"]["state"]) == ("decrypt-only", "active")
    assert keys["d1.g2"]["kid"]
    assert keys["d1.g2"]["jwes"] == 0


def test_the_version_that_is_in_force_is_told_as_json(loading: Loading) -> None:
    said = loading.operator.must(*loading.words(rotated("d1")), "--json")
    assert json.loads(said) == {"version": 1}


def test_a_sealing_key_is_retired_only_when_no_row_needs_it(
    loading: Loading, database_url: str
) -> None:
    loading.operator.must(*loading.words(FIRST))
    open_issuer(database_url, loading.vault)
    loading.operator.must(*loading.words(rotated("record")))
    before = dict(loading.tables.states), dict(loading.tables.since), loading.tables.version
    gone = {**rotated("record"), "record.g1": "retired", "record-mac.g1": "retired"}
    said = loading.operator.refused(*loading.words(gone))
    assert said.startswith("stored values need keys that would open nothing: record.g1 (")
    loading.tables.states, loading.tables.since, loading.tables.version = before
    compromised = {**gone, "record.g1": "compromised", "record-mac.g1": "compromised"}
    destroyed = {**compromised, "record.g1": "destroyed", "record-mac.g1": "destroyed"}
    for states in (compromised, destroyed):
        answer = loading.operator(*loading.words(states))
        assert (answer.code, "record.g1 (" in answer.err) == (0, True)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (b"postgresql://nobody@127.0.0.1:9/none", ""),
        (b"\xff", "CMS_DATABASE_URL_FILE: no text; see docs/settings.md\n"),
        (None, "no database is named\n"),
    ],
    ids=["away", "no text", "not named"],
)
def test_a_key_is_compromised_while_the_database_is_away(
    loading: Loading, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: bytes | None, why: str
) -> None:
    loading.operator.must(*loading.words(FIRST))
    monkeypatch.delenv("CMS_DATABASE_URL_FILE")
    if url is not None:
        file = tmp_path / "url"
        file.touch(0o600)
        file.write_bytes(url)
        monkeypatch.setenv("CMS_DATABASE_URL_FILE", str(file))
    compromised = {**rotated("record"), "record.g1": "compromised", "record-mac.g1": "compromised"}
    said = loading.operator(*loading.words(compromised))
    assert (said.code, said.out) == (0, "version 2 is in force on this host\n")
    assert said.err.startswith(f"not counted is what opens under no key now: {why}")
    states = {key.label: key.state for key in loading.vault.read_generations().keys}
    assert states["record.g1"] == "compromised"
    # The control: to retire one waits for the count.
    also = rotated("d1", before=compromised)
    assert loading.operator(*loading.words(also)).code == 0
    assert loading.operator(*loading.words({**also, "d1.g1": "retired"})).code != 0
    assert loading.vault.read_generations().version == 3


def test_no_row_under_a_key_that_opens_nothing_stops_a_table_that_takes_another_out_of_use(
    loading: Loading, database_url: str
) -> None:
    loading.operator.must(*loading.words(FIRST))
    open_issuer(database_url, loading.vault)
    for row in (b"\x01\x06zzz.g1", b"\x01\x06pin.g9", b"?"):
        run_sql(database_url, "UPDATE cards SET sealed_pin = %s", row + bytes(32))
        compromised = {**rotated("d1"), "d1.g1": "compromised"}
        said = loading.operator(*loading.words(compromised))
        assert said.code == 0
        assert "open under no key" in said.err


def test_what_is_retired_is_not_destroyed_while_a_row_needs_it(
    loading: Loading, database_url: str
) -> None:
    loading.operator.must(*loading.words(FIRST))
    loading.operator.must(*loading.words(rotated("record")))
    gone = {**rotated("record"), "record.g1": "retired", "record-mac.g1": "retired"}
    loading.operator.must(*loading.words(gone))
    # A backup is restored.
    open_issuer(database_url, loading.vault)
    run_sql(
        database_url,
        "UPDATE cards SET sealed_record = %s",
        b"\x01\x09record.g1" + bytes(364),
    )
    before = dict(loading.tables.states), dict(loading.tables.since), loading.tables.version
    destroyed = {**gone, "record.g1": "destroyed", "record-mac.g1": "destroyed"}
    assert "record.g1 (" in loading.operator.refused(*loading.words(destroyed))
    loading.tables.states, loading.tables.since, loading.tables.version = before
    said = loading.operator(*loading.words({**gone, "d1.g1": "compromised", "d1.g2": "active"}))
    assert (said.code, "record.g1 (" in said.err) == (0, True)


def test_an_earlier_pin_that_waits_for_a_chip_needs_its_key(
    loading: Loading, database_url: str
) -> None:
    loading.operator.must(*loading.words(FIRST))
    open_issuer(database_url, loading.vault)
    run_sql(
        database_url,
        "INSERT INTO card_scripts (issuer_id, card_id, counter, sealed_earlier_pin)"
        " VALUES ('testbank01', 'card-1', 1, %s)",
        b"\x01\x06pin.g1" + bytes(32),
    )
    loading.operator.must(*loading.words(rotated("pin")))
    gone = {**rotated("pin"), "pin.g1": "retired", "pin-mac.g1": "retired"}
    assert "pin.g1 (1)" in loading.operator.refused(*loading.words(gone))


def test_a_first_table_names_every_key_that_a_row_needs(
    loading: Loading, database_url: str
) -> None:
    open_issuer(database_url, loading.vault)
    newer = {
        **{k: v for k, v in FIRST.items() if not k.startswith("record")},
        "record.g2": "active",
        "record-mac.g2": "active",
    }
    assert "record.g1 (" in loading.operator.refused(*loading.words(newer))
