"""What each module enforces against somebody with the login that serves: tried, key by key."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding
from pkcs11 import KDF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error

from crypto.emv.key_derivation import odd_parity
from crypto.secret import Secret
from hsm.errors import VaultUnavailable
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.structures import Template
from hsm.pkcs11.templates import DERIVED_KEY
from hsm.pkcs11.token import Pkcs11Token
from tests.crypto.ciphers import aes_encrypt
from tests.hsm.pkcs11.documented import column
from tests.hsm.pkcs11.sample_keys import binding, forced, session_keys
from tests.modules import MODULES

PIN, PIN_MAC, PAGE_KEY = (
    KeyLabel(role, 1) for role in (KeyRole.PIN, KeyRole.PIN_MAC, KeyRole.PAGE)
)
MASTER: Final = KeyLabel(KeyRole.SECCOS_MAC_MASTER, 1, "testbank01")
WRAPS: Final = {
    Attribute.CLASS: ObjectClass.SECRET_KEY,
    Attribute.KEY_TYPE: KeyType.AES,
    Attribute.TOKEN: False,
    Attribute.WRAP: True,
}
IN_CLEAR: Final = {
    Attribute.TOKEN: False,
    Attribute.SENSITIVE: False,
    Attribute.EXTRACTABLE: True,
}


def undo_cbc(key: bytes, wrapped: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CBC(bytes(16))).decryptor().update(wrapped)[:32]


def undo_ecb(key: bytes, wrapped: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).decryptor().update(wrapped)[:32]


def undo_key_wrap(key: bytes, wrapped: bytes) -> bytes:
    try:
        return aes_key_unwrap_with_padding(key, wrapped)
    except InvalidUnwrap:
        return bytes(32)


Unwrap = Callable[[bytes, bytes], bytes]
#: By what a key is wrapped, and how that is undone.
WRAPPINGS: Final[Sequence[tuple[Mapping[str, Any], Unwrap]]] = (
    ({"mechanism": Mechanism.AES_KEY_WRAP_PAD}, undo_key_wrap),
    ({"mechanism": Mechanism.AES_CBC_PAD, "mechanism_param": bytes(16)}, undo_cbc),
    ({"mechanism": Mechanism.AES_CBC, "mechanism_param": bytes(16)}, undo_cbc),
    ({"mechanism": Mechanism.AES_ECB}, undo_ecb),
)
Attack = Callable[[Pkcs11Token], object]


def key_of(hsm_token: Pkcs11Token, label: KeyLabel) -> Any:  # noqa: ANN401 - the binding's
    return hsm_token._keys[label]


def use_another_mechanism(hsm_token: Pkcs11Token) -> object:
    """The usage is that of the role, the mechanism is none that it needs."""
    key = forced(key_of(hsm_token, PIN), binding.EncryptMixin)
    return key.encrypt(bytes(16), mechanism=Mechanism.AES_CBC_PAD, mechanism_param=bytes(16))


def use_for_something_else(hsm_token: Pkcs11Token) -> object:
    key = forced(key_of(hsm_token, PIN_MAC), binding.EncryptMixin)
    return key.encrypt(bytes(16), mechanism=Mechanism.AES_ECB)


def read_it(hsm_token: Pkcs11Token) -> object:
    return key_of(hsm_token, PIN)[Attribute.VALUE]


def make_it_extractable(hsm_token: Pkcs11Token) -> object:
    key_of(hsm_token, PIN)[Attribute.EXTRACTABLE] = True
    return key_of(hsm_token, PIN)[Attribute.EXTRACTABLE]


def make_it_not_sensitive(hsm_token: Pkcs11Token) -> object:
    key_of(hsm_token, PIN)[Attribute.SENSITIVE] = False
    return not key_of(hsm_token, PIN)[Attribute.SENSITIVE]


def copy_it_in_clear(hsm_token: Pkcs11Token) -> object:
    """Make a copy that can be wrapped, and so be read."""
    copied = key_of(hsm_token, PIN).copy({Attribute.TOKEN: False, Attribute.EXTRACTABLE: True})
    try:
        return copied[Attribute.EXTRACTABLE]
    finally:
        copied.destroy()


def wrap_it(hsm_token: Pkcs11Token) -> object:
    """Wrap it by a key that the attacker has, and use what comes out."""
    value = os.urandom(32)
    wrapping = hsm_token._session.create_object({**WRAPS, Attribute.VALUE: value})
    found = []
    try:
        for how, unwrap in WRAPPINGS:
            with suppress(PKCS11Error):
                wrapped = wrapping.wrap_key(key_of(hsm_token, PIN), **how)
                # It is the key if it enciphers as the HSM token does.
                enciphered = aes_encrypt(unwrap(value, wrapped))(bytes(16))
                found.append(enciphered == hsm_token.encrypt_block(PIN, bytes(16)))
    finally:
        wrapping.destroy()
    return any(found)


def agree_in_clear(hsm_token: Pkcs11Token, label: KeyLabel = PAGE_KEY) -> object:
    """Have the secret that opens a page's JWE made so that it can be read."""
    point = hsm_token.public_point(label).uncompressed
    secret = forced(key_of(hsm_token, label), binding.DeriveMixin).derive_key(
        KeyType.GENERIC_SECRET,
        256,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, point),
        template=IN_CLEAR,
    )
    try:
        return secret[Attribute.VALUE]
    finally:
        secret.destroy()


def derive_in_clear(hsm_token: Pkcs11Token) -> object:
    """Have a session key of SECCOS made so that it can be read."""
    attributes = hsm_token._known({**DERIVED_KEY, **IN_CLEAR})
    template = Template(attributes)
    handle = hsm_token._calls.derive_tdes(
        hsm_token._keys[MASTER].handle, bytes(range(16)), template
    )
    try:
        return session_keys(hsm_token)[handle][Attribute.VALUE]
    finally:
        hsm_token._calls.destroy(handle)


ATTACKS: Final[Mapping[str, Attack]] = {
    "a key is read": read_it,
    "it is made extractable": make_it_extractable,
    "it is made not sensitive": make_it_not_sensitive,
    "it is wrapped": wrap_it,
    "it is copied to one that can be wrapped": copy_it_in_clear,
    "it is used for something else than its role": use_for_something_else,
    "it is used by a mechanism that its role does not need": use_another_mechanism,
    "a secret is agreed by ECDH that can be read": agree_in_clear,
    "a TDES session key is derived that can be read": derive_in_clear,
}


def is_refused(hsm_token: Pkcs11Token, attack: Attack) -> bool:
    try:
        return not attack(hsm_token)
    except (PKCS11Error, VaultUnavailable):
        return True


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> Iterator[tuple[str, Pkcs11Token]]:
    """Each module that runs here, by its name, with the key that session keys come from."""
    hsm_token: Pkcs11Token = request.getfixturevalue(MODULES[request.param])
    hsm_token.import_key(MASTER, KeyKind.TDES_2KEY, odd_parity(Secret(os.urandom(16))))
    yield request.param, hsm_token
    hsm_token.destroy(MASTER)


def test_the_documentation_says_what_a_module_enforces(module: tuple[str, Pkcs11Token]) -> None:
    name, hsm_token = module
    assert column("refused is that", name) == {
        what: "yes" if is_refused(hsm_token, attack) else "**no**"
        for what, attack in ATTACKS.items()
    }


def test_nothing_stays_of_what_is_tried(module: tuple[str, Pkcs11Token]) -> None:
    _, hsm_token = module
    before = len(list(hsm_token._session.get_objects({})))
    for attack in ATTACKS.values():
        is_refused(hsm_token, attack)
    assert len(list(hsm_token._session.get_objects({}))) == before


def test_the_mechanism_is_refused_because_the_key_is_limited(hsm_token: Pkcs11Token) -> None:
    """The control: a key that is not limited does the same, and a limited one its own."""
    template = {Attribute.TOKEN: False, Attribute.ENCRYPT: True}
    key = hsm_token._session.generate_key(KeyType.AES, 256, template=template)
    try:
        assert key.encrypt(bytes(16), mechanism=Mechanism.AES_CBC_PAD, mechanism_param=bytes(16))
    finally:
        key.destroy()
    assert is_refused(hsm_token, use_another_mechanism)
    assert hsm_token.encrypt_cbc(PIN, bytes(16), bytes(16))
