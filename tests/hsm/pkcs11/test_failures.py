"""Every failure of a PKCS#11 token is one error of the vault.

Here those that the binding finds; what the module itself returns is in :mod:`test_calls`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from pkcs11 import Attribute, PKCS11Error, exceptions

from crypto.secret import Secret
from hsm.errors import LoginRefused, VaultUnavailable
from hsm.pkcs11.calls import Calls
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from tests.hsm.pkcs11.fake_module import FakeModule
from tests.hsm.pkcs11.sample_keys import INFO, label_of, software_key


class FakeKey:
    """A key on a fake HSM token: fails with *error*, whatever is asked of it."""

    def __init__(self, label: KeyLabel, error: Exception | None = None) -> None:
        self.label = str(label)
        self.error = error
        self.handle = 1
        self.point = b""

    def __getitem__(self, _: Attribute) -> bytes:
        return self.point if self.error is None else self.fail()

    def fail(self, *_: object, **__: object) -> bytes:
        assert self.error
        raise self.error


class FakeSession:
    """A session with the given keys, which fails as they do."""

    def __init__(self, *keys: FakeKey) -> None:
        self.keys = keys

    def get_objects(self, _: object) -> tuple[FakeKey, ...]:
        return self.keys

    def fail(self, *given: object, **named: object) -> object:
        return self.keys[0].fail(*given, **named)

    generate_key = create_domain_parameters = create_object = fail


ATTRIBUTE_TYPE_INVALID = 0x12
SETTINGS = HsmTokenSettings(module=Path("m.so"), token_label="t", pin_file=Path("p"))
ERRORS = [
    error
    for error in vars(exceptions).values()
    if isinstance(error, type) and issubclass(error, PKCS11Error)
]


def opened(*keys: FakeKey) -> Pkcs11Token:
    """An HSM token with the given keys, of which a cipher does not know an attribute either."""
    calls = Calls(FakeModule(encrypt_init=ATTRIBUTE_TYPE_INVALID).functions, 0)
    return Pkcs11Token(None, FakeSession(*keys), calls, SETTINGS)


def reads(hsm_token: Pkcs11Token, label: KeyLabel) -> tuple[Callable[[], object], ...]:
    """List what is read of a key."""
    return (
        lambda: hsm_token.kind(label),
        lambda: hsm_token.public_point(label),
        lambda: hsm_token.check_value(label),
        lambda: hsm_token.attributes(label),
    )


def uses(hsm_token: Pkcs11Token, label: KeyLabel) -> tuple[Callable[[], object], ...]:
    """List what is done with a key."""
    point = software_key(2)[1]
    return (
        lambda: hsm_token.encrypt_block(label, bytes(16)),
        lambda: hsm_token.decrypt_block(label, bytes(16)),
        lambda: hsm_token.encrypt_cbc(label, bytes(16), bytes(16)),
        lambda: hsm_token.encrypt_gcm(label, bytes(12), b""),
        lambda: hsm_token.decrypt_gcm(label, bytes(12), bytes(16)),
        lambda: hsm_token.mac(label, b""),
        lambda: hsm_token.tdes_encrypt(label, bytes(8)),
        lambda: hsm_token.tdes_decrypt(label, bytes(8)),
        lambda: hsm_token.tdes_encrypt_cbc(label, bytes(8), bytes(8)),
        lambda: hsm_token.tdes_mac(label, bytes(8)),
        lambda: hsm_token.derived(label, bytes(16)).__enter__(),
        lambda: hsm_token.agree(label, point, INFO),
        lambda: hsm_token.sign(label, bytes(32)),
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_way_in_which_a_device_can_fail_is_an_unavailable_vault(
    error: type[PKCS11Error],
) -> None:
    label, missing = label_of(KeyRole.PIN), KeyLabel(KeyRole.PIN, 2)
    hsm_token = opened(FakeKey(label, error("with a detail")))
    calls: tuple[Callable[[], object], ...] = (
        *reads(hsm_token, label),
        lambda: hsm_token.import_key(missing, KeyKind.AES_256, Secret(bytes(32))),
        lambda: hsm_token.generate(missing),
    )
    for call in calls:
        with pytest.raises(VaultUnavailable) as failure:
            call()
        assert failure.value.args == (error.__name__,)
        assert not isinstance(failure.value, LoginRefused)


@pytest.mark.parametrize("label", [str(label_of(KeyRole.PIN)), "of another application"])
@pytest.mark.parametrize(
    "error",
    [error for error in ERRORS if error is not exceptions.AttributeTypeInvalid],
    ids=lambda error: error.__name__,
)
def test_a_device_that_fails_when_its_attributes_are_looked_for_is_an_unavailable_vault(
    error: type[PKCS11Error], label: str
) -> None:
    key = FakeKey(label_of(KeyRole.PIN), error("with a detail"))
    key.label = label
    hsm_token = opened(key)
    calls: list[Callable[[], object]] = [hsm_token.unknown_attributes]
    if hsm_token.labels():
        calls.append(lambda: hsm_token.derived(label_of(KeyRole.PIN), bytes(16)).__enter__())
    for call in calls:
        with pytest.raises(VaultUnavailable) as failure:
            call()
        assert failure.value.args == (error.__name__,)


@pytest.mark.parametrize("role", OWN_ROLES)
def test_a_key_that_is_not_there_is_an_unavailable_vault(role: KeyRole) -> None:
    hsm_token, label = opened(), label_of(role)
    for call in (*uses(hsm_token, label), *reads(hsm_token, label)):
        with pytest.raises(VaultUnavailable, match="a key is not on the token"):
            call()


@pytest.mark.parametrize("point", [b"", bytes(67), b"\x04\x61\x04" + bytes(96)], ids=len)
def test_a_key_of_another_curve_is_an_unavailable_vault(point: bytes) -> None:
    key = FakeKey(label_of(KeyRole.D1))
    key.point = point
    hsm_token = opened(key)
    with pytest.raises(VaultUnavailable, match="not a P-256 key"):
        hsm_token.public_point(label_of(KeyRole.D1))


def test_a_key_whose_destruction_failed_can_be_destroyed_again() -> None:
    destroyed: list[FakeKey] = []

    class DestroyedKey(FakeKey):
        def destroy(self) -> None:
            if self.error is not None:
                self.fail()
            destroyed.append(self)

    label = label_of(KeyRole.PIN)
    key = DestroyedKey(label, exceptions.DeviceError())
    hsm_token = opened(key)
    with pytest.raises(VaultUnavailable, match="DeviceError"):
        hsm_token.destroy(label)
    key.error = None
    hsm_token.destroy(label)
    # Both halves: the fake session finds it as secret and as public key.
    assert destroyed == [key, key]


@pytest.mark.parametrize("role", [KeyRole.PIN, KeyRole.D1])
def test_a_key_whose_maker_was_interrupted_is_destroyed(
    emptied: Pkcs11Token, role: KeyRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def objects() -> int:
        return len(list(emptied._session.get_objects({})))

    before, label = objects(), KeyLabel(role, 2)
    monkeypatch.setattr(emptied, "find_keys", interrupted)
    with pytest.raises(KeyboardInterrupt):
        emptied.generate(label)
    monkeypatch.undo()
    made = objects()
    emptied.destroy(label)
    assert made > before
    assert objects() == before


class FakeLibrary:
    """A module whose token refuses to be opened."""

    error: type[Exception]

    def __init__(self, *_: object) -> None:
        pass

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
def test_an_opening_that_the_hsm_token_answers_with_no_is_not_worth_another_try(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pin").write_text("1234\n")
    (tmp_path / "pin").chmod(0o600)
    monkeypatch.setattr(FakeLibrary, "error", error, raising=False)
    monkeypatch.setattr("hsm.pkcs11.token.load", lambda _: FakeLibrary())
    monkeypatch.setattr("hsm.pkcs11.token.token_of", lambda _, library: library)
    with pytest.raises(VaultUnavailable) as refusal:
        Pkcs11Token.open(SETTINGS.model_copy(update={"pin_file": tmp_path / "pin"}))
    assert isinstance(refusal.value, LoginRefused) == (error in REFUSALS)
    assert "1234" not in str(refusal.value)
