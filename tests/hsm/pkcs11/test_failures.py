"""Every failure of a PKCS#11 token is one error of the vault."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pkcs11 import Attribute, PKCS11Error, exceptions

from crypto.secret import Secret
from hsm.errors import LoginRefused, VaultUnavailable
from hsm.pkcs11.derived_key import DerivedKey
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from tests.hsm.pkcs11.sample_keys import EC_ROLES, INFO, MAC_ROLES, label_of, software_key


class FakeKey:
    """A key on a fake HSM token: fails with *error*, whatever is asked of it."""

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


def uses(hsm_token: Pkcs11Token, label: KeyLabel) -> tuple[Callable[[], object], ...]:
    """List what is done with a key; AES-GCM is enciphered apart, outside python-pkcs11."""
    point = software_key(2)[1]
    return (
        lambda: hsm_token.encrypt_block(label, bytes(16)),
        lambda: hsm_token.decrypt_block(label, bytes(16)),
        lambda: hsm_token.decrypt_gcm(label, bytes(12), bytes(16)),
        lambda: hsm_token.mac(label, b""),
        lambda: hsm_token.tdes_encrypt(label, bytes(8)),
        lambda: hsm_token.tdes_decrypt(label, bytes(8)),
        lambda: hsm_token.tdes_encrypt_cbc(label, bytes(8), bytes(8)),
        lambda: hsm_token.tdes_mac(label, bytes(8)),
        lambda: hsm_token.derived(label, bytes(16)).__enter__(),
        lambda: hsm_token.kind(label),
        lambda: hsm_token.agree(label, point, INFO),
        lambda: hsm_token.sign(label, bytes(32)),
        lambda: hsm_token.public_point(label),
        lambda: hsm_token.check_value(label),
        lambda: hsm_token.attributes(label),
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_way_in_which_a_device_can_fail_is_an_unavailable_vault(
    error: type[PKCS11Error],
) -> None:
    label, missing = label_of(KeyRole.PIN), KeyLabel(KeyRole.PIN, 2)
    key = FakeKey(label, error("with a detail"))
    hsm_token, derived = Pkcs11Token(None, FakeSession(key), SETTINGS), DerivedKey(key)
    calls: tuple[Callable[[], object], ...] = (
        *uses(hsm_token, label),
        lambda: derived.encrypt(bytes(8)),
        lambda: derived.decrypt(bytes(8)),
        lambda: derived.encrypt_cbc(bytes(8), bytes(8)),
        lambda: derived.mac(bytes(8)),
        lambda: hsm_token.import_key(missing, KeyKind.AES_256, Secret(bytes(32))),
        lambda: hsm_token.random(16),
        lambda: hsm_token.generate(missing),
    )
    for call in calls:
        with pytest.raises(VaultUnavailable) as failure:
            call()
        assert failure.value.args == (error.__name__,)
        assert not isinstance(failure.value, LoginRefused)


@pytest.mark.parametrize("role", [*MAC_ROLES, *EC_ROLES])
def test_an_hsm_token_that_refuses_to_encipher_is_an_unavailable_vault(
    hsm_token: Pkcs11Token, role: KeyRole
) -> None:
    with pytest.raises(VaultUnavailable, match="did not encipher"):
        hsm_token.encrypt_gcm(label_of(role), bytes(12), b"")


@pytest.mark.parametrize("role", OWN_ROLES)
def test_a_key_that_is_not_there_is_an_unavailable_vault(role: KeyRole) -> None:
    hsm_token = Pkcs11Token(None, FakeSession(), SETTINGS)
    label = label_of(role)
    calls: tuple[Callable[[], object], ...] = (
        *uses(hsm_token, label),
        lambda: hsm_token.encrypt_gcm(label, bytes(12), b""),
    )
    for call in calls:
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
    monkeypatch.setattr(FakeLibrary, "error", error, raising=False)
    monkeypatch.setattr("hsm.pkcs11.token.load", lambda _: FakeLibrary())
    monkeypatch.setattr("hsm.pkcs11.token.find_token", lambda library, _: library)
    with pytest.raises(VaultUnavailable) as refusal:
        Pkcs11Token.open(SETTINGS.model_copy(update={"pin_file": tmp_path / "pin"}))
    assert isinstance(refusal.value, LoginRefused) == (error in REFUSALS)
    assert "1234" not in str(refusal.value)
