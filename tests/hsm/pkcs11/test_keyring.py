"""Which key a verb uses; that every verb asks here, the contract shows."""

import os
from collections.abc import Sequence

import pytest

from crypto.secret import Secret
from hsm.errors import KeyMissing, ManifestRefused, VaultUnavailable
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import MAC_ROLES, OWN_ROLES, SHARED_ROLES, KeyKind, KeyLabel, KeyRole
from tests.contracts.software_token import SoftwareToken

ISSUER_ID, OTHER_ID = "testbank01", "testbank02"
FIRST = [KeyLabel(role, 1) for role in OWN_ROLES]


def holding(*shared: KeyLabel, kind: KeyKind = KeyKind.TDES_2KEY) -> SoftwareToken:
    hsm_token = SoftwareToken()
    for label in shared:
        hsm_token.import_key(label, kind, Secret(os.urandom(16)))
    return hsm_token


@pytest.mark.parametrize("generations", [[1], [1, 2], [10, 9, 1], [3]])
def test_without_a_table_the_oldest_key_of_our_own_is_active_and_all_open(
    generations: Sequence[int],
) -> None:
    labels = [KeyLabel(role, number) for role in OWN_ROLES for number in generations]
    keyring = Keyring(SoftwareToken(labels))
    assert keyring.active == {role: KeyLabel(role, min(generations)) for role in OWN_ROLES}
    assert all(map(keyring.may_open, labels))
    assert [x for x in labels if keyring.is_announced(x)] == [*keyring.active.values()]


@pytest.mark.parametrize("role", OWN_ROLES)
def test_every_role_of_our_own_needs_a_key(role: KeyRole) -> None:
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        Keyring(SoftwareToken([label for label in FIRST if label.role is not role]))


@pytest.mark.parametrize(("role", "mac_role"), MAC_ROLES.items())
def test_a_sealing_key_needs_the_mac_key_of_its_generation(
    role: KeyRole, mac_role: KeyRole
) -> None:
    without = [label for label in FIRST if label.role is not mac_role]
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        Keyring(SoftwareToken(without))
    with pytest.raises(VaultUnavailable, match="a key is not on the token"):
        Keyring(SoftwareToken([*without, KeyLabel(mac_role, 2)]))
    assert Keyring(SoftwareToken([*FIRST, KeyLabel(role, 2)])).active[role].generation == 1


def test_a_shared_key_is_never_active() -> None:
    hsm_token = holding(*(KeyLabel(role, 5, ISSUER_ID) for role in SHARED_ROLES))
    assert {*Keyring(hsm_token).active.values()} == {*FIRST}


@pytest.mark.parametrize("generation", [1, 2])
def test_a_shared_key_is_the_one_that_is_named(generation: int) -> None:
    labels = [KeyLabel(KeyRole.PVK, number, ISSUER_ID) for number in (1, 2)]
    keyring = Keyring(holding(*labels))
    assert keyring.shared(KeyRole.PVK, ISSUER_ID, generation) == labels[generation - 1]


@pytest.mark.parametrize(
    ("role", "issuer_id", "generation"),
    [
        (KeyRole.PVK, ISSUER_ID, 2),
        (KeyRole.PVK, OTHER_ID, 1),
        (KeyRole.PVK_3624, ISSUER_ID, 1),
        (KeyRole.SECCOS_PIN, ISSUER_ID, 1),
    ],
)
def test_a_shared_key_of_another_role_issuer_or_generation_does_not_do(
    role: KeyRole, issuer_id: str, generation: int
) -> None:
    keyring = Keyring(holding(KeyLabel(KeyRole.PVK, 1, ISSUER_ID)))
    with pytest.raises(KeyMissing):
        keyring.shared(role, issuer_id, generation)


@pytest.mark.parametrize("kind", [KeyKind.TDES_2KEY, KeyKind.AES_256])
@pytest.mark.parametrize("needed", [KeyKind.TDES_2KEY, KeyKind.AES_256])
def test_a_shared_key_is_of_the_kind_that_is_needed(kind: KeyKind, needed: KeyKind) -> None:
    label = KeyLabel(KeyRole.SECCOS_PRW, 1, ISSUER_ID)
    keyring = Keyring(holding(label, kind=kind))
    if kind is needed:
        assert keyring.shared(KeyRole.SECCOS_PRW, ISSUER_ID, 1, (needed,)) == label
        return
    with pytest.raises(ManifestRefused, match="not of the kind"):
        keyring.shared(KeyRole.SECCOS_PRW, ISSUER_ID, 1, (needed,))


def test_a_key_that_came_later_is_found_by_the_next_keyring() -> None:
    hsm_token, label = holding(), KeyLabel(KeyRole.PVK, 1, ISSUER_ID)
    keyring = Keyring(hsm_token)
    hsm_token.import_key(label, KeyKind.TDES_2KEY, Secret(os.urandom(16)))
    with pytest.raises(KeyMissing):
        keyring.shared(KeyRole.PVK, ISSUER_ID, 1)
    assert Keyring(hsm_token).shared(KeyRole.PVK, ISSUER_ID, 1) == label
