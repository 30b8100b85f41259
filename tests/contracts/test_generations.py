"""What a table of key generations lets be done with each key, at every vault."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hsm import generations
from hsm.errors import (
    GrantRefused,
    KeyNotInUse,
    ManifestRefused,
    PinRejected,
    VaultUnavailable,
)
from hsm.log.lines import Action
from hsm.manifest.body import canonical_body
from hsm.manifest.signed import GENERATIONS_TYPE, MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE
from hsm.pkcs11 import keyring
from hsm.pkcs11.keys import OWN_ROLES, KeyLabel, KeyRole
from hsm.port import PublicKeyRole
from tests.contracts.issuer import CARD, PIN, block, open_host
from tests.contracts.rotating import Rotating
from tests.contracts.software_token import SoftwareToken
from tests.contracts.test_receipts import lines
from tests.key_tables import FIRST, Tables, rotated, table
from tests.operators import OPERATORS, minimum_versions, prepare_host, reopen_vault, signed
from tests.pans import PAN


@pytest.fixture(autouse=True)
def _looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other workers of a host look at once, not when 0.1 s are over."""
    monkeypatch.setattr(keyring, "LOOK_SECONDS", 0.0)


@pytest.fixture
def rotating(tmp_path: Path) -> Rotating:
    host = Rotating(tmp_path)
    host.load(FIRST)
    return host


def test_a_new_key_is_used_for_nothing_before_a_table_makes_it_active(rotating: Rotating) -> None:
    for role in OWN_ROLES:
        rotating.hsm_token.generate(KeyLabel(role, 2))
    record = rotating.issuer.seal_record()
    assert bytes(record).find(b"record.g1") > 0
    again = reopen_vault(rotating.hsm_token, rotating.issuer.host.directory)
    assert again._keyring.active[KeyRole.RECORD] == KeyLabel(KeyRole.RECORD, 1)
    for public in PublicKeyRole:
        assert len(again.public_jwks(public)["keys"]) == 1


@pytest.mark.parametrize("role", [r for r in OWN_ROLES if not r.endswith("-mac")] + ["grant-mac"])
def test_what_the_generation_before_made_opens_while_it_is_decrypt_only(
    rotating: Rotating, role: str
) -> None:
    issuer = rotating.issuer
    record = issuer.seal_record()
    pin = issuer.set_pin(PIN, record)
    jwe, granted = issuer.pin_jwe({"pinBlock": "0" * 16}), issuer.grant_view(record)
    feed = issuer.feed({"cardId": "x"})
    setting = issuer.grant_set(record, counter=1)
    page = issuer.page_jwe(setting)
    rotating.rotate(role)
    assert issuer.pin(pin, record) == PIN
    assert issuer.draw(granted, pin, record).startswith(b"\x89PNG")
    assert issuer.vault.set_pin_from_page(
        setting.grant, setting.control_token, page, record
    ).sealed_pin
    with pytest.raises(PinRejected):  # for its block, not for its key
        issuer.change(jwe, record)
    assert issuer.vault.seal_cards(feed, issuer.issuer_id)
    assert issuer.pin(issuer.set_pin(PIN, issuer.seal_record()), issuer.seal_record()) == PIN


def test_new_values_are_under_the_active_generation_and_say_so(rotating: Rotating) -> None:
    rotating.rotate("record", "pin", "grant-mac")
    record = rotating.issuer.seal_record()
    assert bytes(record).find(b"record.g2") > 0
    assert bytes(rotating.issuer.set_pin(PIN, record)).find(b"pin.g2") > 0
    assert bytes(rotating.issuer.grant_view(record).grant).find(b"grant-mac.g2") > 0


@pytest.mark.parametrize("state", ["retired", "compromised"])
def test_nothing_opens_with_a_key_that_is_retired_or_compromised(
    rotating: Rotating, state: str
) -> None:
    issuer = rotating.issuer
    record = issuer.seal_record()
    pin, granted = issuer.set_pin(PIN, record), issuer.grant_view(record)
    jwe = issuer.pin_jwe({"pinBlock": "0" * 16})
    rotating.rotate("record", "pin", "grant-mac", "d1")
    assert issuer.pin(pin, record) == PIN
    rotating.become(**{f"{name}__g1": state for name in ("pin", "pin_mac", "grant_mac", "d1")})
    with pytest.raises(KeyNotInUse):
        issuer.export(pin, record)
    with pytest.raises(GrantRefused):
        issuer.draw(granted, pin, record)
    with pytest.raises(PinRejected):
        issuer.change(jwe, record)
    rotating.become(record__g1=state, record_mac__g1=state)
    with pytest.raises(KeyNotInUse):
        issuer.grant_view(record)
    if state == "compromised":
        assert not issuer.vault.keeps_pin(record, issuer.seal_record(), CARD)
    else:
        # It may come back: nobody is to forget a PIN for it.
        with pytest.raises(KeyNotInUse):
            issuer.vault.keeps_pin(record, issuer.seal_record(), CARD)


def test_what_is_retired_comes_back_and_what_is_compromised_never(rotating: Rotating) -> None:
    record = rotating.issuer.seal_record()
    rotating.rotate("record")
    rotating.become(record__g1="retired", record_mac__g1="retired")
    rotating.become(record__g1="decrypt-only", record_mac__g1="decrypt-only")
    assert rotating.issuer.grant_view(record)
    rotating.become(record__g1="compromised", record_mac__g1="compromised")
    for state in ("active", "decrypt-only", "retired", "loaded"):
        with pytest.raises(ManifestRefused):
            rotating.become(record__g1=state, record_mac__g1=state)
    rotating.become(record__g1="destroyed", record_mac__g1="destroyed")
    with pytest.raises(ManifestRefused, match="cannot become"):
        rotating.become(record__g1="compromised", record_mac__g1="compromised")


def test_files_of_the_host_are_macced_anew_so_that_their_key_can_be_retired(
    rotating: Rotating,
) -> None:
    with pytest.raises(ManifestRefused, match="under a key that the table takes out of use"):
        rotating.rotate("manifest-mac", state="compromised")
    rotating.rotate("manifest-mac")
    directory = rotating.issuer.host.directory
    written = [
        path.read_text() for path in directory.glob("[!.]*.json") if "cmac" in path.read_text()
    ]
    assert len(written) == 3
    assert all('"key_label": "manifest-mac.g2"' in text for text in written)
    rotating.become(manifest_mac__g1="compromised")
    again = reopen_vault(rotating.hsm_token, directory)
    assert again.read_manifest(rotating.issuer.issuer_id).version == 1


def test_an_older_table_and_one_that_too_few_signed_are_refused(rotating: Rotating) -> None:
    first = rotating.tables.next(FIRST)
    rotating.rotate("pin")
    with pytest.raises(ManifestRefused, match="older"):
        rotating.vault.load_generations(first)
    alone = signed(table(rotating.states, 9), GENERATIONS_TYPE, OPERATORS[:1])
    with pytest.raises(ManifestRefused, match="too few"):
        rotating.vault.load_generations(alone)
    as_manifest = signed(table(rotating.states, 9), MANIFEST_TYPE)
    with pytest.raises(ManifestRefused, match="too few"):
        rotating.vault.load_generations(as_manifest)


def test_a_new_host_whose_minimum_versions_name_a_table_serves_nothing_before_it_has_one(
    rotating: Rotating, tmp_path: Path
) -> None:
    directory = tmp_path / "new"
    directory.mkdir()
    prepare_host(directory)
    listed = {**json.loads(minimum_versions({})), "generations": 3}
    vault = reopen_vault(rotating.hsm_token, directory)
    with pytest.raises(VaultUnavailable):
        vault._keyring.mac(KeyLabel(KeyRole.PIN_MAC, 7), b"")
    vault.load_minimum_versions(signed(canonical_body(listed), MINIMUM_VERSIONS_TYPE))
    for refused in (vault, reopen_vault(rotating.hsm_token, directory)):
        with pytest.raises(ManifestRefused, match="lacks its table"):
            refused.public_jwks(PublicKeyRole.D1)
    with pytest.raises(ManifestRefused, match="older"):
        vault.load_generations(signed(table(FIRST, 2), GENERATIONS_TYPE))
    vault.load_generations(signed(table(FIRST, 3), GENERATIONS_TYPE))
    assert vault.public_jwks(PublicKeyRole.D1)["keys"]
    # An older table, as this or another host stored it, is not believed by a worker that starts.
    older = (rotating.issuer.host.directory / "generations.json").read_bytes()
    (directory / "generations.json").write_bytes(older)
    with pytest.raises(ManifestRefused, match="below this host's minimum version"):
        reopen_vault(rotating.hsm_token, directory).public_jwks(PublicKeyRole.D1)


def test_a_table_without_an_active_key_that_is_there_is_refused(rotating: Rotating) -> None:
    text = rotating.tables.next(rotated("pin"))
    with pytest.raises(ManifestRefused, match="not on the HSM token"):
        rotating.vault.load_generations(text)


def test_a_role_that_came_with_a_later_release_is_as_without_a_table(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {label: state for label, state in FIRST.items() if label != "page.g1"}
    text = signed(table(without), GENERATIONS_TYPE)
    vault = open_host(rotating.hsm_token, rotating.issuer.host.directory.parent).vault
    with pytest.raises(ManifestRefused, match="each role"):
        vault.load_generations(text)
    # The release before knew no role page, and took this.
    with monkeypatch.context() as patch:
        patch.setattr(generations, "OWN_ROLES", [r for r in OWN_ROLES if r is not KeyRole.PAGE])
        vault.load_generations(text)
    (key,) = vault.public_jwks(PublicKeyRole.PAGE)["keys"]
    states = {one.label: one.state for one in vault.read_generations().keys}
    assert (states["page.g1"], states["d1.g1"]) == ("active", "active")
    since = {"page.g1": "2021-01-01T00:00:00+00:00"}
    assert vault.load_generations(signed(table(FIRST, 2, since), GENERATIONS_TYPE)) == 2
    assert vault.public_jwks(PublicKeyRole.PAGE)["keys"] == [key]


def test_the_page_gets_the_active_key_and_partners_all_that_open(rotating: Rotating) -> None:
    rotating.rotate("d1", "page", "intake")
    keys = {role: rotating.vault.public_jwks(role)["keys"] for role in PublicKeyRole}
    assert [len(keys[role]) for role in PublicKeyRole] == [2, 1, 2, 1]
    listed = {one.label: one for one in rotating.vault.read_generations().keys}
    assert [key["kid"] for key in keys[PublicKeyRole.D1]] == [
        listed["d1.g2"].kid,
        listed["d1.g1"].kid,
    ]
    rotating.become(d1__g1="retired")
    assert len(rotating.vault.public_jwks(PublicKeyRole.D1)["keys"]) == 1


def test_partners_are_told_of_a_key_when_every_host_opens_with_it(rotating: Rotating) -> None:
    roles = ("d1", "intake", "token-sign")
    for role in roles:
        rotating.hsm_token.generate(KeyLabel(KeyRole(role), 2))
    rotating.become(**{f"{role.replace('-', '_')}__g2": "loaded" for role in roles})
    shown = {role: len(rotating.vault.public_jwks(PublicKeyRole(role))["keys"]) for role in roles}
    # One that verifies is harmless before it signs.
    assert shown == {"d1": 1, "intake": 1, "token-sign": 2}


def test_a_table_that_is_taken_is_in_the_log_of_the_vault(rotating: Rotating) -> None:
    rotating.rotate("d1")
    event = lines(rotating.issuer.host)[-1].event
    assert (event.what, len(event.record or "")) == (Action.TABLE, 64)


def test_uses_are_counted_by_kid(rotating: Rotating) -> None:
    record = rotating.issuer.seal_record()
    rotating.issuer.set_pin(PIN, record)
    with pytest.raises(PinRejected):
        rotating.issuer.change(rotating.issuer.pin_jwe({"pinBlock": "0"})[:-4] + "AAAA", record)
    rotating.vault.health()
    uses = {
        one.label: (one.jwes, bool(one.last_jwe)) for one in rotating.vault.read_generations().keys
    }
    assert uses["d1.g1"] == (1, True)
    assert uses["intake.g1"] == (1, True)
    assert uses["page.g1"] == (0, False)


def test_workers_follow_without_a_restart(rotating: Rotating) -> None:
    other = reopen_vault(rotating.hsm_token, rotating.issuer.host.directory)
    assert other._keyring.active[KeyRole.PIN].generation == 1
    rotating.rotate("pin")
    assert other._keyring.active[KeyRole.PIN].generation == 2


def test_hosts_that_take_tables_one_after_another_open_what_each_other_seals(
    rotating: Rotating, tmp_path: Path
) -> None:
    """First the new key is loaded on every host, then it becomes active on one after another."""
    issuer, other = rotating.issuer, Tables()
    rotating.hsm_token.generate(KeyLabel(KeyRole.RECORD, 2))
    rotating.hsm_token.generate(KeyLabel(KeyRole.RECORD_MAC, 2))
    last = replace(issuer, host=issuer.host.another())
    last.vault.load_manifest(last.signed())
    last.vault.load_generations(other.next(FIRST))
    rotating.rotate("record")
    record = issuer.seal_record()
    with pytest.raises(KeyNotInUse):  # the control: the last host was not told of the key
        last.grant_view(record)
    loaded = {**FIRST, "record.g2": "loaded", "record-mac.g2": "loaded"}
    last.vault.load_generations(other.next(loaded))
    assert last.grant_view(record)
    assert bytes(last.seal_record()).find(b"record.g1") > 0
    assert issuer.grant_view(last.seal_record())


class Elsewhere(SoftwareToken):
    """An HSM token on which another process makes keys: they are found when they are looked for."""

    def __init__(self, others: SoftwareToken) -> None:
        super().__init__([])
        self.others = others
        self.find_keys()

    def find_keys(self) -> None:
        self.secrets, self.private = dict(self.others.secrets), dict(self.others.private)
        self.kinds = dict(self.others.kinds)


@pytest.mark.parametrize("role", ["pin", "d1", "manifest-mac", "log-mac", "token-sign"])
def test_keys_that_another_process_made_are_found_with_the_table(
    rotating: Rotating, role: str
) -> None:
    hsm_token = Elsewhere(rotating.hsm_token)
    other = reopen_vault(hsm_token, rotating.issuer.host.directory)
    other.health()
    rotating.rotate(role)
    assert KeyLabel(KeyRole(role), 2) not in hsm_token.labels()
    other.health()
    assert other._keyring.active[KeyRole(role)].generation == 2
    assert other.read_manifest(rotating.issuer.issuer_id).version == 1


@pytest.mark.parametrize("role", ["pin", "record", "page", "d1", "manifest-mac", "grant-mac"])
def test_a_worker_that_has_just_looked_takes_what_another_made_under_a_new_key(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr(keyring, "LOOK_SECONDS", 3600.0)
    issuer = rotating.issuer
    directory = issuer.host.directory
    other = reopen_vault(Elsewhere(rotating.hsm_token), directory)
    other.health()
    rotating.rotate(role)
    record = issuer.seal_record()
    pin = issuer.set_pin(PIN, record)
    there = replace(issuer, host=replace(issuer.host, vault=other))
    setting = issuer.grant_set(record)
    page = issuer.page_jwe(setting)
    given = (setting.grant, setting.control_token, page, record)
    assert other.set_pin_from_page(*given).sealed_pin
    assert there.pin(pin, record) == PIN
    jwe = issuer.pin_jwe({"pinBlock": block(PIN, PAN)})
    assert there.change(jwe, record).sealed_pin


def test_a_table_that_is_removed_or_put_back_is_missed(rotating: Rotating) -> None:
    file = rotating.issuer.host.directory / "generations.json"
    older = file.read_bytes()
    rotating.rotate("pin")
    record = rotating.issuer.seal_record()
    file.write_bytes(older)
    with pytest.raises(ManifestRefused, match="older"):
        rotating.issuer.grant_view(record)
    file.unlink()
    with pytest.raises(ManifestRefused, match="lacks its table"):
        rotating.issuer.grant_view(record)
