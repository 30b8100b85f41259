"""Key roles and labels."""

import pytest
from hypothesis import given, strategies

from hsm.errors import CeremonyError
from hsm.pkcs11.keys import LEFT_ROLES, OWN_ROLES, SHARED_ROLES, KeyKind, KeyLabel, KeyRole, Usage

ROLES = {
    "pin": (KeyKind.AES_256, Usage.ENCRYPT),
    "pin-mac": (KeyKind.AES_256, Usage.MAC),
    "record": (KeyKind.AES_256, Usage.ENCRYPT),
    "record-mac": (KeyKind.AES_256, Usage.MAC),
    "values": (KeyKind.AES_256, Usage.ENCRYPT),
    "values-mac": (KeyKind.AES_256, Usage.MAC),
    "manifest-mac": (KeyKind.AES_256, Usage.MAC),
    "grant-mac": (KeyKind.AES_256, Usage.MAC),
    "log-mac": (KeyKind.AES_256, Usage.MAC),
    "d1": (KeyKind.EC_P256, Usage.AGREE),
    "page": (KeyKind.EC_P256, Usage.AGREE),
    "intake": (KeyKind.EC_P256, Usage.AGREE),
    "token-sign": (KeyKind.EC_P256, Usage.SIGN),
    "tzpk": (KeyKind.AES_256, Usage.ENCRYPT),
    "tzpk-mac": (KeyKind.AES_256, Usage.MAC),
}
AES = (KeyKind.AES_256, KeyKind.AES_192, KeyKind.AES_128)
SHARED = {
    "block-protection": ((*AES, KeyKind.TDES_2KEY, KeyKind.TDES_3KEY), Usage.MAC),
    "seccos-pin": ((KeyKind.TDES_2KEY,), Usage.DECRYPT),
    "seccos-prw": ((KeyKind.AES_256, KeyKind.TDES_2KEY), Usage.MAC),
    "seccos-prw-retail": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "seccos-prw-retail-left": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "seccos-mac": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "seccos-mac-left": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "seccos-mac-cmac": ((KeyKind.AES_256, KeyKind.TDES_2KEY), Usage.MAC),
    "seccos-mac-master": ((KeyKind.TDES_2KEY,), Usage.DERIVE),
    "pvk": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "pvk-3624": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "prw": ((KeyKind.AES_256,), Usage.MAC),
    "zpk": ((KeyKind.TDES_2KEY, KeyKind.TDES_3KEY), Usage.ENCRYPT),
    "zpk-aes": (AES, Usage.ENCRYPT),
    "bureau-pin": ((KeyKind.TDES_2KEY, KeyKind.TDES_3KEY), Usage.ENCRYPT_ONLY),
    "bureau-pin-aes": (AES, Usage.ENCRYPT_ONLY),
    "bureau-mac": (AES, Usage.MAC),
    "bureau-mac-retail": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "bureau-mac-retail-left": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT_ONLY),
    "smc": ((KeyKind.TDES_2KEY,), Usage.DERIVE),
    "smi": ((KeyKind.TDES_2KEY,), Usage.DERIVE),
    "zpk-server": ((KeyKind.TDES_2KEY,), Usage.ENCRYPT),
}


def test_a_role_has_one_kind_and_one_usage() -> None:
    assert {str(role): (role.kind, role.usage) for role in OWN_ROLES} == ROLES


def test_a_role_of_shared_keys_has_one_usage_and_mostly_one_kind() -> None:
    found = {str(role): (role.kinds, role.usage) for role in SHARED_ROLES}
    assert found == SHARED
    assert all(role.kind is role.kinds[0] for role in KeyRole)
    assert {*OWN_ROLES, *SHARED_ROLES} == {*KeyRole}


def test_a_left_half_is_a_role_of_its_own_that_does_what_the_whole_key_does() -> None:
    assert len({*LEFT_ROLES, *LEFT_ROLES.values()}) == 2 * len(LEFT_ROLES)
    for whole, left in LEFT_ROLES.items():
        assert str(left) == f"{whole}-left"
        assert (left.kinds, left.usage) == (whole.kinds, whole.usage)


@given(strategies.sampled_from(OWN_ROLES), strategies.integers(1, 999_999))
def test_a_label_is_read_as_it_was_written(role: KeyRole, generation: int) -> None:
    label = KeyLabel(role, generation)
    assert str(label) == f"{role.value}.g{generation}"
    assert KeyLabel.parse(str(label)) == label


issuers = strategies.text(strategies.characters(exclude_characters="@"), min_size=10, max_size=10)


@given(strategies.sampled_from(SHARED_ROLES), strategies.integers(1, 999_999), issuers)
def test_the_label_of_a_shared_key_names_its_issuer(
    role: KeyRole, generation: int, issuer_id: str
) -> None:
    label = KeyLabel(role, generation, issuer_id)
    assert str(label) == f"{role.value}@{issuer_id}.g{generation}"
    assert KeyLabel.parse(str(label)) == label


@pytest.mark.parametrize("issuer_id", ["", "testbank0", "testbank012", "testbank@1"])
def test_an_issuer_id_has_10_characters_none_of_which_ends_it(issuer_id: str) -> None:
    with pytest.raises(CeremonyError, match="not an issuer id"):
        KeyLabel(KeyRole.PVK, 1, issuer_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pin",
        "pin.g",
        "pin.g0",
        "pin.g01",
        "pin.g-1",
        "pin.g1000000",
        "pin.1",
        "PIN.g1",
        "zpk.g1",
        "pin.g1 ",
        " pin.g1",
        "pin.g1\n",
        "pin_mac.g1",
        "pin.g1.g2",
        "pin.gTrue",
        "pin@testbank01.g1",
        "pvk.g1",
        "pvk@.g1",
        "pvk@testbank0.g1",
        "pvk@testbank012.g1",
        "pvk@testban@01.g1",
        "pvk@testbank01",
        "pvk@testbank01.g0",
        "pin.g１",  # noqa: RUF001 - a digit that is not ASCII
    ],
)
def test_what_is_not_a_label_of_ours_is_refused(text: str) -> None:
    with pytest.raises(CeremonyError, match=r"^not a key label$"):
        KeyLabel.parse(text)


def test_keys_of_one_generation_belong_together() -> None:
    assert KeyLabel(KeyRole.PIN, 3).of(KeyRole.PIN_MAC) == KeyLabel(KeyRole.PIN_MAC, 3)
    full = KeyLabel(KeyRole.SECCOS_MAC, 3, "testbank01")
    left = KeyLabel(KeyRole.SECCOS_MAC_LEFT, 3, "testbank01")
    assert full.of(KeyRole.SECCOS_MAC_LEFT) == left
