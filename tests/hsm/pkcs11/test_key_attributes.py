"""What our own keys on a PKCS#11 token may do, and that nobody gets them out."""

from collections.abc import Mapping
from typing import Any

import pytest
from pkcs11 import KDF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error, exceptions

from hsm.pkcs11 import mechanisms, own_keys
from hsm.pkcs11.keys import OWN_ROLES, KeyLabel, KeyRole, Usage
from hsm.pkcs11.templates import HELD_SECRET
from hsm.pkcs11.token import Pkcs11Token
from tests.hsm.pkcs11.sample_keys import (
    ACTION_PROHIBITED,
    AES_ROLES,
    AGREE_ROLES,
    EC_ROLES,
    ENCRYPT_ROLES,
    KEY_FUNCTION_NOT_PERMITTED,
    MAC_ROLES,
    NEVER_LEAVES,
    binding,
    forced,
    label_of,
    read_back,
)

PROTECTED = {
    **NEVER_LEAVES,
    "LOCAL": True,
    "ALWAYS_SENSITIVE": True,
    "NEVER_EXTRACTABLE": True,
}
MAY_ENCRYPT = {
    **PROTECTED,
    "ENCRYPT": True,
    "DECRYPT": True,
    "SIGN": False,
    "VERIFY": False,
    "WRAP": False,
    "UNWRAP": False,
    "DERIVE": False,
}
MAY_MAC = {
    **PROTECTED,
    "ENCRYPT": False,
    "DECRYPT": False,
    "SIGN": True,
    "VERIFY": False,
    "WRAP": False,
    "UNWRAP": False,
    "DERIVE": False,
}
MAY_AGREE = {**PROTECTED, "DECRYPT": False, "SIGN": False, "UNWRAP": False, "DERIVE": True}
MAY_SIGN = {**PROTECTED, "DECRYPT": False, "SIGN": True, "UNWRAP": False, "DERIVE": False}
SECRETS = {
    "pin": MAY_ENCRYPT,
    "pin-mac": MAY_MAC,
    "record": MAY_ENCRYPT,
    "record-mac": MAY_MAC,
    "values": MAY_ENCRYPT,
    "values-mac": MAY_MAC,
    "manifest-mac": MAY_MAC,
    "grant-mac": MAY_MAC,
    "log-mac": MAY_MAC,
    "d1": MAY_AGREE,
    "page": MAY_AGREE,
    "intake": MAY_AGREE,
    "token-sign": MAY_SIGN,
    "tzpk": MAY_ENCRYPT,
    "tzpk-mac": MAY_MAC,
}
SEALS = {Mechanism.AES_ECB, Mechanism.AES_CBC}
MECHANISMS = {
    "pin": SEALS,
    "record": {*SEALS, Mechanism.AES_GCM},
    "values": {*SEALS, Mechanism.AES_GCM},
    "tzpk": {*SEALS, Mechanism.AES_GCM},
    **{role: {Mechanism.AES_CMAC} for role in SECRETS if role.endswith("-mac")},
    **{role: {Mechanism.ECDH1_DERIVE} for role in ("d1", "page", "intake")},
    "token-sign": {Mechanism.ECDSA},
}
PUBLISHED = {"TOKEN": True, "PRIVATE": False, "MODIFIABLE": False, "ENCRYPT": False, "WRAP": False}
PUBLICS = {
    "d1": {**PUBLISHED, "VERIFY": False, "DERIVE": False},
    "page": {**PUBLISHED, "VERIFY": False, "DERIVE": False},
    "intake": {**PUBLISHED, "VERIFY": False, "DERIVE": False},
    "token-sign": {**PUBLISHED, "VERIFY": True, "DERIVE": False},
}


def test_the_tables_of_this_file_name_every_role() -> None:
    assert SECRETS.keys() == MECHANISMS.keys() == set(OWN_ROLES)
    assert PUBLICS.keys() == set(EC_ROLES)


@pytest.mark.parametrize("role", OWN_ROLES)
def test_a_key_has_the_attributes_of_its_role_and_no_more(
    hsm_token: Pkcs11Token, role: KeyRole
) -> None:
    key = hsm_token._keys[label_of(role)]
    assert read_back(key, SECRETS[role]) == SECRETS[role]
    assert {*key[Attribute.ALLOWED_MECHANISMS]} == MECHANISMS[role]
    assert hsm_token.attributes(label_of(role)) == {**SECRETS[role], "ALLOWED_MECHANISMS": True}


@pytest.mark.parametrize("role", EC_ROLES)
def test_a_public_key_has_the_attributes_of_its_role_and_no_more(
    hsm_token: Pkcs11Token, role: KeyRole
) -> None:
    assert read_back(hsm_token._public_keys[label_of(role)], PUBLICS[role]) == PUBLICS[role]


@pytest.mark.parametrize("role", OWN_ROLES)
def test_a_key_is_aes_256_or_on_p256(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    key = hsm_token._keys[label_of(role)]
    if role in AES_ROLES:
        assert (key[Attribute.KEY_TYPE], key[Attribute.VALUE_LEN]) == (KeyType.AES, 32)
    else:
        p256 = bytes.fromhex("06082a8648ce3d030107")  # DER of 1.2.840.10045.3.1.7
        assert (key[Attribute.KEY_TYPE], key[Attribute.EC_PARAMS]) == (KeyType.EC, p256)


@pytest.mark.parametrize("role", [*MAC_ROLES, *EC_ROLES])
def test_a_key_that_is_not_for_it_does_not_encrypt(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    key = hsm_token._keys[label_of(role)]
    with pytest.raises(PKCS11Error, match=KEY_FUNCTION_NOT_PERMITTED):
        forced(key, binding.EncryptMixin).encrypt(bytes(16), mechanism=Mechanism.AES_ECB)
    with pytest.raises(PKCS11Error, match=KEY_FUNCTION_NOT_PERMITTED):
        forced(key, binding.DecryptMixin).decrypt(bytes(16), mechanism=Mechanism.AES_ECB)


@pytest.mark.parametrize("role", [*ENCRYPT_ROLES, *AGREE_ROLES])
def test_a_key_that_is_not_for_it_does_not_sign(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    mechanism = Mechanism.AES_CMAC if role in AES_ROLES else Mechanism.ECDSA
    key = forced(hsm_token._keys[label_of(role)], binding.SignMixin)
    with pytest.raises(PKCS11Error, match=KEY_FUNCTION_NOT_PERMITTED):
        key.sign(bytes(32), mechanism=mechanism)


@pytest.mark.parametrize("role", [*AES_ROLES, KeyRole.TOKEN_SIGN])
def test_a_key_that_is_not_for_it_derives_nothing(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    key = forced(hsm_token._keys[label_of(role)], binding.DeriveMixin)
    point = hsm_token.public_point(label_of(KeyRole.D1)).uncompressed
    how = (
        {"mechanism": Mechanism.AES_ECB_ENCRYPT_DATA, "mechanism_param": bytes(16)}
        if role in AES_ROLES
        else {"mechanism": Mechanism.ECDH1_DERIVE, "mechanism_param": (KDF.NULL, None, point)}
    )
    with pytest.raises(PKCS11Error, match=KEY_FUNCTION_NOT_PERMITTED):
        key.derive_key(KeyType.GENERIC_SECRET, 128, **how)


@pytest.mark.parametrize("role", OWN_ROLES)
def test_the_value_of_a_key_cannot_be_read(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    with pytest.raises(exceptions.AttributeSensitive):
        hsm_token._keys[label_of(role)][Attribute.VALUE]


@pytest.mark.parametrize("role", OWN_ROLES)
@pytest.mark.parametrize(
    "change",
    [{}, {Attribute.TOKEN: False}, {Attribute.EXTRACTABLE: True}, {Attribute.SENSITIVE: False}],
    ids=["as it is", "to the session", "extractable", "not sensitive"],
)
def test_a_key_cannot_be_copied(
    hsm_token: Pkcs11Token, role: KeyRole, change: dict[Attribute, bool]
) -> None:
    with pytest.raises(PKCS11Error, match=ACTION_PROHIBITED):
        hsm_token._keys[label_of(role)].copy(change)


@pytest.mark.parametrize("role", OWN_ROLES)
@pytest.mark.parametrize(
    ("name", "value"),
    [("EXTRACTABLE", True), ("SENSITIVE", False), ("WRAP", True), ("DECRYPT", True),
     ("MODIFIABLE", True), ("COPYABLE", True), ("LABEL", "pin.g9")],
)  # fmt: skip
def test_a_key_cannot_be_changed(
    hsm_token: Pkcs11Token, role: KeyRole, name: str, value: object
) -> None:
    with pytest.raises(PKCS11Error, match=ACTION_PROHIBITED):
        hsm_token._keys[label_of(role)][Attribute[name]] = value


@pytest.mark.parametrize("role", OWN_ROLES)
def test_no_other_key_wraps_one_of_ours(
    hsm_token: Pkcs11Token, role: KeyRole, wrapping_key: binding.SecretKey
) -> None:
    for mechanism in (Mechanism.AES_KEY_WRAP, Mechanism.AES_KEY_WRAP_PAD):
        with pytest.raises(exceptions.KeyUnextractable):
            wrapping_key.wrap_key(hsm_token._keys[label_of(role)], mechanism=mechanism)


@pytest.mark.parametrize("role", AES_ROLES)
def test_a_key_of_ours_neither_wraps_nor_unwraps(
    hsm_token: Pkcs11Token, role: KeyRole, wrapping_key: binding.SecretKey
) -> None:
    # Clulow's replay: wrap a key under one that may also decrypt, then decrypt the result.
    ours = hsm_token._keys[label_of(role)]
    with pytest.raises(PKCS11Error, match=KEY_FUNCTION_NOT_PERMITTED):
        forced(ours, binding.WrapMixin).wrap_key(wrapping_key, mechanism=Mechanism.AES_KEY_WRAP)
    with pytest.raises(PKCS11Error, match=KEY_FUNCTION_NOT_PERMITTED):
        forced(ours, binding.UnwrapMixin).unwrap_key(
            ObjectClass.SECRET_KEY, KeyType.AES, bytes(24), mechanism=Mechanism.AES_KEY_WRAP
        )


def test_a_key_that_is_limited_otherwise_is_reported_and_one_of_before_is_not(
    emptied: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for generation, limits in enumerate(((Mechanism.AES_GCM,), ()), 2):
        monkeypatch.setattr(mechanisms, "allowed", lambda *_, limits=limits: limits)
        made[limits] = KeyLabel(KeyRole.PIN_MAC, generation)
        emptied.generate(made[limits])
    monkeypatch.undo()
    reports = {limits: own_keys.report(emptied, label) for limits, label in made.items()}
    assert not reports[Mechanism.AES_GCM,].as_expected
    assert reports[()].as_expected


@pytest.mark.parametrize("role", OWN_ROLES)
def test_what_ecdh_makes_is_held_to_be_sensitive_where_the_device_takes_that(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch, role: KeyRole
) -> None:
    monkeypatch.setattr(hsm_token, "_takes_derive_templates", True)
    given: list[Mapping[Attribute, Any]] = []
    hsm_token._limited(role, hsm_token.kind(KeyLabel(role, 1)), {}, given.append)
    held = given[0].get(Attribute.DERIVE_TEMPLATE)
    assert held == (HELD_SECRET if role.usage is Usage.AGREE else None)
