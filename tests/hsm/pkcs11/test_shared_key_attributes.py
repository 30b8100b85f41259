"""What shared and derived keys on a PKCS#11 token may do, and that nobody gets them out."""

import os

import pytest
from pkcs11 import Attribute, KeyType, Mechanism, PKCS11Error, exceptions

from crypto.emv.key_derivation import odd_parity
from crypto.secret import Secret
from hsm.errors import CeremonyError, VaultUnavailable
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import KEY_BYTES, SHARED_ROLES, TDES_KINDS, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from tests.hsm.own_process import FIRST
from tests.hsm.pkcs11.sample_keys import (
    ACTION_PROHIBITED,
    NEVER_LEAVES,
    binding,
    forced,
    read_back,
    read_or_refusal,
    session_keys,
    session_objects,
)

IMPORTED = {
    **NEVER_LEAVES,
    "LOCAL": False,
    "ALWAYS_SENSITIVE": False,
    "NEVER_EXTRACTABLE": False,
    "VERIFY": False,
    "WRAP": False,
    "UNWRAP": False,
}
NO = {"ENCRYPT": False, "DECRYPT": False, "SIGN": False, "DERIVE": False}
SHARED = {
    "block-protection": {**IMPORTED, **NO, "SIGN": True},
    "seccos-pin": {**IMPORTED, **NO, "DECRYPT": True, "DERIVE": True},
    "seccos-prw": {**IMPORTED, **NO, "SIGN": True},
    "seccos-prw-retail": {**IMPORTED, **NO, "ENCRYPT": True},
    "seccos-prw-retail-left": {**IMPORTED, **NO, "ENCRYPT": True},
    "seccos-mac": {**IMPORTED, **NO, "ENCRYPT": True},
    "seccos-mac-left": {**IMPORTED, **NO, "ENCRYPT": True},
    "seccos-mac-cmac": {**IMPORTED, **NO, "SIGN": True},
    "seccos-mac-master": {**IMPORTED, **NO, "DERIVE": True},
    "pvk": {**IMPORTED, **NO, "ENCRYPT": True},
    "pvk-3624": {**IMPORTED, **NO, "ENCRYPT": True},
    "prw": {**IMPORTED, **NO, "SIGN": True},
    "zpk": {**IMPORTED, **NO, "ENCRYPT": True, "DECRYPT": True},
    "zpk-aes": {**IMPORTED, **NO, "ENCRYPT": True, "DECRYPT": True},
    "bureau-pin": {**IMPORTED, **NO, "ENCRYPT": True},
    "bureau-pin-aes": {**IMPORTED, **NO, "ENCRYPT": True},
    "bureau-mac": {**IMPORTED, **NO, "SIGN": True},
    "bureau-mac-retail": {**IMPORTED, **NO, "ENCRYPT": True},
    "bureau-mac-retail-left": {**IMPORTED, **NO, "ENCRYPT": True},
    "smc": {**IMPORTED, **NO, "DERIVE": True},
    "smi": {**IMPORTED, **NO, "DERIVE": True},
    "zpk-server": {**IMPORTED, **NO, "ENCRYPT": True, "DECRYPT": True},
}
AES_BLOCKS = {Mechanism.AES_ECB, Mechanism.AES_CBC}
TDES_BLOCKS = {Mechanism.DES3_ECB, Mechanism.DES3_CBC}
DERIVES = {Mechanism.DES3_ECB_ENCRYPT_DATA}
#: By role, and whether the key is a TDES key.
MECHANISMS = {
    **{(role, False): {Mechanism.AES_CMAC} for role in SHARED if SHARED[role]["SIGN"]},
    **{(role, True): {Mechanism.DES3_CMAC} for role in SHARED if SHARED[role]["SIGN"]},
    **{(role, True): TDES_BLOCKS for role in SHARED if SHARED[role]["ENCRYPT"]},
    **{(role, False): AES_BLOCKS for role in SHARED if SHARED[role]["ENCRYPT"]},
    **{(role, True): {Mechanism.DES3_ECB} for role in ("zpk", "zpk-server")},
    ("seccos-pin", True): {Mechanism.DES3_ECB, *DERIVES},
    **{(role, True): DERIVES for role in ("seccos-mac-master", "smc", "smi")},
}
SHARED_KINDS = [(role, kind) for role in SHARED_ROLES for kind in role.kinds]
MASTER_ROLES = [KeyRole.SECCOS_PIN, KeyRole.SECCOS_MAC_MASTER, KeyRole.SMC, KeyRole.SMI]
MASTER = KeyLabel(KeyRole.SECCOS_PIN, 1, "testbank01")
#: What a derived key may do; it is there for the time of one request.
DERIVED = {
    **IMPORTED,
    **NO,
    "TOKEN": False,
    "ENCRYPT": True,
    "DECRYPT": True,
    "SIGN": True,
    "DERIVE": True,
}


def some_key(kind: KeyKind) -> Secret[bytes]:
    key = Secret(os.urandom(KEY_BYTES[kind]))
    return odd_parity(key) if kind in TDES_KINDS else key


def imported(hsm_token: Pkcs11Token, role: KeyRole, kind: KeyKind) -> KeyLabel:
    label = KeyLabel(role, 1, "testbank01")
    hsm_token.import_key(label, kind, some_key(kind))
    return label


def test_the_table_of_this_file_names_every_shared_role() -> None:
    assert SHARED.keys() == {*SHARED_ROLES}


@pytest.mark.parametrize(("role", "kind"), SHARED_KINDS)
def test_an_imported_key_has_the_attributes_of_its_role_and_no_more(
    emptied: Pkcs11Token, role: KeyRole, kind: KeyKind
) -> None:
    label = imported(emptied, role, kind)
    assert read_back(emptied._keys[label], SHARED[role]) == SHARED[role]
    read = {**SHARED[role], "ALLOWED_MECHANISMS": True}
    assert emptied.attributes(label) == emptied.expected_attributes(label) == read
    found = emptied._keys[label][Attribute.ALLOWED_MECHANISMS]
    assert {*found} == MECHANISMS[role, kind in TDES_KINDS]
    assert emptied.kind(label) is kind
    assert own_keys.report(emptied, label).as_expected


@pytest.mark.parametrize(("role", "kind"), SHARED_KINDS)
def test_an_imported_key_is_named_by_the_kcv_that_its_partner_knows(
    emptied: Pkcs11Token, role: KeyRole, kind: KeyKind
) -> None:
    label, key = KeyLabel(role, 1, "testbank01"), some_key(kind)
    emptied.import_key(label, kind, key)
    assert own_keys.report(emptied, label).fingerprint == ClearKey(kind, key).kcv


def test_a_key_of_another_kind_than_its_role_is_reported(emptied: Pkcs11Token) -> None:
    label = imported(emptied, KeyRole.PVK, KeyKind.AES_256)
    assert not own_keys.report(emptied, label).as_expected


@pytest.mark.parametrize(("role", "kind"), SHARED_KINDS)
def test_an_imported_key_is_not_read_copied_changed_or_wrapped(
    emptied: Pkcs11Token, role: KeyRole, kind: KeyKind, wrapping_key: binding.SecretKey
) -> None:
    label = imported(emptied, role, kind)
    key = emptied._keys[label]
    with pytest.raises(exceptions.AttributeSensitive):
        key[Attribute.VALUE]
    with pytest.raises(PKCS11Error, match=ACTION_PROHIBITED):
        key.copy({})
    with pytest.raises(PKCS11Error, match=ACTION_PROHIBITED):
        key[Attribute.EXTRACTABLE] = True
    with pytest.raises(exceptions.KeyUnextractable):
        wrapping_key.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP_PAD)


USES = {
    "ENCRYPT": lambda hsm_token, label: hsm_token.tdes_encrypt(label, bytes(8)),
    "DECRYPT": lambda hsm_token, label: hsm_token.tdes_decrypt(label, bytes(8)),
    "SIGN": lambda hsm_token, label: hsm_token.tdes_mac(label, bytes(8)),
    "DERIVE": lambda hsm_token, label: hsm_token.derived(label, bytes(16)).__enter__(),
}
MIXINS = {
    "ENCRYPT": binding.EncryptMixin,
    "DECRYPT": binding.DecryptMixin,
    "SIGN": binding.SignMixin,
    "DERIVE": binding.DeriveMixin,
}


@pytest.mark.parametrize(
    ("role", "use"),
    [
        (role, use)
        for role, kind in SHARED_KINDS
        for use in USES
        if kind is KeyKind.TDES_2KEY and not SHARED[role][use]
    ],
)
def test_an_imported_tdes_key_does_what_its_role_says_and_nothing_else(
    emptied: Pkcs11Token, role: KeyRole, use: str
) -> None:
    label = imported(emptied, role, KeyKind.TDES_2KEY)
    emptied._keys[label] = forced(emptied._keys[label], MIXINS[use])
    with pytest.raises(VaultUnavailable):
        USES[use](emptied, label)


def test_a_key_is_not_imported_twice(emptied: Pkcs11Token) -> None:
    imported(emptied, KeyRole.PVK, KeyKind.TDES_2KEY)
    with pytest.raises(CeremonyError, match="already on the token"):
        imported(emptied, KeyRole.PVK, KeyKind.TDES_2KEY)


@pytest.mark.parametrize("role", SHARED_ROLES)
def test_a_shared_key_is_never_made_here(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    before = hsm_token.labels()
    with pytest.raises(CeremonyError, match="imported"):
        hsm_token.generate(KeyLabel(role, 1, "testbank01"))
    assert hsm_token.labels() == before


@pytest.mark.parametrize("role", MASTER_ROLES)
def test_a_derived_key_has_one_template_and_shows_nothing(
    emptied: Pkcs11Token, role: KeyRole
) -> None:
    master = imported(emptied, role, KeyKind.TDES_2KEY)
    for steps in ([bytes(16)], [bytes(16), b"session key data"], [bytes(16), b"halfhalf" * 2]):
        with emptied.derived(master, *steps) as derived:
            key = session_keys(emptied)[derived._handle]
            assert read_back(key, DERIVED) == DERIVED
            assert key[Attribute.KEY_TYPE] == KeyType.DES2
            assert read_or_refusal(key, "VALUE") is exceptions.AttributeSensitive


def test_no_derived_key_is_left_behind(emptied: Pkcs11Token) -> None:
    imported(emptied, KeyRole.SECCOS_PIN, KeyKind.TDES_2KEY)
    before = session_objects(emptied)
    for number in range(200):
        with emptied.derived(MASTER, bytes(16), number.to_bytes(16)) as derived:
            derived.decrypt(bytes(8))
            derived.mac(bytes(8))
    assert session_objects(emptied) == before


def test_no_derived_key_is_left_behind_when_something_fails(emptied: Pkcs11Token) -> None:
    imported(emptied, KeyRole.SECCOS_PIN, KeyKind.TDES_2KEY)
    before = session_objects(emptied)
    # Data of 7 bytes does not fill a block: the first key is there, the second is not made.
    with (
        pytest.raises(VaultUnavailable),
        emptied.derived(MASTER, bytes(16), bytes(7)),
    ):
        pass
    with pytest.raises(VaultUnavailable), emptied.derived(MASTER, bytes(16)) as derived:
        derived.decrypt(bytes(7))
    assert session_objects(emptied) == before


def test_a_key_is_not_made_twice(hsm_token: Pkcs11Token) -> None:
    before = hsm_token.labels()
    for label in FIRST:
        with pytest.raises(CeremonyError, match="already on the token"):
            hsm_token.generate(label)
    assert hsm_token.labels() == before
