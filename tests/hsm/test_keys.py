"""Key roles and labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.errors import CeremonyError
from hsm.keys import KeyKind, KeyLabel, KeyRole, Usage

ROLES = {
    "pin": (KeyKind.AES_256, Usage.ENCRYPT),
    "pin-mac": (KeyKind.AES_256, Usage.MAC),
    "pan": (KeyKind.AES_256, Usage.ENCRYPT),
    "pan-mac": (KeyKind.AES_256, Usage.MAC),
    "config-mac": (KeyKind.AES_256, Usage.MAC),
    "d1": (KeyKind.EC_P256, Usage.AGREE),
    "intake": (KeyKind.EC_P256, Usage.AGREE),
    "token-sign": (KeyKind.EC_P256, Usage.SIGN),
}


def test_a_role_has_one_kind_and_one_usage() -> None:
    assert {str(role): (role.kind, role.usage) for role in KeyRole} == ROLES


@given(st.sampled_from(KeyRole), st.integers(1, 999_999))
def test_a_label_is_read_as_it_was_written(role: KeyRole, generation: int) -> None:
    label = KeyLabel(role, generation)
    assert str(label) == f"{role.value}.g{generation}"
    assert KeyLabel.parse(str(label)) == label


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
        "pin.g１",  # noqa: RUF001 - a digit that is not ASCII
    ],
)
def test_what_is_not_a_label_of_ours_is_refused(text: str) -> None:
    with pytest.raises(CeremonyError, match=r"^not a key label$"):
        KeyLabel.parse(text)


def test_keys_of_one_generation_belong_together() -> None:
    assert KeyLabel(KeyRole.PIN, 3).of(KeyRole.PIN_MAC) == KeyLabel(KeyRole.PIN_MAC, 3)
