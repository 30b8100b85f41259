"""What the vault does beyond its contract: which keys it takes, and what it calls healthy."""

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from crypto.jose import base64url
from crypto.secret import Secret
from hsm.errors import ConfigRefused, PanRejected, PinRejected, VaultUnavailable
from hsm.pkcs11.keys import OWN_ROLES, SHARED_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.port import ConfigKind, PublicKeyRole, ValueKind
from hsm.vault import Vault
from tests.contracts.issuer import CARD, PIN, block, jwe_to, open_issuer
from tests.contracts.partner import ISSUER_ID, open_partner, share_keys
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import PAN

FIRST = [KeyLabel(role, 1) for role in OWN_ROLES]


def vault_over(hsm_token: SoftwareToken) -> Vault:
    return Vault(hsm_token, lambda: datetime(2026, 11, 23, tzinfo=UTC))


@pytest.mark.parametrize("role", OWN_ROLES)
def test_no_vault_without_a_key_of_each_role(role: KeyRole) -> None:
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        vault_over(SoftwareToken([label for label in FIRST if label.role is not role]))


def test_shared_keys_are_no_part_of_what_every_vault_needs() -> None:
    hsm_token = SoftwareToken()
    key = Secret(os.urandom(16))
    for role in SHARED_ROLES:
        hsm_token.import_key(KeyLabel(role, 1, "testbank01"), KeyKind.TDES_2KEY, key)
    issuer = open_issuer(vault_over(hsm_token))
    sealed_pan = issuer.seal_pan()
    assert issuer.pin(issuer.set_pin(PIN, sealed_pan), sealed_pan) == PIN
    issuer.vault.health()


@pytest.mark.parametrize("role", [KeyRole.PIN, KeyRole.PAN, KeyRole.VALUES])
def test_no_vault_while_a_sealing_key_is_newer_than_its_mac_key(role: KeyRole) -> None:
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        vault_over(SoftwareToken([*FIRST, KeyLabel(role, 2)]))


def test_a_mac_key_waits_for_the_sealing_key_of_its_generation() -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.PIN_MAC, 2)])
    issuer = open_issuer(vault_over(hsm_token))
    sealed_pan = issuer.seal_pan()
    sealed_pin = issuer.set_pin(PIN, sealed_pan)
    assert b"pin.g1" in bytes(sealed_pin)
    assert issuer.pin(sealed_pin, sealed_pan) == PIN


def test_new_values_are_sealed_under_the_highest_generation_and_old_ones_still_open() -> None:
    hsm_token = SoftwareToken()
    before = open_issuer(vault_over(hsm_token))
    old_pan = before.seal_pan()
    old_pin = before.set_pin(PIN, old_pan)
    old_jwe = before.pin_jwe({"pinBlock": block(PIN)})
    for generation in (2, 10):
        for role in OWN_ROLES:
            hsm_token.generate(KeyLabel(role, generation))

    after = open_issuer(vault_over(hsm_token))
    new_pan = after.seal_pan()
    new_pin = after.set_pin(PIN, new_pan)
    assert b"pan.g10" in bytes(new_pan)
    assert b"pin.g10" in bytes(new_pin)
    assert {config.key_label for config in after.config.values()} == {"manifest-mac.g10"}
    assert after.pin(old_pin, old_pan) == PIN
    assert after.pin(new_pin, new_pan) == PIN
    # What was configured and encrypted before still counts.
    assert replace(after, config=before.config).set_jwe(old_jwe, old_pan)


def test_values_are_sealed_under_the_highest_generation_and_old_ones_still_open() -> None:
    hsm_token = SoftwareToken()
    keys = share_keys(hsm_token)
    before = open_partner(vault_over(hsm_token), keys, ISSUER_ID).asking(pvv={"key_index": 1})
    old = before.set_iso0()
    for role in (KeyRole.VALUES, KeyRole.VALUES_MAC):
        hsm_token.generate(KeyLabel(role, 10))

    after = replace(before, issuer=replace(before.issuer, vault=vault_over(hsm_token)))
    new = after.set_iso0()
    assert b"values.g10" in bytes(new.values[ValueKind.PVV])
    assert after.exported(old) == after.exported(new)


def test_the_roles_of_public_keys_are_those_of_our_own_ec_keys() -> None:
    ours = {role.value for role in OWN_ROLES if role.kind is KeyKind.EC_P256}
    assert {role.value for role in PublicKeyRole} == ours


def test_public_keys_of_all_generations_are_listed_the_newest_first() -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.D1, 10), KeyLabel(KeyRole.D1, 2)])
    keys = vault_over(hsm_token).public_jwks(PublicKeyRole.D1)["keys"]
    points = [hsm_token.public_point(KeyLabel(KeyRole.D1, number)) for number in (10, 2, 1)]
    assert [key["x"] for key in keys] == [base64url.encode(point.x) for point in points]


def test_a_public_key_is_listed_by_its_own_kid_where_it_has_one() -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.D1, 2)])
    vault = vault_over(hsm_token)
    thumbprints = [key["kid"] for key in vault.public_jwks(PublicKeyRole.D1)["keys"]]
    named = vault.public_jwks(PublicKeyRole.D1, {"bank-2026": 1, "bank-2025": 1})["keys"]
    assert [key["kid"] for key in named] == [thumbprints[0], "bank-2026"]


def test_a_jwe_may_name_our_key_by_its_own_kid_or_by_its_thumbprint() -> None:
    hsm_token = SoftwareToken([*FIRST, KeyLabel(KeyRole.D1, 2)])
    issuer = open_issuer(vault_over(hsm_token))
    sealed_pan = issuer.seal_pan()
    newest, oldest = issuer.vault.public_jwks(PublicKeyRole.D1)["keys"]

    def sent_to(key: dict[str, str], kid: str) -> str:
        return jwe_to({**key, "kid": kid}, {"pinBlock": block(PIN)})

    own_kids = [{"kid": "bank-2025", "generation": 1}, {"kid": "bank-2026", "generation": 2}]
    named = issuer.configured(ConfigKind.WIRE, {"jwe": {"our_kids": own_kids}})
    for key, kid in (
        (oldest, "bank-2025"),
        (newest, "bank-2026"),
        (oldest, oldest["kid"]),
        (newest, newest["kid"]),
    ):
        assert named.set_jwe(sent_to(key, kid), sealed_pan)
    for key, kid in ((newest, "bank-2025"), (oldest, "bank-2026"), (newest, "bank-2027")):
        with pytest.raises(PinRejected):
            named.set_jwe(sent_to(key, kid), sealed_pan)
    with pytest.raises(PinRejected):  # the profile of another issuer names it, not this one's
        issuer.set_jwe(sent_to(newest, "bank-2026"), sealed_pan)


def test_an_own_kid_does_not_open_what_is_for_another_role() -> None:
    issuer = open_issuer(vault_over(SoftwareToken()))
    named = issuer.configured(ConfigKind.WIRE, {"jwe": {"our_kids": [{"kid": "bank-2026"}]}})
    with pytest.raises(PanRejected):
        named.vault.seal_pan(jwe_to({**named.d1_jwk, "kid": "bank-2026"}, {"pan": PAN}), CARD)
    with pytest.raises(PinRejected):
        named.set_jwe(
            jwe_to({**named.intake_jwk, "kid": "bank-2026"}, {"pinBlock": block(PIN)}),
            named.seal_pan(),
        )


def test_the_thumbprint_of_one_of_our_keys_names_no_other() -> None:
    issuer = open_issuer(vault_over(SoftwareToken()))
    taken = [{"kid": issuer.intake_jwk["kid"], "generation": 1}]
    with pytest.raises(ConfigRefused, match="thumbprint"):
        issuer.configured(ConfigKind.WIRE, {"jwe": {"our_kids": taken}})
    own = [{"kid": issuer.d1_jwk["kid"], "generation": 1}]
    assert issuer.configured(ConfigKind.WIRE, {"jwe": {"our_kids": own}})


@pytest.mark.parametrize("label", FIRST, ids=str)
def test_health_fails_when_any_key_is_gone(label: KeyLabel) -> None:
    hsm_token = SoftwareToken()
    vault = vault_over(hsm_token)
    vault.health()
    hsm_token.secrets.pop(label, None)
    hsm_token.private.pop(label, None)
    with pytest.raises(VaultUnavailable):
        vault.health()


@pytest.mark.parametrize("verb", ["encrypt_block", "decrypt_block", "mac", "agree", "sign"])
def test_health_fails_when_the_hsm_token_answers_wrongly(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hsm_token = SoftwareToken()
    vault = vault_over(hsm_token)
    sizes = {"agree": 32, "sign": 64}
    monkeypatch.setattr(hsm_token, verb, lambda *_: os.urandom(sizes.get(verb, 16)))
    with pytest.raises(VaultUnavailable, match="the token's answer is wrong"):
        vault.health()
