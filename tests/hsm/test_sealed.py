"""The layouts of sealed values: they are in databases, so none of these bytes may move."""

import pytest
from hypothesis import given, strategies

from hsm.errors import SealBroken
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel, KeyRole
from hsm.port import CardRef, ValueKind
from hsm.sealed import (
    Envelope,
    length_prefixed,
    pack,
    pin_mac_input,
    record_mac_input,
    unpack,
    value_mac_input,
)

BODY_BYTES = {KeyRole.PIN: 16, KeyRole.RECORD: 348, KeyRole.VALUES: 284}
CARD = CardRef("testbank01", "card-1")
PIN_LABEL = KeyLabel(KeyRole.PIN, 1)
RECORD_LABEL = KeyLabel(KeyRole.RECORD, 12)
VALUES_LABEL = KeyLabel(KeyRole.VALUES, 3)


def sealed(role: KeyRole, generation: int = 1) -> bytes:
    return pack(Envelope(KeyLabel(role, generation), b"\xbb" * BODY_BYTES[role], b"\xcc" * 16))


def test_a_sealed_pin_is_version_label_block_and_cmac() -> None:
    assert sealed(KeyRole.PIN).hex() == "01" + "06" + b"pin.g1".hex() + "bb" * 16 + "cc" * 16


def test_a_sealed_record_is_version_label_nonce_ciphertext_tag_and_cmac() -> None:
    expected = "01" + "0a" + b"record.g12".hex() + "bb" * (12 + 320 + 16) + "cc" * 16
    assert sealed(KeyRole.RECORD, 12).hex() == expected


def test_a_sealed_value_is_version_label_nonce_ciphertext_tag_and_cmac() -> None:
    expected = "01" + "09" + b"values.g3".hex() + "bb" * (12 + 256 + 16) + "cc" * 16
    assert sealed(KeyRole.VALUES, 3).hex() == expected


def test_the_cmac_of_a_pin_covers_issuer_card_holder_counter_label_and_block() -> None:
    assert pin_mac_input(CARD, "ann", 258, PIN_LABEL, b"\xbb" * 16) == (
        b"\0\0\0\x03pin\0\0\0\x0atestbank01\0\0\0\x06card-1\0\0\0\x03ann"
        b"\0\0\0\x08\0\0\0\0\0\0\x01\x02\0\0\0\x06pin.g1\0\0\0\x10" + b"\xbb" * 16
    )


def test_the_cmac_of_a_record_covers_issuer_card_label_and_ciphertext() -> None:
    assert record_mac_input(CARD, RECORD_LABEL, b"\xbb" * 348) == (
        b"\0\0\0\x06record\0\0\0\x0atestbank01\0\0\0\x06card-1"
        b"\0\0\0\x0arecord.g12\0\0\x01\x5c" + b"\xbb" * 348
    )


@pytest.mark.parametrize("kind", ["pvv", "offset-3624", "prw", "script"])
def test_the_cmac_of_a_value_covers_issuer_card_holder_counter_kind_label_and_ciphertext(
    kind: str,
) -> None:
    assert value_mac_input(CARD, "ann", 258, ValueKind(kind), VALUES_LABEL, b"\xbb" * 284) == (
        b"\0\0\0\x05value\0\0\0\x0atestbank01\0\0\0\x06card-1\0\0\0\x03ann"
        b"\0\0\0\x08\0\0\0\0\0\0\x01\x02"
        + len(kind).to_bytes(4)
        + kind.encode()
        + b"\0\0\0\x09values.g3\0\0\x01\x1c"
        + b"\xbb" * 284
    )


@pytest.mark.parametrize("role", BODY_BYTES)
@given(
    generation=strategies.integers(1, 999_999),
    body=strategies.binary(),
    cmac=strategies.binary(min_size=16),
)
def test_an_envelope_is_read_as_it_was_packed(
    role: KeyRole, generation: int, body: bytes, cmac: bytes
) -> None:
    size = BODY_BYTES[role]
    envelope = Envelope(KeyLabel(role, generation), body[:size].ljust(size, b"\0"), cmac[:16])
    assert unpack(pack(envelope), role) == envelope


@pytest.mark.parametrize(
    ("role", "mac_role"),
    [
        (KeyRole.PIN, KeyRole.PIN_MAC),
        (KeyRole.RECORD, KeyRole.RECORD_MAC),
        (KeyRole.VALUES, KeyRole.VALUES_MAC),
    ],
)
def test_the_mac_key_has_the_generation_of_the_sealing_key(
    role: KeyRole, mac_role: KeyRole
) -> None:
    assert unpack(sealed(role, 7), role).mac_label == KeyLabel(mac_role, 7)


def relabelled(good: bytes, label: bytes) -> bytes:
    return bytes((1, len(label))) + label + good[2 + good[1] :]


@pytest.mark.parametrize("role", BODY_BYTES)
@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda good: good[:1],
        lambda good: good[:2],
        lambda good: good[:8],
        lambda good: good[:-1],
        lambda good: good + b"\0",
        lambda good: b"\0" + good[1:],
        lambda good: b"\2" + good[1:],
        lambda good: good[:1] + b"\0" + good[2:],
        lambda good: good[:1] + b"\xff" + good[2:],
        lambda good: good[:1] + bytes((good[1] + 1,)) + good[2:],
        lambda good: good.replace(b".g1", b".g0"),
        lambda good: good.replace(b".g1", b"-g1"),
        lambda good: good.replace(b".g1", b"@testbank01.g1"),
        lambda good: good[:2] + b"\xf0" + good[3:],
        lambda good: relabelled(good, b"d1.g1"),
        lambda good: relabelled(good, good[2 : 2 + good[1]].replace(b".g1", b"-mac.g1")),
    ],
)
def test_what_is_not_a_sealed_value_of_its_role_is_refused(role: KeyRole, change: object) -> None:
    assert callable(change)
    with pytest.raises(SealBroken):
        unpack(change(sealed(role)), role)


@pytest.mark.parametrize("role", BODY_BYTES)
@pytest.mark.parametrize("other", [*BODY_BYTES, *MAC_ROLES.values()])
def test_the_label_of_another_role_is_refused(role: KeyRole, other: KeyRole) -> None:
    changed = relabelled(sealed(role), f"{other}.g1".encode())
    if other is role:
        assert unpack(changed, role).label.role is role
        return
    with pytest.raises(SealBroken):
        unpack(changed, role)


@pytest.mark.parametrize("role", BODY_BYTES)
@given(blob=strategies.binary(max_size=100))
def test_no_bytes_make_the_reader_fail_in_another_way(role: KeyRole, blob: bytes) -> None:
    with pytest.raises(SealBroken):
        unpack(blob, role)


@given(strategies.lists(strategies.binary(max_size=20)))
def test_length_prefixed_lists_can_be_told_apart(parts: list[bytes]) -> None:
    # What can be taken apart again in one way only was not made from two lists.
    joined, found = length_prefixed(*parts), []
    while joined:
        size = int.from_bytes(joined[:4])
        found.append(joined[4 : 4 + size])
        joined = joined[4 + size :]
    assert found == parts


@given(
    strategies.lists(strategies.binary(max_size=6), min_size=1),
    strategies.lists(strategies.binary(max_size=6), min_size=1),
)
def test_two_lists_that_differ_never_read_the_same(left: list[bytes], right: list[bytes]) -> None:
    assert (length_prefixed(*left) == length_prefixed(*right)) == (left == right)
