"""What a PKCS#11 module returns, and what becomes of it."""

import ctypes
from collections.abc import Callable

import pytest
from pkcs11 import Mechanism

from hsm.errors import LoginRefused, VaultUnavailable
from hsm.pkcs11 import calls as module
from hsm.pkcs11.calls import AES_CMAC, AES_ECB, ECDSA, Calls
from hsm.pkcs11.keys import KeyRole
from hsm.pkcs11.structures import Template
from hsm.pkcs11.templates import SHARED_SECRET
from hsm.pkcs11.token import Pkcs11Token
from tests.hsm.pkcs11.fake_module import FUNCTIONS, SESSION, FakeModule
from tests.hsm.pkcs11.sample_keys import INFO, label_of, session_objects, software_key
from tests.modules import MODULES

KEY = 0x2_0000_0009
POINT = software_key(2)[1].uncompressed
#: Each operation, the functions that it calls, and the size of its result.
OPERATIONS: dict[str, tuple[Callable[[Calls], object], tuple[str, ...], int]] = {
    "encrypt": (
        lambda calls: calls.encrypt(AES_ECB, KEY, bytes(16)),
        ("encrypt_init", "encrypt"),
        16,
    ),
    "decrypt": (
        lambda calls: calls.decrypt(AES_ECB, KEY, bytes(16)),
        ("decrypt_init", "decrypt"),
        16,
    ),
    "encrypt_cbc": (
        lambda calls: calls.encrypt_cbc(Mechanism.AES_CBC, KEY, bytes(16), bytes(32)),
        ("encrypt_init", "encrypt"),
        32,
    ),
    "encrypt_gcm": (
        lambda calls: calls.encrypt_gcm(KEY, bytes(12), bytes(20)),
        ("encrypt_init", "encrypt"),
        36,
    ),
    "decrypt_gcm": (
        lambda calls: calls.decrypt_gcm(KEY, bytes(12), bytes(36)),
        ("decrypt_init", "decrypt"),
        20,
    ),
    "mac": (
        lambda calls: calls.sign(AES_CMAC, KEY, b"", 16),
        ("sign_init", "sign"),
        16,
    ),
    "sign": (
        lambda calls: calls.sign(ECDSA, KEY, bytes(32), 64),
        ("sign_init", "sign"),
        64,
    ),
    "agree": (
        lambda calls: calls.agree(KEY, POINT, INFO, Template(SHARED_SECRET)),
        ("derive_key", "digest_init", "digest_update", "digest_key", "digest_final"),
        32,
    ),
    "derive_tdes": (
        lambda calls: calls.derive_tdes(KEY, bytes(16), Template(SHARED_SECRET)),
        ("derive_key",),
        0,
    ),
    "destroy": (lambda calls: calls.destroy(KEY), ("destroy_object",), 0),
    "random": (lambda calls: calls.random(16), ("generate_random",), 0),
}
SIZED = [name for name, (_, _, size_bytes) in OPERATIONS.items() if size_bytes]
#: PKCS#11 2.40, table 6 and 5.1.
RETURNED = {
    0x05: "GeneralError",
    0x30: "DeviceError",
    0x31: "DeviceMemory",
    0x32: "DeviceRemoved",
    0x40: "EncryptedDataInvalid",
    0x41: "EncryptedDataLenRange",
    0x54: "FunctionNotSupported",
    0x60: "KeyHandleInvalid",
    0x68: "PKCS11Error",
    0x70: "MechanismInvalid",
    0x82: "ObjectHandleInvalid",
    0x90: "OperationActive",
    0xB0: "SessionClosed",
    0xB3: "SessionHandleInvalid",
    0xE0: "TokenNotPresent",
    0x101: "UserNotLoggedIn",
    0x150: "PKCS11Error",
    0x190: "PKCS11Error",
    0x8000_0001: "PKCS11Error",
    0x1_0000_0000: "PKCS11Error",
}


def test_every_function_is_faked() -> None:
    assert {*FUNCTIONS} - {"initialize", "finalize"} == {
        name for _, names, _ in OPERATIONS.values() for name in names
    }


@pytest.mark.parametrize("returned", RETURNED, ids=hex)
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_a_function_returns_is_an_unavailable_vault(name: str, returned: int) -> None:
    operation, functions, size_bytes = OPERATIONS[name]
    for function in functions:
        fake = FakeModule(size_bytes, **{function: returned})
        with pytest.raises(VaultUnavailable) as failure:
            operation(Calls(fake.functions, SESSION))
        assert failure.value.args == (RETURNED[returned],)
        assert not isinstance(failure.value, LoginRefused)
        assert function in fake.names


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_calls_each_function_with_the_whole_handle(name: str) -> None:
    operation, functions, size_bytes = OPERATIONS[name]
    fake = FakeModule(size_bytes)
    operation(Calls(fake.functions, SESSION))
    assert {*fake.names} >= {*functions}
    assert {given[0] for _, given in fake.called} == {SESSION}
    first = dict(reversed(fake.called))[functions[0]]
    assert KEY in first or name == "random"


@pytest.mark.parametrize("name", SIZED)
def test_a_result_of_another_length_is_refused(name: str) -> None:
    operation, _, size_bytes = OPERATIONS[name]
    operation(Calls(FakeModule(size_bytes).functions, SESSION))
    for length_bytes in (0, size_bytes - 1, size_bytes + 1, size_bytes + 64, 2**64 - 1):
        fake = FakeModule(length_bytes)
        with pytest.raises(VaultUnavailable, match="wrong length"):
            operation(Calls(fake.functions, SESSION))


@pytest.mark.parametrize("returned", [0, 0x30])
@pytest.mark.parametrize("name", [*SIZED, "random"])
def test_nothing_of_a_result_stays_in_the_room_for_it(
    name: str, returned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[ctypes.Array[ctypes.c_char]] = []

    def room_type(size_bytes: int) -> Callable[[], ctypes.Array[ctypes.c_char]]:
        def make() -> ctypes.Array[ctypes.c_char]:
            rooms.append((ctypes.c_char * size_bytes)())
            return rooms[-1]

        return make

    monkeypatch.setattr(module, "_room_type", room_type)
    operation, functions, size_bytes = OPERATIONS[name]
    fake = FakeModule(size_bytes, **{functions[-1]: returned})
    try:
        operation(Calls(fake.functions, SESSION))
    except VaultUnavailable:
        assert returned
    (room,) = rooms
    assert room.raw == bytes(len(room))


@pytest.mark.parametrize("function", ["digest_init", "digest_update", "digest_key", "digest_final"])
def test_a_digest_that_fails_is_ended_and_the_shared_secret_destroyed(function: str) -> None:
    fake = FakeModule(32, **{function: 0x30})
    with pytest.raises(VaultUnavailable, match="DeviceError"):
        Calls(fake.functions, SESSION).agree(KEY, POINT, INFO, Template(SHARED_SECRET))
    assert fake.names[-2:] == ["digest_final", "destroy_object"]


def test_a_shared_secret_that_is_not_destroyed_is_an_unavailable_vault() -> None:
    fake = FakeModule(32, destroy_object=0x30)
    with pytest.raises(VaultUnavailable, match="DeviceError"):
        Calls(fake.functions, SESSION).agree(KEY, POINT, INFO, Template(SHARED_SECRET))


@pytest.mark.parametrize("name", MODULES)
def test_a_call_that_is_refused_is_not_in_the_way_of_the_next(
    name: str, request: pytest.FixtureRequest
) -> None:
    hsm_token: Pkcs11Token = request.getfixturevalue(MODULES[name])
    pin, mac, d1 = map(label_of, (KeyRole.PIN, KeyRole.PIN_MAC, KeyRole.D1))
    point = software_key(2)[1]
    before, objects = hsm_token.agree(d1, point, INFO), session_objects(hsm_token)
    refused: tuple[Callable[[], object], ...] = (
        lambda: hsm_token.mac(pin, b""),
        lambda: hsm_token.encrypt_block(mac, bytes(16)),
        lambda: hsm_token.encrypt_gcm(d1, bytes(12), b""),
        lambda: hsm_token.encrypt_block(pin, bytes(15)),
        lambda: hsm_token.decrypt_block(pin, bytes(15)),
        lambda: hsm_token.decrypt_gcm(label_of(KeyRole.RECORD), bytes(12), bytes(36)),
        lambda: hsm_token.agree(pin, point, INFO),
        lambda: hsm_token.sign(pin, bytes(32)),
        lambda: hsm_token._calls._digest(ctypes.c_ulong(KEY), INFO),
    )
    for call in refused:
        with pytest.raises(VaultUnavailable):
            call()
        assert hsm_token.agree(d1, point, INFO) == before
        assert len(hsm_token.mac(mac, b"")) == 16
        hsm_token.decrypt_block(pin, hsm_token.encrypt_block(pin, bytes(16)))
    assert session_objects(hsm_token) == objects
