"""What the vault does beyond its contract: which keys it takes, and what it calls healthy."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from crypto.jose import base64url
from crypto.secret import Secret
from hsm.errors import FeedRefused, ManifestRefused, PinRejected, VaultUnavailable
from hsm.pkcs11.fingerprints import fingerprint
from hsm.pkcs11.keys import OWN_ROLES, SHARED_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.port import PublicKeyRole, ValueKind
from tests.contracts.issuer import PIN, Host, Issuer, block, jwe_to, open_host, open_issuer
from tests.contracts.partner import ISSUER_ID, open_partner, share_keys
from tests.contracts.software_token import SoftwareToken
from tests.feeds import described, feed
from tests.key_tables import make_newest_active
from tests.pans import PAN

FIRST = [KeyLabel(role, 1) for role in OWN_ROLES]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host over an HSM token with a key of each role of our own."""
    return open_host(SoftwareToken(), tmp_path)


@pytest.fixture
def issuer(host: Host) -> Issuer:
    return open_issuer(host)


@pytest.mark.parametrize("role", OWN_ROLES)
def test_no_vault_without_a_key_of_each_role(role: KeyRole, tmp_path: Path) -> None:
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        open_host(SoftwareToken([label for label in FIRST if label.role is not role]), tmp_path)


def test_shared_keys_are_no_part_of_what_every_vault_needs(tmp_path: Path) -> None:
    hsm_token = SoftwareToken()
    key = Secret(os.urandom(16))
    for role in SHARED_ROLES:
        hsm_token.import_key(KeyLabel(role, 1, "testbank01"), KeyKind.TDES_2KEY, key)
    issuer = open_issuer(open_host(hsm_token, tmp_path))
    sealed_record = issuer.seal_record()
    assert issuer.pin(issuer.set_pin(PIN, sealed_record), sealed_record) == PIN
    issuer.vault.health()


@pytest.mark.parametrize("role", [KeyRole.PIN, KeyRole.RECORD, KeyRole.VALUES])
def test_no_vault_while_a_sealing_key_has_no_mac_key_of_its_generation(
    role: KeyRole, tmp_path: Path
) -> None:
    labels = [KeyLabel(role, 2), *(x for x in FIRST if x.role is not role)]
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        open_host(SoftwareToken(labels), tmp_path)


@pytest.mark.parametrize("made", [[KeyRole.PIN], [KeyRole.PIN_MAC], [KeyRole.PIN, KeyRole.PIN_MAC]])
def test_without_a_table_a_key_that_is_made_seals_nothing(
    made: list[KeyRole], tmp_path: Path
) -> None:
    """Its custodians may not have signed yet, and it is destroyed if one of them does not."""
    hsm_token = SoftwareToken([*FIRST, *(KeyLabel(role, 2) for role in made)])
    issuer = open_issuer(open_host(hsm_token, tmp_path))
    sealed_record = issuer.seal_record()
    sealed_pin = issuer.set_pin(PIN, sealed_record)
    assert b"pin.g1" in bytes(sealed_pin)
    assert issuer.pin(sealed_pin, sealed_record) == PIN


def test_new_values_are_sealed_under_the_active_generation_and_old_ones_still_open(
    tmp_path: Path,
) -> None:
    hsm_token = SoftwareToken()
    before = open_issuer(open_host(hsm_token, tmp_path))
    old_pan = before.seal_record()
    old_pin = before.set_pin(PIN, old_pan)
    old_jwe = before.pin_jwe({"pinBlock": block(PIN)})
    for generation in (2, 10):
        for role in OWN_ROLES:
            hsm_token.generate(KeyLabel(role, generation))

    make_newest_active(before.host.vault, before.host.directory, hsm_token)
    after = replace(before, host=before.host.reopened())
    # What was taken and encrypted before still counts.
    assert after.set_jwe(old_jwe, old_pan)
    new_pan = after.seal_record()
    new_pin = after.set_pin(PIN, new_pan)
    assert b"record.g10" in bytes(new_pan)
    assert b"pin.g10" in bytes(new_pin)
    assert after.pin(old_pin, old_pan) == PIN
    assert after.pin(new_pin, new_pan) == PIN
    after.vault.load_manifest(after.signed(2))
    assert stored_under(after) == "manifest-mac.g10"


def stored_under(issuer: Issuer) -> str:
    file = issuer.host.directory / f"{issuer.issuer_id.encode().hex()}.json"
    return str(json.loads(file.read_bytes())["key_label"])


def test_values_are_sealed_under_the_active_generation_and_old_ones_still_open(
    tmp_path: Path,
) -> None:
    hsm_token = SoftwareToken()
    keys = share_keys(hsm_token)
    host = open_host(hsm_token, tmp_path)
    before = open_partner(host, keys, ISSUER_ID).asking(pvv={"key_index": 1})
    old = before.set_iso0()
    for role in (KeyRole.VALUES, KeyRole.VALUES_MAC):
        hsm_token.generate(KeyLabel(role, 10))
    make_newest_active(before.issuer.host.vault, before.issuer.host.directory, hsm_token)

    after = replace(before, issuer=replace(before.issuer, host=before.issuer.host.reopened()))
    new = after.set_iso0()
    assert b"values.g10" in bytes(new.values[ValueKind.PVV])
    assert after.exported(old) == after.exported(new)


def test_the_roles_of_public_keys_are_those_of_our_own_ec_keys() -> None:
    ours = {role.value for role in OWN_ROLES if role.kind is KeyKind.EC_P256}
    assert {role.value for role in PublicKeyRole} == ours


def test_public_keys_of_all_generations_are_listed_the_newest_first(tmp_path: Path) -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.D1, 10), KeyLabel(KeyRole.D1, 2)])
    host = open_host(hsm_token, tmp_path)
    make_newest_active(host.vault, host.directory, hsm_token)
    keys = host.reopened().vault.public_jwks(PublicKeyRole.D1)["keys"]
    points = [hsm_token.public_point(KeyLabel(KeyRole.D1, number)) for number in (10, 2, 1)]
    assert [key["x"] for key in keys] == [base64url.encode(point.x) for point in points]


def test_a_public_key_is_listed_by_its_own_kid_where_it_has_one(tmp_path: Path) -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.D1, 2)])
    host = open_host(hsm_token, tmp_path)
    make_newest_active(host.vault, host.directory, hsm_token)
    vault = host.reopened().vault
    thumbprints = [key["kid"] for key in vault.public_jwks(PublicKeyRole.D1)["keys"]]
    named = vault.public_jwks(PublicKeyRole.D1, {"bank-2026": 1, "bank-2025": 1})["keys"]
    assert [key["kid"] for key in named] == [thumbprints[0], "bank-2026"]


def test_a_jwe_may_name_our_key_by_its_own_kid_or_by_its_thumbprint(tmp_path: Path) -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.D1, 2)])
    issuer = open_issuer(open_host(hsm_token, tmp_path))
    make_newest_active(issuer.host.vault, issuer.host.directory, hsm_token)
    issuer = replace(issuer, host=issuer.host.reopened())
    sealed_record = issuer.seal_record()
    newest, oldest = issuer.vault.public_jwks(PublicKeyRole.D1)["keys"]

    def sent_to(key: dict[str, str], kid: str) -> str:
        return jwe_to({**key, "kid": kid}, {"pinBlock": block(PIN)})

    own_kids = [{"kid": "bank-2025", "generation": 1}, {"kid": "bank-2026", "generation": 2}]
    named = issuer.with_members(wire={"jwe": {"our_kids": own_kids}})
    for key, kid in (
        (oldest, "bank-2025"),
        (newest, "bank-2026"),
        (oldest, oldest["kid"]),
        (newest, newest["kid"]),
    ):
        assert named.set_jwe(sent_to(key, kid), sealed_record)
    for key, kid in ((newest, "bank-2025"), (oldest, "bank-2026"), (newest, "bank-2027")):
        with pytest.raises(PinRejected):
            named.set_jwe(sent_to(key, kid), sealed_record)
    with pytest.raises(PinRejected):  # the profile of another issuer names it, not this one's
        issuer.set_jwe(sent_to(newest, "bank-2026"), sealed_record)


def test_an_own_kid_does_not_open_what_is_for_another_role(issuer: Issuer) -> None:
    named = issuer.with_members(wire={"jwe": {"our_kids": [{"kid": "bank-2026"}]}})
    text = feed(named.issuer_id, {**named.d1_jwk, "kid": "bank-2026"}, described("card-1", PAN))
    with pytest.raises(FeedRefused, match="JWE"):
        named.vault.seal_cards(text, named.issuer_id)
    with pytest.raises(PinRejected):
        named.set_jwe(
            jwe_to({**named.intake_jwk, "kid": "bank-2026"}, {"pinBlock": block(PIN)}),
            named.seal_record(),
        )


def test_the_thumbprint_of_one_of_our_keys_names_no_other(issuer: Issuer) -> None:
    taken = [{"kid": issuer.intake_jwk["kid"], "generation": 1}]
    with pytest.raises(ManifestRefused, match="our_kids has another key's thumbprint"):
        issuer.with_members(wire={"jwe": {"our_kids": taken}})
    own = [{"kid": issuer.d1_jwk["kid"], "generation": 1}]
    assert issuer.with_members(wire={"jwe": {"our_kids": own}})


def test_an_own_kid_is_of_a_key_that_is_there(issuer: Issuer) -> None:
    newer = [{"kid": "bank-2026", "generation": 2}]
    with pytest.raises(ManifestRefused, match="our_kids names a key that is not there"):
        issuer.with_members(wire={"jwe": {"our_kids": newer}})


@pytest.mark.parametrize("member", ["recipient", "verification_host"])
def test_a_recipient_is_none_of_our_own_keys(issuer: Issuer, member: str) -> None:
    for key in (issuer.d1_jwk, issuer.intake_jwk):
        own = {**key, "kid": "of-the-attackers-choice"}
        with pytest.raises(ManifestRefused, match="a recipient is one of our own keys"):
            issuer.vault.load_manifest(issuer.signed(2, **{member: {"jwk": own}}))
    assert issuer.vault.manifest_version(issuer.issuer_id) == 1


def test_the_key_of_a_feed_is_none_of_our_own_keys(issuer: Issuer) -> None:
    (key,) = issuer.vault.public_jwks(PublicKeyRole.TOKEN_SIGN)["keys"]
    own = {"name": "personaliser", "jwk": {**key, "kid": "of-the-attackers-choice"}}
    with pytest.raises(ManifestRefused, match="a feed's key is one of our own keys"):
        issuer.vault.load_manifest(issuer.signed(2, feeds=[own]))


@pytest.mark.parametrize("label", FIRST, ids=str)
def test_health_fails_when_any_key_is_gone(label: KeyLabel, tmp_path: Path) -> None:
    hsm_token = SoftwareToken()
    vault = open_host(hsm_token, tmp_path).vault
    vault.health()
    hsm_token.secrets.pop(label, None)
    hsm_token.private.pop(label, None)
    with pytest.raises(VaultUnavailable):
        vault.health()


@pytest.mark.parametrize("verb", ["encrypt_cbc", "decrypt_block", "mac", "agree", "sign"])
def test_health_fails_when_the_hsm_token_answers_wrongly(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hsm_token = SoftwareToken()
    vault = open_host(hsm_token, tmp_path).vault
    sizes = {"agree": 32, "sign": 64}
    monkeypatch.setattr(hsm_token, verb, lambda *_: os.urandom(sizes.get(verb, 16)))
    with pytest.raises(VaultUnavailable, match="the token's answer is wrong"):
        vault.health()


def test_health_names_the_key_that_answers_wrongly_and_what_it_should_be(tmp_path: Path) -> None:
    hsm_token = SoftwareToken()
    vault = open_host(hsm_token, tmp_path).vault
    vault.health()
    key = KeyLabel(KeyRole.D1, 1)
    right = fingerprint(hsm_token, key)
    hsm_token.agree = lambda *_: os.urandom(32)  # type: ignore[method-assign]
    with pytest.raises(VaultUnavailable, match=re.escape(f"with d1.g1 ({right}), ")):
        vault.health()


def test_a_vault_shows_its_own_keys_and_none_of_an_issuer(tmp_path: Path) -> None:
    hsm_token = SoftwareToken()
    shared = KeyLabel(KeyRole.PVK, 1, "testbank01")
    hsm_token.import_key(shared, KeyKind.TDES_2KEY, Secret(os.urandom(16)))
    text = open_host(hsm_token, tmp_path).vault.metrics()
    for label in FIRST:
        labels = f'fingerprint="{fingerprint(hsm_token, label)}",key="{label}"'
        assert f"hsm_key_info{{{labels}}} 1.0" in text
    assert "testbank01" not in text


def test_what_was_counted_is_shown_without_an_hsm_token(tmp_path: Path) -> None:
    hsm_token = SoftwareToken()
    vault = open_host(hsm_token, tmp_path).vault
    hsm_token.secrets.clear()
    hsm_token.private.clear()
    text = vault.metrics()
    assert "hsm_call_seconds" in text
    assert "hsm_key_info{" not in text
