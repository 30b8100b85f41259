"""Two HSM tokens with other keys under the same labels are told apart, and it costs little."""

import pytest

from hsm.pkcs11.fingerprints import Fingerprints, fingerprint
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole
from tests.contracts.software_token import SoftwareToken

FIRST = [KeyLabel(role, 1) for role in OWN_ROLES]


class Asked(SoftwareToken):
    """Counts how often something was read of a key."""

    asked = 0

    def kind(self, label: KeyLabel) -> KeyKind:
        self.asked += 1
        return super().kind(label)


class WithoutCheckValues(SoftwareToken):
    """Keeps none of keys that make MACs, as some devices do."""

    def check_value(self, label: KeyLabel) -> bytes:
        return b"" if label.role is KeyRole.LOG_MAC else super().check_value(label)


def of(hsm_token: SoftwareToken) -> Fingerprints:
    return Fingerprints(hsm_token, Keyring(hsm_token))


def test_keys_of_two_ceremonies_have_other_fingerprints_under_each_label() -> None:
    one, other = of(SoftwareToken()).read(), of(SoftwareToken()).read()
    assert one.keys() == other.keys() == {*FIRST}
    assert all(one[label] != other[label] for label in FIRST)


def test_the_same_keys_have_the_same() -> None:
    hsm_token = SoftwareToken()
    assert of(hsm_token).read() == of(hsm_token).read()
    assert of(hsm_token).read() == {label: fingerprint(hsm_token, label) for label in FIRST}


def test_they_are_read_once_until_keys_are_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hsm_token = Asked()
    keyring = Keyring(hsm_token)
    fingerprints = Fingerprints(hsm_token, keyring)
    before = fingerprints.read()
    asked = hsm_token.asked
    assert fingerprints.read() is before
    assert hsm_token.asked == asked
    younger = KeyLabel(KeyRole.PIN, 2)
    hsm_token.generate(younger)
    monkeypatch.setattr(keyring, "_labels", (*FIRST, younger))  # as after a new table
    assert younger in fingerprints.read()


def test_a_key_without_a_check_value_is_left_out() -> None:
    assert {*FIRST} - of(WithoutCheckValues()).read().keys() == {KeyLabel(KeyRole.LOG_MAC, 1)}
