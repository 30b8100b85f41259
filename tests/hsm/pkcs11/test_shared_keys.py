"""Keys shared with a partner: from components and key blocks into an HSM token."""

import os
from functools import partial

import psec
import pytest

from crypto import keyblock
from crypto.emv.key_derivation import odd_parity
from crypto.keyblock import KEY_BYTES, KeyAlgorithm, KeyPurpose
from crypto.secret import Secret
from hsm.errors import CeremonyError
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import BLOCK_ROLES, LEFT_ROLES, KeyKind, KeyLabel, KeyRole, Usage
from hsm.pkcs11.shared_keys import PURPOSES, ClearKey
from tests.contracts.software_token import SoftwareToken
from tests.crypto.ciphers import (
    aes_cmac,
    aes_encrypt,
    tdes_cbc,
    tdes_cmac,
    tdes_ecb,
    tdes_ecb_decrypt,
)
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.vectors import Row, rows

pytestmark = takes_tdes_the_old_way

ISSUER = "testbank01"
KBPKS = {
    "B": bytes.fromhex("DD7515F2BFC17F85CE48F3CA25CB21F6"),
    "D": bytes.fromhex("88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"),
}
KBPK_KINDS = {"B": KeyKind.TDES_2KEY, "D": KeyKind.AES_256}
PUBLISHED = rows("keyblock.json", "tr31_unwrap")
OPENED = [row for row in PUBLISHED if row.values[0]["inputs"]["key_block"][0] in "BD"]
REFUSED = [row for row in PUBLISHED if row not in OPENED]
NOT_GENUINE = "not a genuine key block"
NOT_FOR_IT = "not for this role"


def bring_kbpk(hsm_token: HsmToken, version: str, kbpk: bytes | None = None) -> KeyLabel:
    key = ClearKey(KBPK_KINDS[version], Secret(kbpk or KBPKS[version]))
    return shared_keys.store(hsm_token, KeyRole.BLOCK_PROTECTION, ISSUER, key)


def random_key(algorithm: str) -> bytes:
    return os.urandom(32 if algorithm == "A" else 16)


def wrapped(version: str, key: bytes, usage: str, algorithm: str, mode: str) -> str:
    header = psec.tr31.Header(version, usage, algorithm, mode, "00", "N")
    return str(psec.tr31.wrap(KBPKS[version], header, key))


def works_as(hsm_token: HsmToken, label: KeyLabel, key: bytes) -> bool:
    """Use an imported key in the one way that its role allows, and software beside it."""
    data = bytes(range(16))
    match label.role.usage:
        case Usage.MAC:
            if hsm_token.kind(label) is KeyKind.TDES_2KEY:
                return hsm_token.tdes_mac(label, data) == tdes_cmac(key)(data)
            return hsm_token.mac(label, data) == aes_cmac(key)(data)
        case Usage.ENCRYPT if hsm_token.kind(label) is KeyKind.AES_256:
            enciphered = hsm_token.encrypt_block(label, data)
            assert enciphered == aes_encrypt(key)(data)
            return hsm_token.decrypt_block(label, enciphered) == data
        case Usage.ENCRYPT | Usage.DECRYPT:
            if label.role.usage is Usage.ENCRYPT:
                assert hsm_token.tdes_encrypt(label, data) == tdes_ecb(key)(data)
            return hsm_token.tdes_decrypt(label, data) == tdes_ecb_decrypt(key)(data)
        case Usage.ENCRYPT_ONLY:
            enciphered = hsm_token.tdes_encrypt_cbc(label, bytes(8), data)
            assert enciphered == tdes_cbc(key)(bytes(8), data)
            return hsm_token.tdes_encrypt(label, data) == tdes_ecb(key)(data)
        case Usage.DERIVE:
            with hsm_token.derived(label, data) as derived:
                child = tdes_ecb(key)(data)  # its parity counts for nothing
                return derived.encrypt(data) == tdes_ecb(child)(data)
        case _:
            pytest.fail("no role of shared keys has this usage")


def purposes() -> list[tuple[KeyRole, str, str, str]]:
    return [
        (role, purpose.algorithm.value, usage, mode)
        for role, several in PURPOSES.items()
        for purpose in several
        for usage in purpose.usages
        for mode in sorted(purpose.modes)
    ]


def modes(algorithm_and_usage: str, letters: str) -> set[str]:
    return {f"{algorithm_and_usage} {letter}" for letter in letters}


def test_each_role_takes_keys_of_these_usages_and_modes_only() -> None:
    found: dict[str, set[str]] = {}
    for role, algorithm, usage, mode in purposes():
        found.setdefault(str(role), set()).add(f"{algorithm} {usage} {mode}")
    assert found == {
        "seccos-pin": {*modes("T P0", "DBN"), *modes("T E1", "DBXN")},
        "seccos-prw": {*modes("A M6", "CGVN"), *modes("T M6", "CGVN")},
        "seccos-prw-retail": modes("T M3", "CGVN"),
        "seccos-mac": {*modes("T M3", "CGVN"), *modes("T E2", "CGV")},
        "seccos-mac-cmac": {*modes("A M6", "CGVN"), *modes("T M6", "CGVN")},
        "seccos-mac-master": modes("T E2", "XN"),
        "pvk": modes("T V2", "CGN"),
        "pvk-3624": modes("T V1", "CGN"),
        "prw": modes("A M6", "CGN"),
        "zpk": modes("T P0", "BN"),
        "zpk-aes": modes("A P0", "BN"),
    }
    assert {*PURPOSES} == {*BLOCK_ROLES}


# Key blocks


@pytest.mark.parametrize("version", "BD")
@pytest.mark.parametrize(("role", "algorithm", "usage", "mode"), purposes())
def test_what_psec_wraps_is_imported(
    any_hsm_token: HsmToken, role: KeyRole, algorithm: str, usage: str, mode: str, version: str
) -> None:
    bring_kbpk(any_hsm_token, version)
    key = random_key(algorithm)
    text = wrapped(version, key, usage, algorithm, mode)
    if (version, algorithm) == ("B", "A"):
        with pytest.raises(CeremonyError, match="stronger than the block-protection key"):
            shared_keys.open_block(any_hsm_token, role, ISSUER, text)
        return

    opened = shared_keys.open_block(any_hsm_token, role, ISSUER, text)
    label = shared_keys.store(any_hsm_token, role, ISSUER, opened)

    assert (
        opened.kcv
        == (aes_cmac(key)(bytes(16)) if algorithm == "A" else tdes_ecb(key)(bytes(8)))[:3]
        .hex()
        .upper()
    )
    assert label == KeyLabel(role, 1, ISSUER)
    assert any_hsm_token.kind(label) is {"A": KeyKind.AES_256, "T": KeyKind.TDES_2KEY}[algorithm]
    assert works_as(any_hsm_token, label, key)


@pytest.mark.parametrize("row", OPENED)
def test_published_blocks_are_imported(
    any_hsm_token: HsmToken, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, key = row["inputs"]["key_block"], bytes.fromhex(row["expected"]["key"])
    bring_kbpk(any_hsm_token, text[0], bytes.fromhex(row["inputs"]["kbpk"]))
    # Their usages are of no role of ours: let one take them.
    header = keyblock.parse_header(text)
    algorithm = KeyAlgorithm(header.algorithm)
    role = KeyRole.PRW if algorithm is KeyAlgorithm.AES else KeyRole.PVK
    usages, modes = frozenset({header.usage}), frozenset({header.mode})
    purpose = KeyPurpose(algorithm, usages, modes, KEY_BYTES[algorithm])
    with pytest.raises(CeremonyError, match=NOT_FOR_IT):
        shared_keys.open_block(any_hsm_token, role, ISSUER, text)
    monkeypatch.setattr(shared_keys, "PURPOSES", {role: (purpose,)})

    opened = shared_keys.open_block(any_hsm_token, role, ISSUER, text)
    label = shared_keys.store(any_hsm_token, role, ISSUER, opened)

    assert opened.kcv == row["expected"]["kcv"]
    assert works_as(any_hsm_token, label, key)


def test_7_published_blocks_are_of_a_version_that_is_taken() -> None:
    assert (len(OPENED), len(REFUSED)) == (7, 4)


@pytest.mark.parametrize("row", REFUSED)
def test_versions_a_and_c_are_refused(any_hsm_token: HsmToken, row: Row) -> None:
    bring_kbpk(any_hsm_token, "B", bytes.fromhex(row["inputs"]["kbpk"]))
    for role in PURPOSES:
        with pytest.raises(CeremonyError, match="versions A and C"):
            shared_keys.open_block(any_hsm_token, role, ISSUER, row["inputs"]["key_block"])


@pytest.mark.parametrize("version", "BD")
def test_no_character_of_a_block_can_be_changed(any_hsm_token: HsmToken, version: str) -> None:
    bring_kbpk(any_hsm_token, version)
    text = wrapped(version, random_key("T"), "V2", "T", "G")
    for place, old in enumerate(text):
        for new in {"0", "7", "B", "E", "Z", " ", old.lower()} - {old}:
            changed = text[:place] + new + text[place + 1 :]
            with pytest.raises(CeremonyError):
                shared_keys.open_block(any_hsm_token, KeyRole.PVK, ISSUER, changed)


@pytest.mark.parametrize("text", ["", "B", "D0112", "\u0661" * 80, "B0080P0TE00E0000" + "0" * 63])
def test_what_is_no_key_block_is_refused(any_hsm_token: HsmToken, text: str) -> None:
    bring_kbpk(any_hsm_token, "B")
    with pytest.raises(CeremonyError, match=NOT_GENUINE):
        shared_keys.open_block(any_hsm_token, KeyRole.PVK, ISSUER, text)


@pytest.mark.parametrize(
    ("role", "usage", "algorithm", "mode"),
    [
        (KeyRole.PVK, "V1", "T", "G"),
        (KeyRole.PVK_3624, "V2", "T", "G"),
        (KeyRole.PVK, "V2", "T", "V"),
        (KeyRole.PVK_3624, "V1", "T", "V"),
        (KeyRole.PVK, "V2", "A", "G"),
        (KeyRole.SECCOS_PIN, "P0", "T", "E"),
        (KeyRole.SECCOS_PIN, "P0", "T", "X"),
        (KeyRole.SECCOS_PIN, "E2", "T", "X"),
        (KeyRole.SECCOS_PIN, "K0", "T", "B"),
        (KeyRole.SECCOS_MAC, "M6", "T", "C"),
        (KeyRole.SECCOS_MAC, "E2", "T", "X"),
        (KeyRole.SECCOS_MAC, "E2", "T", "N"),
        (KeyRole.SECCOS_PRW, "M3", "T", "C"),
        (KeyRole.SECCOS_PRW, "M3", "A", "C"),
        (KeyRole.SECCOS_PRW_RETAIL, "M6", "T", "C"),
        (KeyRole.SECCOS_PRW_RETAIL, "M3", "A", "C"),
        (KeyRole.SECCOS_MAC_CMAC, "M3", "T", "C"),
        (KeyRole.SECCOS_MAC_CMAC, "E2", "T", "C"),
        (KeyRole.SECCOS_MAC_CMAC, "M6", "A", "X"),
        (KeyRole.SECCOS_MAC_MASTER, "E2", "T", "C"),
        (KeyRole.SECCOS_MAC_MASTER, "E1", "T", "X"),
        (KeyRole.SECCOS_MAC_MASTER, "E2", "A", "X"),
        (KeyRole.PRW, "M6", "A", "V"),
        (KeyRole.PRW, "M6", "T", "C"),
        (KeyRole.ZPK, "P0", "T", "E"),
        (KeyRole.ZPK, "P0", "T", "D"),
        (KeyRole.ZPK, "P0", "A", "B"),
        (KeyRole.ZPK, "K0", "T", "B"),
        (KeyRole.ZPK_AES, "P0", "A", "D"),
        (KeyRole.ZPK_AES, "P0", "T", "B"),
        (KeyRole.ZPK_AES, "D0", "A", "B"),
    ],
)
def test_a_key_for_something_else_is_refused(
    any_hsm_token: HsmToken, role: KeyRole, usage: str, algorithm: str, mode: str
) -> None:
    bring_kbpk(any_hsm_token, "D")
    text = wrapped("D", random_key(algorithm), usage, algorithm, mode)
    with pytest.raises(CeremonyError, match=NOT_FOR_IT):
        shared_keys.open_block(any_hsm_token, role, ISSUER, text)


def test_a_refusal_says_what_the_block_says_and_what_the_role_takes() -> None:
    hsm_token = SoftwareToken([])
    bring_kbpk(hsm_token, "D")
    key = random_key("T")
    with pytest.raises(CeremonyError) as refusal:
        shared_keys.open_block(
            hsm_token, KeyRole.SECCOS_MAC, ISSUER, wrapped("D", key, "E2", "T", "N")
        )
    assert str(refusal.value) == (
        "the key in this block is not for this role: usage E2, algorithm T, mode of use N; "
        "the role takes M3 T C/G/N/V of 16 bytes; E2 T C/G/V of 16 bytes"
    )


@pytest.mark.parametrize("version", "BD")
@pytest.mark.parametrize(("role", "usage"), [(KeyRole.PVK, "V2"), (KeyRole.PVK_3624, "V1")])
def test_a_pvk_of_a_payshield_has_mode_n_and_is_taken(
    any_hsm_token: HsmToken, role: KeyRole, usage: str, version: str
) -> None:
    bring_kbpk(any_hsm_token, version)
    key = random_key("T")
    opened = shared_keys.open_block(
        any_hsm_token, role, ISSUER, wrapped(version, key, usage, "T", "N")
    )
    assert opened.value.reveal() == key


@pytest.mark.parametrize(
    ("role", "usage", "algorithm", "size_bytes"),
    [
        (KeyRole.PVK, "V2", "T", 8),
        (KeyRole.PVK, "V2", "T", 24),
        (KeyRole.PRW, "M6", "A", 16),
        (KeyRole.PRW, "M6", "A", 24),
        (KeyRole.SECCOS_PRW, "M6", "A", 16),
        (KeyRole.SECCOS_PRW, "M6", "T", 24),
    ],
)
def test_a_key_of_another_length_is_refused(
    any_hsm_token: HsmToken, role: KeyRole, usage: str, algorithm: str, size_bytes: int
) -> None:
    bring_kbpk(any_hsm_token, "D")
    text = wrapped("D", os.urandom(size_bytes), usage, algorithm, "G")
    with pytest.raises(CeremonyError, match=NOT_FOR_IT):
        shared_keys.open_block(any_hsm_token, role, ISSUER, text)


@pytest.mark.parametrize(("told", "claimed"), ["AT", "TA"])
def test_a_role_of_two_algorithms_takes_the_one_that_the_block_proves(
    any_hsm_token: HsmToken, told: str, claimed: str
) -> None:
    bring_kbpk(any_hsm_token, "D")
    text = wrapped("D", random_key(told), "M6", told, "C")
    changed = text.replace(f"M6{told}C", f"M6{claimed}C")
    with pytest.raises(CeremonyError, match=NOT_GENUINE):
        shared_keys.open_block(any_hsm_token, KeyRole.SECCOS_PRW, ISSUER, changed)


def test_a_block_opens_with_the_newest_key_of_its_issuer_and_of_its_version(
    any_hsm_token: HsmToken,
) -> None:
    text = wrapped("D", random_key("T"), "V2", "T", "G")
    opened = partial(shared_keys.open_block, any_hsm_token, KeyRole.PVK)
    with pytest.raises(CeremonyError, match="no block-protection key"):
        opened(ISSUER, text)
    bring_kbpk(any_hsm_token, "B")
    with pytest.raises(CeremonyError, match="no block-protection key"):
        opened(ISSUER, text)
    bring_kbpk(any_hsm_token, "D", os.urandom(32))
    with pytest.raises(CeremonyError, match=NOT_GENUINE):
        opened(ISSUER, text)
    assert bring_kbpk(any_hsm_token, "D").generation == 3
    bring_kbpk(any_hsm_token, "B")
    assert opened(ISSUER, text).kind is KeyKind.TDES_2KEY
    with pytest.raises(CeremonyError, match="no block-protection key"):
        opened("testbank02", text)


# Generations


def test_a_key_is_imported_as_the_next_generation_of_its_issuer(any_hsm_token: HsmToken) -> None:
    for number in (1, 2, 3):
        for issuer_id in (ISSUER, "testbank02"):
            key = ClearKey(KeyKind.TDES_2KEY, Secret(os.urandom(16)))
            label = shared_keys.store(any_hsm_token, KeyRole.PVK, issuer_id, key)
            assert label == KeyLabel(KeyRole.PVK, number, issuer_id)
            assert works_as(any_hsm_token, label, key.value.reveal())


@pytest.mark.parametrize(("role", "left"), LEFT_ROLES.items())
def test_a_key_of_a_retail_mac_brings_its_left_half_along(
    any_hsm_token: HsmToken, role: KeyRole, left: KeyRole
) -> None:
    # An import that was interrupted: the left half is there, the key is not.
    orphan = KeyLabel(left, 1, ISSUER)
    any_hsm_token.import_key(orphan, KeyKind.TDES_2KEY, odd_parity(Secret(os.urandom(16))))
    key = os.urandom(16)
    label = shared_keys.store(any_hsm_token, role, ISSUER, ClearKey(KeyKind.TDES_2KEY, Secret(key)))
    assert label.generation == 2
    assert works_as(any_hsm_token, label, key)
    assert works_as(any_hsm_token, label.of(left), key[:8] * 2)


@pytest.mark.parametrize("issuer_id", ["", "testbank0", "testbank012", "test@ank01"])
def test_what_is_no_issuer_id_has_no_keys(any_hsm_token: HsmToken, issuer_id: str) -> None:
    before = any_hsm_token.labels()
    key = ClearKey(KeyKind.TDES_2KEY, Secret(os.urandom(16)))
    with pytest.raises(CeremonyError, match="not an issuer id"):
        shared_keys.store(any_hsm_token, KeyRole.SECCOS_MAC, issuer_id, key)
    assert any_hsm_token.labels() == before


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (KeyKind.AES_256, bytes(32)),
        (KeyKind.TDES_2KEY, bytes(16)),
        (KeyKind.TDES_2KEY, bytes(range(8)) * 2),
        (KeyKind.TDES_2KEY, bytes.fromhex("0123456789ABCDEF0022446688AACCEE")),
    ],
)
def test_a_key_that_no_partner_would_make_is_refused(
    any_hsm_token: HsmToken, kind: KeyKind, value: bytes
) -> None:
    before = any_hsm_token.labels()
    with pytest.raises(CeremonyError, match="too weak"):
        shared_keys.store(
            any_hsm_token, KeyRole.BLOCK_PROTECTION, ISSUER, ClearKey(kind, Secret(value))
        )
    assert any_hsm_token.labels() == before


# Components


def components(*texts: str) -> ClearKey:
    return shared_keys.join_components([shared_keys.read_component(Secret(text)) for text in texts])


def test_components_are_joined_by_xor() -> None:
    two = components("0F" * 16, "f0 f0 f0 f0 f0 f0 f0 f0 00 00 00 00 00 00 00 00")
    assert (two.kind, two.value.reveal()) == (KeyKind.TDES_2KEY, b"\xff" * 8 + b"\x0f" * 8)
    three = components("0F" * 32, "F0" * 32, "01" * 32)
    assert (three.kind, three.value.reveal()) == (KeyKind.AES_256, b"\xfe" * 32)


@pytest.mark.parametrize(
    "text",
    ["", "1F" * 8, "1F" * 24, "0g" * 16, "1" * 31, "\u0661\u0661" * 16, "1F" * 15 + "1\n"],
)
def test_what_is_no_component_is_refused(text: str) -> None:
    with pytest.raises(CeremonyError, match="not a component of 32 or 64"):
        shared_keys.read_component(Secret(text))


# The parity bits of a TDES key are no part of it.
@pytest.mark.parametrize("text", ["00" * 16, "00" * 32, "01" * 16, "00 01 " * 8])
def test_a_component_that_is_zero_is_refused(text: str) -> None:
    with pytest.raises(CeremonyError, match="a component is zero"):
        shared_keys.read_component(Secret(text))


A, B = "1F2F3D4C5B6B79890123456789ABCDEF", "0E1E2C3D4A5A68788796A5B4C3D2E1F0"
A_XOR_B = f"{int(A, 16) ^ int(B, 16):032X}"
A_WITH_OTHER_PARITY = f"{int(A, 16) ^ int('01' * 16, 16):032X}"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "not two or three components"),
        ((A,), "not two or three components"),
        ((A, B, "0F" * 16, "F0" * 16), "not two or three components"),
        ((A, "0F" * 32), "different lengths"),
        ((A, A), "two components are equal"),
        ((A, A_WITH_OTHER_PARITY), "two components are equal"),
        ((A, B, A), "two components are equal"),
        ((B, A, A), "two components are equal"),
        ((A, A, B), "two components are equal"),
        ((A + B, A + B), "two components are equal"),
        ((A, B, A_XOR_B), "a key that is zero"),
        ((A + B, B + A, A_XOR_B * 2), "a key that is zero"),
    ],
)
def test_components_that_make_no_key_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(CeremonyError, match=message):
        components(*texts)


@pytest.mark.parametrize("text", [A, A + B])
def test_a_component_has_a_kcv_of_its_own(text: str) -> None:
    key = bytes.fromhex(text)
    enciphered = tdes_ecb(key)(bytes(8)) if len(key) == 16 else aes_cmac(key)(bytes(16))
    assert shared_keys.read_component(Secret(text)).kcv == enciphered[:3].hex().upper()


def test_a_tdes_key_is_stored_with_odd_parity_whatever_its_components_had() -> None:
    hsm_token = SoftwareToken([])
    joined = components("0123456789ABCDEFFEDCBA9876543210", "1F2F3D4C5B6B79890123456789ABCDEF")
    assert any(byte.bit_count() % 2 == 0 for byte in joined.value.reveal())
    stored = hsm_token.secrets[
        shared_keys.store(hsm_token, KeyRole.BLOCK_PROTECTION, ISSUER, joined)
    ]
    assert all(byte.bit_count() % 2 for byte in stored)
    assert ClearKey(KeyKind.TDES_2KEY, Secret(stored)).kcv == joined.kcv


def test_a_clear_key_does_not_show_itself() -> None:
    key = components("0F" * 16, "0123456789ABCDEFFEDCBA9876543210")
    assert "0E2C4A" not in f"{key!r} {key}"
    assert "***" in f"{key!r}"
