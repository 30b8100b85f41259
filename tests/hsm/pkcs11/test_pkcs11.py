"""The PKCS#11 token: what its keys may do, what it computes, and how it fails."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from pkcs11 import KDF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error, _pkcs11, exceptions

from cms.sandbox.machine.softhsm import SoftHsm
from crypto.emv import odd_parity
from crypto.jose.jwe import other_info
from crypto.jose.jwk import Point
from crypto.secret import Secret
from hsm.errors import CeremonyError, LoginRefused, VaultUnavailable
from hsm.pkcs11 import ceremony
from hsm.pkcs11 import token as device
from hsm.pkcs11.derived_key import DerivedKey
from hsm.pkcs11.keys import OWN_ROLES, SHARED_ROLES, KeyKind, KeyLabel, KeyRole, Usage
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from tests.hsm.own_process import FIRST, OPERATIONS, ROUNDS, THREADS, run, start

binding: Any = _pkcs11  # compiled without types
AES_ROLES = [role for role in OWN_ROLES if role.kind is KeyKind.AES_256]
EC_ROLES = [role for role in OWN_ROLES if role.kind is KeyKind.EC_P256]
ENCRYPT_ROLES = [role for role in OWN_ROLES if role.usage is Usage.ENCRYPT]
MAC_ROLES = [role for role in OWN_ROLES if role.usage is Usage.MAC]
AGREE_ROLES = [role for role in OWN_ROLES if role.usage is Usage.AGREE]
INFO = other_info("A256GCM", b"Alice", b"Bob", 256)

# PKCS#11 2.40, table 6 and 2.3.3
KEY_FUNCTION_NOT_PERMITTED = "0x68"
ACTION_PROHIBITED = "0x1b"


def label_of(role: KeyRole) -> KeyLabel:
    return KeyLabel(role, 1)


# What keys may do

PROTECTED = {
    "TOKEN": True,
    "PRIVATE": True,
    "SENSITIVE": True,
    "EXTRACTABLE": False,
    "MODIFIABLE": False,
    "COPYABLE": False,
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
    "pan": MAY_ENCRYPT,
    "pan-mac": MAY_MAC,
    "values": MAY_ENCRYPT,
    "values-mac": MAY_MAC,
    "config-mac": MAY_MAC,
    "d1": MAY_AGREE,
    "page": MAY_AGREE,
    "intake": MAY_AGREE,
    "token-sign": MAY_SIGN,
}
PUBLISHED = {"TOKEN": True, "PRIVATE": False, "MODIFIABLE": False, "ENCRYPT": False, "WRAP": False}
PUBLICS = {
    "d1": {**PUBLISHED, "VERIFY": False, "DERIVE": False},
    "page": {**PUBLISHED, "VERIFY": False, "DERIVE": False},
    "intake": {**PUBLISHED, "VERIFY": False, "DERIVE": False},
    "token-sign": {**PUBLISHED, "VERIFY": True, "DERIVE": False},
}


def read_back(key: Any, names: dict[str, bool]) -> dict[str, bool]:  # noqa: ANN401 - the binding's
    return {name: key[Attribute[name]] for name in names}


def test_the_tables_of_this_file_name_every_role() -> None:
    assert SECRETS.keys() == set(OWN_ROLES)
    assert PUBLICS.keys() == set(EC_ROLES)


@pytest.mark.parametrize("role", OWN_ROLES)
def test_a_key_has_the_attributes_of_its_role_and_no_more(
    hsm_token: Pkcs11Token, role: KeyRole
) -> None:
    assert read_back(hsm_token._keys[label_of(role)], SECRETS[role]) == SECRETS[role]
    assert hsm_token.attributes(label_of(role)) == SECRETS[role]


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


def forced(key: Any, mixin: type) -> Any:  # noqa: ANN401 - the binding's
    """Give a key a method that the binding leaves out: what refuses must be the token."""
    return type("Forced", (type(key).__bases__[0], mixin, binding.Object), {})(key.wrapper)


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


@pytest.fixture
def wrapping_key(hsm_token: Pkcs11Token) -> Iterator[Any]:
    """A key of an attacker who is logged in: it may do everything."""
    everything = ("ENCRYPT", "DECRYPT", "WRAP", "UNWRAP", "SIGN", "VERIFY", "DERIVE", "EXTRACTABLE")
    template = {Attribute.TOKEN: False, **{Attribute[name]: True for name in everything}}
    key = hsm_token._session.generate_key(KeyType.AES, 256, template=template)
    yield key
    key.destroy()


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


# Keys that are shared with a partner

IMPORTED = {
    "TOKEN": True,
    "PRIVATE": True,
    "SENSITIVE": True,
    "EXTRACTABLE": False,
    "MODIFIABLE": False,
    "COPYABLE": False,
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
}
SHARED_KINDS = [(role, kind) for role in SHARED_ROLES for kind in role.kinds]
MASTER_ROLES = [KeyRole.SECCOS_PIN, KeyRole.SECCOS_MAC_MASTER]
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
    key = Secret(os.urandom(32 if kind is KeyKind.AES_256 else 16))
    return odd_parity(key) if kind is KeyKind.TDES_2KEY else key


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
    assert emptied.attributes(label) == emptied.expected_attributes(label) == SHARED[role]
    assert emptied.kind(label) is kind
    assert ceremony.report(emptied, label).as_expected


@pytest.mark.parametrize(("role", "kind"), SHARED_KINDS)
def test_an_imported_key_is_named_by_the_kcv_that_its_partner_knows(
    emptied: Pkcs11Token, role: KeyRole, kind: KeyKind
) -> None:
    label, key = KeyLabel(role, 1, "testbank01"), some_key(kind)
    emptied.import_key(label, kind, key)
    assert ceremony.report(emptied, label).fingerprint == ClearKey(kind, key).kcv


def test_a_key_of_another_kind_than_its_role_is_reported(emptied: Pkcs11Token) -> None:
    label = imported(emptied, KeyRole.PVK, KeyKind.AES_256)
    assert not ceremony.report(emptied, label).as_expected


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
            assert read_back(derived._key, DERIVED) == DERIVED
            assert derived._key[Attribute.KEY_TYPE] == KeyType.DES2
            assert attempt(derived._key, "VALUE") is exceptions.AttributeSensitive


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


# What the token computes


def software_key(number: int) -> tuple[ec.EllipticCurvePrivateKey, Point]:
    key = ec.derive_private_key(number, ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    return key, Point(numbers.x.to_bytes(32), numbers.y.to_bytes(32))


def concat_kdf(z: bytes, info: bytes) -> bytes:
    return ConcatKDFHash(hashes.SHA256(), 32, info).derive(z)


@pytest.mark.parametrize("role", AGREE_ROLES)
@pytest.mark.parametrize("info", [INFO, other_info("A256GCM", b"", b"", 256), b"", bytes(300)])
def test_agree_is_ecdh_and_concat_kdf(hsm_token: Pkcs11Token, role: KeyRole, info: bytes) -> None:
    ours = hsm_token.public_point(label_of(role)).public_key()
    for number in range(2, 8):
        key, point = software_key(number)
        expected = concat_kdf(key.exchange(ec.ECDH(), ours), info)
        assert hsm_token.agree(label_of(role), point, info) == expected


def test_agree_keeps_the_zeros_in_front_of_the_shared_secret(hsm_token: Pkcs11Token) -> None:
    ours = hsm_token.public_point(label_of(KeyRole.D1)).public_key()
    for number in itertools.count(2):
        key, point = software_key(number)
        z = key.exchange(ec.ECDH(), ours)
        if z[0] == 0:
            break
    assert hsm_token.agree(label_of(KeyRole.D1), point, INFO) == concat_kdf(z, INFO)


class Watched:
    """A session that shows what is digested, or fails to digest it."""

    def __init__(self, session: Any, error: Exception | None = None) -> None:  # noqa: ANN401 - as above
        self._session = session
        self._error = error
        self.digested: list[Any] = []

    def digest(self, parts: Iterator[Any], mechanism: Mechanism) -> Any:  # noqa: ANN401 - as above
        self.digested = list(parts)
        self.outcomes = [attempt(self.digested[1], name) for name in ("VALUE", "SENSITIVE")]
        if self._error:
            raise self._error
        return self._session.digest(iter(self.digested), mechanism=mechanism)


def attempt(key: Any, name: str) -> object:  # noqa: ANN401 - as above
    try:
        return key[Attribute[name]]
    except PKCS11Error as error:
        return type(error)


def session_objects(hsm_token: Pkcs11Token) -> int:
    return len(list(hsm_token._session.get_objects({Attribute.TOKEN: False})))


def test_the_shared_secret_cannot_be_read_while_it_is_there(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(hsm_token._session)
    monkeypatch.setattr(hsm_token, "_session", watched)
    hsm_token.agree(label_of(KeyRole.D1), software_key(2)[1], INFO)
    assert watched.outcomes == [exceptions.AttributeSensitive, True]
    assert watched.digested[0] == b"\0\0\0\1"
    assert watched.digested[2] == INFO


def test_no_shared_secret_is_left_behind(hsm_token: Pkcs11Token) -> None:
    before = session_objects(hsm_token)
    for number in range(2, 202):
        hsm_token.agree(label_of(KeyRole.D1), software_key(number)[1], INFO)
    assert session_objects(hsm_token) == before


def test_no_shared_secret_is_left_behind_when_the_digest_fails(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = session_objects(hsm_token)
    with monkeypatch.context() as patch:
        patch.setattr(hsm_token, "_session", Watched(hsm_token._session, exceptions.DeviceError()))
        with pytest.raises(VaultUnavailable):
            hsm_token.agree(label_of(KeyRole.D1), software_key(2)[1], INFO)
    assert session_objects(hsm_token) == before


@pytest.mark.parametrize("role", ENCRYPT_ROLES)
def test_a_block_is_deciphered_to_what_it_was(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    block = os.urandom(16)
    sealed = hsm_token.encrypt_block(label_of(role), block)
    assert sealed != block
    assert hsm_token.decrypt_block(label_of(role), sealed) == block


@pytest.mark.parametrize("role", ENCRYPT_ROLES)
def test_gcm_is_counter_mode_of_the_same_cipher(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    label, nonce, plaintext = label_of(role), os.urandom(12), os.urandom(20)
    sealed = hsm_token.encrypt_gcm(label, nonce, plaintext)
    stream = b"".join(hsm_token.encrypt_block(label, nonce + n.to_bytes(4)) for n in (2, 3))
    assert len(sealed) == len(plaintext) + 16
    assert sealed[:20] == bytes(a ^ b for a, b in zip(plaintext, stream, strict=False))
    assert hsm_token.decrypt_gcm(label, nonce, sealed) == plaintext


@pytest.mark.parametrize("role", MAC_ROLES)
def test_a_mac_depends_on_every_bit_and_on_the_key(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    data = os.urandom(40)
    mac = hsm_token.mac(label_of(role), data)
    assert (len(mac), mac) == (16, hsm_token.mac(label_of(role), data))
    others = {hsm_token.mac(label_of(other), data) for other in MAC_ROLES if other is not role}
    others |= {hsm_token.mac(label_of(role), changed) for changed in (data[:-1], data + b"\0", b"")}
    assert mac not in others
    assert len(others) == len(MAC_ROLES) - 1 + 3


def test_a_signature_verifies_in_software(hsm_token: Pkcs11Token) -> None:
    label, digest = label_of(KeyRole.TOKEN_SIGN), os.urandom(32)
    signature = hsm_token.sign(label, digest)
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    public = hsm_token.public_point(label).public_key()
    public.verify(der, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_random_bytes_are_as_many_as_asked_and_do_not_repeat(hsm_token: Pkcs11Token) -> None:
    assert [len(hsm_token.random(size)) for size in (1, 12, 16, 33)] == [1, 12, 16, 33]
    assert len({hsm_token.random(16) for _ in range(100)}) == 100


# Threads and processes


def test_the_module_locks_for_itself_so_that_threads_do_not_crash_it(own_softhsm: SoftHsm) -> None:
    assert run("threads", own_softhsm) == THREADS * OPERATIONS


def test_processes_that_start_at_once_all_open_the_token(
    softhsm: SoftHsm, hsm_token: object
) -> None:
    processes = [start("open_in_rounds", softhsm) for _ in range(8)]
    try:
        assert [line(process) for process in processes] == ["ready"] * 8
        for _ in range(ROUNDS):
            for process in processes:
                assert process.stdin
                process.stdin.write("\n")
                process.stdin.flush()
            assert [line(process) for process in processes] == ["open"] * 8
    finally:
        for process in processes:
            process.communicate(timeout=20)
    assert [process.returncode for process in processes] == [0] * 8


def line(process: Any) -> str:  # noqa: ANN401 - Popen of text
    return str(process.stdout.readline().strip())


# Failures


def test_a_wrong_setting_is_told_from_a_wrong_pin(own_softhsm: SoftHsm) -> None:
    assert run("login_and_files", own_softhsm) == {
        "no module": "VaultUnavailable",
        "module is no library": "VaultUnavailable",
        "library is no module": "VaultUnavailable",
        "no token": "VaultUnavailable",
        "no PIN file": "VaultUnavailable",
        "PIN file is a directory": "VaultUnavailable",
        "PIN file is not text": "VaultUnavailable",
        "empty PIN": "LoginRefused",
        "wrong PIN": "LoginRefused",
        "line end of Windows": "open",
        "nothing wrong": "open",
    }


def test_a_token_that_was_unavailable_works_again_after_a_new_opening(own_softhsm: SoftHsm) -> None:
    assert run("hsm_token_taken_away", own_softhsm) == {
        "a call": "VaultUnavailable",
        "an opening": "VaultUnavailable",
        "back": "the same key",
    }


def test_after_a_second_ceremony_new_values_use_the_new_keys_and_old_ones_still_open(
    own_softhsm: SoftHsm,
) -> None:
    assert run("generations", own_softhsm) == {
        "sealed under": ["pan.g1", "pin.g1", "pan.g2", "pin.g2"],
        "old PIN": True,
        "new PIN": True,
        "first keys as before": True,
    }


def test_keys_of_other_applications_are_ignored(own_softhsm: SoftHsm) -> None:
    assert run("foreign_objects", own_softhsm) == sorted(map(str, FIRST))


def test_a_token_with_two_keys_of_one_label_is_not_opened(own_softhsm: SoftHsm) -> None:
    assert run("two_keys_of_one_label", own_softhsm) == "VaultUnavailable"


class FakeKey:
    """A key on a fake token: fails with *error*, whatever is asked of it."""

    def __init__(self, label: KeyLabel, error: Exception | None = None) -> None:
        self.label = str(label)
        self.error = error
        self.point = b""

    def __getitem__(self, _: Attribute) -> bytes:
        return self.point if self.error is None else self.fail()

    def fail(self, *_: object, **__: object) -> bytes:
        assert self.error
        raise self.error

    encrypt = decrypt = sign = derive_key = fail


class FakeSession:
    """A session with the given keys, which fails as they do."""

    def __init__(self, *keys: FakeKey) -> None:
        self.keys = keys

    def get_objects(self, _: object) -> tuple[FakeKey, ...]:
        return self.keys

    def fail(self, *given: object, **named: object) -> object:
        return self.keys[0].fail(*given, **named)

    generate_random = digest = generate_key = create_domain_parameters = create_object = fail


SETTINGS = HsmTokenSettings(module=Path("m.so"), token_label="t", pin_file=Path("p"))
ERRORS = [
    error
    for error in vars(exceptions).values()
    if isinstance(error, type) and issubclass(error, PKCS11Error)
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_way_in_which_a_device_can_fail_is_an_unavailable_vault(
    error: type[PKCS11Error],
) -> None:
    label, missing = label_of(KeyRole.PIN), KeyLabel(KeyRole.PIN, 2)
    key = FakeKey(label, error("with a detail"))
    hsm_token, derived = Pkcs11Token(None, FakeSession(key), SETTINGS), DerivedKey(key)
    point = software_key(2)[1]
    for call in (
        lambda: hsm_token.encrypt_block(label, bytes(16)),
        lambda: hsm_token.decrypt_block(label, bytes(16)),
        lambda: hsm_token.decrypt_gcm(label, bytes(12), bytes(16)),
        lambda: hsm_token.mac(label, b""),
        lambda: hsm_token.tdes_encrypt(label, bytes(8)),
        lambda: hsm_token.tdes_decrypt(label, bytes(8)),
        lambda: hsm_token.tdes_encrypt_cbc(label, bytes(8), bytes(8)),
        lambda: hsm_token.tdes_mac(label, bytes(8)),
        lambda: hsm_token.derived(label, bytes(16)).__enter__(),
        lambda: derived.encrypt(bytes(8)),
        lambda: derived.decrypt(bytes(8)),
        lambda: derived.encrypt_cbc(bytes(8), bytes(8)),
        lambda: derived.mac(bytes(8)),
        lambda: hsm_token.kind(label),
        lambda: hsm_token.import_key(missing, KeyKind.AES_256, Secret(bytes(32))),
        lambda: hsm_token.agree(label, point, INFO),
        lambda: hsm_token.sign(label, bytes(32)),
        lambda: hsm_token.random(16),
        lambda: hsm_token.public_point(label),
        lambda: hsm_token.check_value(label),
        lambda: hsm_token.attributes(label),
        lambda: hsm_token.generate(missing),
    ):
        with pytest.raises(VaultUnavailable) as failure:
            call()
        assert failure.value.args == (error.__name__,)
        assert not isinstance(failure.value, LoginRefused)


@pytest.mark.parametrize("role", [*MAC_ROLES, *EC_ROLES])
def test_a_token_that_refuses_to_encipher_is_an_unavailable_vault(
    hsm_token: Pkcs11Token, role: KeyRole
) -> None:
    with pytest.raises(VaultUnavailable, match="did not encipher"):
        hsm_token.encrypt_gcm(label_of(role), bytes(12), b"")


@pytest.mark.parametrize("role", OWN_ROLES)
def test_a_key_that_is_not_there_is_an_unavailable_vault(role: KeyRole) -> None:
    hsm_token = Pkcs11Token(None, FakeSession(), SETTINGS)
    label = label_of(role)
    for call in (
        lambda: hsm_token.encrypt_block(label, bytes(16)),
        lambda: hsm_token.decrypt_block(label, bytes(16)),
        lambda: hsm_token.encrypt_gcm(label, bytes(12), b""),
        lambda: hsm_token.decrypt_gcm(label, bytes(12), bytes(16)),
        lambda: hsm_token.mac(label, b""),
        lambda: hsm_token.tdes_encrypt(label, bytes(8)),
        lambda: hsm_token.tdes_decrypt(label, bytes(8)),
        lambda: hsm_token.tdes_encrypt_cbc(label, bytes(8), bytes(8)),
        lambda: hsm_token.tdes_mac(label, bytes(8)),
        lambda: hsm_token.derived(label, bytes(16)).__enter__(),
        lambda: hsm_token.kind(label),
        lambda: hsm_token.agree(label, software_key(2)[1], INFO),
        lambda: hsm_token.sign(label, bytes(32)),
        lambda: hsm_token.public_point(label),
        lambda: hsm_token.check_value(label),
        lambda: hsm_token.attributes(label),
    ):
        with pytest.raises(VaultUnavailable, match="a key is not on the token"):
            call()


@pytest.mark.parametrize("point", [b"", bytes(67), b"\x04\x61\x04" + bytes(96)], ids=len)
def test_a_key_of_another_curve_is_an_unavailable_vault(point: bytes) -> None:
    key = FakeKey(label_of(KeyRole.D1))
    key.point = point
    hsm_token = Pkcs11Token(None, FakeSession(key), SETTINGS)
    with pytest.raises(VaultUnavailable, match="not a P-256 key"):
        hsm_token.public_point(label_of(KeyRole.D1))


class FakeLibrary:
    """A module whose token refuses to be opened."""

    error: type[Exception]

    def __init__(self, *_: object) -> None:
        pass

    def get_token(self, **_: object) -> "FakeLibrary":
        return self

    def open(self, **_: object) -> None:
        raise self.error


REFUSALS = {
    exceptions.PinIncorrect,
    exceptions.PinLocked,
    exceptions.PinInvalid,
    exceptions.PinLenRange,
    exceptions.PinExpired,
}


@pytest.mark.parametrize("error", [*ERRORS, OSError], ids=lambda error: error.__name__)
def test_an_opening_that_the_token_answers_with_no_is_not_worth_another_try(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pin").write_text("1234\n")
    monkeypatch.setattr(FakeLibrary, "error", error, raising=False)
    monkeypatch.setattr(device, "LockingLibrary", FakeLibrary)
    with pytest.raises(VaultUnavailable) as refusal:
        Pkcs11Token.open(SETTINGS.model_copy(update={"pin_file": tmp_path / "pin"}))
    assert isinstance(refusal.value, LoginRefused) == (error in REFUSALS)
    assert "1234" not in str(refusal.value)
