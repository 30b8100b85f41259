"""Keys shared with a partner: from components and key blocks into an HSM token."""

import os
from functools import partial

import psec
import pytest

from crypto import keyblock
from crypto.emv.key_derivation import odd_parity
from crypto.keyblock import KEY_BYTES, KeyAlgorithm, KeyPurpose, OptionalBlock
from crypto.secret import Secret
from hsm.errors import CeremonyError
from hsm.pkcs11 import keys, shared_keys
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import (
    AES_KINDS,
    BLOCK_ROLES,
    LEFT_ROLES,
    TDES_KINDS,
    KeyKind,
    KeyLabel,
    KeyRole,
    Usage,
)
from hsm.pkcs11.shared_keys import PURPOSES, ClearKey
from tests.contracts.software_token import SoftwareToken
from tests.crypto import x9143_reader
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
PROTECTED_BY = {"B": KeyAlgorithm.TDES, "D": KeyAlgorithm.AES}
PUBLISHED = rows("keyblock.json", "tr31_unwrap")
OPENED = [row for row in PUBLISHED if row.values[0]["inputs"]["key_block"][0] in "BD"]
REFUSED = [row for row in PUBLISHED if row not in OPENED]
NOT_GENUINE = "not a genuine key block"
NOT_FOR_IT = "not for this role"


def bring_kbpk(hsm_token: HsmToken, version: str, kbpk: bytes | None = None) -> KeyLabel:
    kbpk = kbpk or KBPKS[version]
    key = ClearKey(shared_keys.kind_of(PROTECTED_BY[version], len(kbpk)), Secret(kbpk))
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
            if hsm_token.kind(label) in TDES_KINDS:
                return hsm_token.tdes_mac(label, data) == tdes_cmac(key)(data)
            return hsm_token.mac(label, data) == aes_cmac(key)(data)
        case Usage.ENCRYPT if hsm_token.kind(label) in AES_KINDS:
            enciphered = hsm_token.encrypt_block(label, data)
            assert enciphered == aes_encrypt(key)(data)
            return hsm_token.decrypt_block(label, enciphered) == data
        case Usage.ENCRYPT_ONLY if hsm_token.kind(label) in AES_KINDS:
            return hsm_token.encrypt_block(label, data) == aes_encrypt(key)(data)
        case _:
            return works_as_tdes(hsm_token, label, key, data)


def works_as_tdes(hsm_token: HsmToken, label: KeyLabel, key: bytes, data: bytes) -> bool:
    match label.role.usage:
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
        "bureau-pin": modes("T P0", "BEN"),
        "bureau-pin-aes": modes("A P0", "BEN"),
        "bureau-mac": modes("A M6", "CGN"),
        "bureau-mac-retail": modes("T M3", "CGN"),
        "smc": modes("T E1", "XN"),
        "smi": modes("T E2", "XN"),
        "zpk-server": modes("T P0", "BN"),
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
        (KeyRole.BUREAU_PIN, "P0", "T", "D"),
        (KeyRole.BUREAU_PIN, "P0", "A", "E"),
        (KeyRole.BUREAU_PIN_AES, "P0", "A", "D"),
        (KeyRole.BUREAU_PIN_AES, "D0", "A", "E"),
        (KeyRole.BUREAU_MAC, "M6", "A", "V"),
        (KeyRole.BUREAU_MAC, "M6", "T", "G"),
        (KeyRole.BUREAU_MAC_RETAIL, "M3", "T", "V"),
        (KeyRole.SMC, "E1", "T", "B"),
        (KeyRole.SMC, "E2", "T", "X"),
        (KeyRole.SMI, "E2", "T", "C"),
        (KeyRole.SMI, "E1", "T", "X"),
        (KeyRole.ZPK_SERVER, "P0", "T", "E"),
        (KeyRole.ZPK_SERVER, "P0", "A", "B"),
        (KeyRole.ZPK_SERVER, "K0", "T", "B"),
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

A, B = "1F2F3D4C5B6B79890123456789ABCDEF", "0E1E2C3D4A5A68788796A5B4C3D2E1F0"
A_XOR_B = f"{int(A, 16) ^ int(B, 16):032X}"
A_WITH_OTHER_PARITY = f"{int(A, 16) ^ int('01' * 16, 16):032X}"
SECRET_KINDS = [*TDES_KINDS, *AES_KINDS]


def component(text: str, kind: KeyKind, *, odd_parity_needed: bool = False) -> ClearKey:
    return shared_keys.read_component(Secret(text), kind, odd_parity_needed=odd_parity_needed)


def components(*texts: str, kind: KeyKind = KeyKind.TDES_2KEY) -> ClearKey:
    return shared_keys.join_components([component(text, kind) for text in texts])


def test_components_are_joined_by_xor() -> None:
    two = components(A, "f0 f0 f0 f0 f0 f0 f0 f0 00 00 00 00 00 00 00 00")
    assert two.value.reveal() == bytes.fromhex("EFDFCDBCAB9B8979" + A[16:])
    kind = KeyKind.AES_256
    four = components("0F" * 32, "F0" * 32, "01" * 32, "02" * 32, kind=kind)
    assert (four.kind, four.value.reveal()) == (kind, b"\xfc" * 32)


@pytest.mark.parametrize("kind", SECRET_KINDS)
@pytest.mark.parametrize("change", [-2, -1, 1, 2])
def test_a_component_is_as_long_as_its_key(kind: KeyKind, change: int) -> None:
    digits = 2 * keys.KEY_BYTES[kind]
    assert component("1F" * keys.KEY_BYTES[kind], kind).kind is kind
    with pytest.raises(CeremonyError, match="not a component of as many"):
        component(("1F" * 40)[: digits + change], kind)


@pytest.mark.parametrize("text", ["", "0g" * 16, "\u0661\u0661" * 16, "1F" * 15 + "1\n"])
def test_what_is_no_component_is_refused(text: str) -> None:
    with pytest.raises(CeremonyError, match="not a component of as many"):
        component(text, KeyKind.TDES_2KEY)


# The parity bits of a TDES key are no part of it.
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("00" * 16, KeyKind.TDES_2KEY),
        ("00" * 24, KeyKind.TDES_3KEY),
        ("00" * 32, KeyKind.AES_256),
        ("01" * 16, KeyKind.TDES_2KEY),
        ("00 01 " * 12, KeyKind.TDES_3KEY),
    ],
)
def test_a_component_that_is_zero_is_refused(text: str, kind: KeyKind) -> None:
    with pytest.raises(CeremonyError, match="a component is zero"):
        component(text, kind)


def test_an_aes_component_of_ones_is_not_zero() -> None:
    assert component("01" * 16, KeyKind.AES_128).value.reveal() == b"\1" * 16


def test_odd_parity_is_asked_for_or_not() -> None:
    odd, even = "0123456789ABCDEFFEDCBA9876543210", B
    for kind, text in ((KeyKind.TDES_2KEY, odd), (KeyKind.TDES_3KEY, odd + odd[:16])):
        assert component(text, kind, odd_parity_needed=True).value.reveal().hex() == text.lower()
    assert component(even, KeyKind.TDES_2KEY)
    for wrong in (even, odd[:-1] + "1", "00" * 15 + "01"):
        with pytest.raises(CeremonyError, match="a component does not have odd parity"):
            component(wrong, KeyKind.TDES_2KEY, odd_parity_needed=True)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "fewer than two components"),
        ((A,), "fewer than two components"),
        ((A, A), "two components are equal"),
        ((A, A_WITH_OTHER_PARITY), "two components are equal"),
        ((A, B, A), "two components are equal"),
        ((B, A, A), "two components are equal"),
        ((A, A, B), "two components are equal"),
        ((A, B, A_XOR_B), "a key that is zero"),
        ((A[:16] * 2, B[:16] * 2), "this key is too weak"),
    ],
)
def test_components_that_make_no_key_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(CeremonyError, match=message):
        components(*texts)


@pytest.mark.parametrize(
    ("texts", "message"), [((A + B, A + B), "equal"), ((A + B, B + A, A_XOR_B * 2), "zero")]
)
def test_aes_components_that_make_no_key_are_refused(texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(CeremonyError, match=message):
        components(*texts, kind=KeyKind.AES_256)


def test_components_of_two_kinds_are_refused() -> None:
    with pytest.raises(CeremonyError, match="of different kinds"):
        shared_keys.join_components(
            [component(A, KeyKind.TDES_2KEY), component(B, KeyKind.AES_128)]
        )


@pytest.mark.parametrize("kind", SECRET_KINDS)
def test_a_component_has_a_kcv_of_its_own(kind: KeyKind) -> None:
    key = os.urandom(keys.KEY_BYTES[kind])
    enciphered = tdes_ecb(key)(bytes(8)) if kind in TDES_KINDS else aes_cmac(key)(bytes(16))
    assert component(key.hex(), kind).kcv == enciphered[:3].hex().upper()


def test_a_tdes_key_is_stored_with_odd_parity_whatever_its_components_had() -> None:
    hsm_token = SoftwareToken([])
    joined = components("0123456789ABCDEFFEDCBA9876543210", "1F2F3D4C5B6B79890123456789ABCDEF")
    assert any(byte.bit_count() % 2 == 0 for byte in joined.value.reveal())
    stored = hsm_token.secrets[
        shared_keys.store(hsm_token, KeyRole.BLOCK_PROTECTION, ISSUER, joined)
    ]
    assert all(byte.bit_count() % 2 for byte in stored)
    assert ClearKey(KeyKind.TDES_2KEY, Secret(stored)).kcv == joined.kcv


# Keys made for a partner


def kbpk_of(hsm_token: HsmToken, kind: KeyKind) -> tuple[KeyLabel, bytes]:
    kbpk = os.urandom(keys.KEY_BYTES[kind])
    key = ClearKey(kind, Secret(kbpk))
    label = shared_keys.store(hsm_token, KeyRole.BLOCK_PROTECTION, ISSUER, key)
    assert hsm_token.kind(label) is kind
    return label, kbpk


def strong_enough() -> list[tuple[str, KeyKind, KeyKind]]:
    """Version, KBPK and key; a key that is stronger than its KBPK is refused elsewhere."""
    two, three = TDES_KINDS
    aes = [("D", kbpk, key) for kbpk in AES_KINDS for key in AES_KINDS if key.value <= kbpk.value]
    tdes = [("D", kbpk, key) for kbpk in AES_KINDS for key in TDES_KINDS]
    return [*aes, *tdes, ("B", two, two), ("B", three, two), ("B", three, three)]


@pytest.mark.parametrize(("version", "kbpk_kind", "kind"), strong_enough())
def test_a_key_that_is_made_is_read_by_the_partner_and_works_here(
    any_hsm_token: HsmToken, version: str, kbpk_kind: KeyKind, kind: KeyKind
) -> None:
    kbpk, kbpk_value = kbpk_of(any_hsm_token, kbpk_kind)
    role = KeyRole.ZPK if kind in TDES_KINDS else KeyRole.ZPK_AES
    made = shared_keys.make_key(any_hsm_token, kind)
    header = shared_keys.export_header(role, kind, version, None, None)
    text = shared_keys.write_block(any_hsm_token, kbpk, made, header)
    label = shared_keys.store(any_hsm_token, role, ISSUER, made)

    theirs, their_key = psec.tr31.unwrap(kbpk_value, text)
    assert their_key == x9143_reader.read(kbpk_value, text)[2]
    assert (theirs.version_id, theirs.key_usage, theirs.mode_of_use) == (version, "P0", "B")
    assert any_hsm_token.kind(label) is kind
    assert works_as(any_hsm_token, label, their_key)
    opened = shared_keys.open_block(any_hsm_token, role, ISSUER, text)
    assert opened.kcv == made.kcv


@pytest.mark.parametrize(("role", "algorithm", "usage", "mode"), purposes())
def test_every_role_has_a_key_for_a_partner(
    role: KeyRole, algorithm: str, usage: str, mode: str
) -> None:
    hsm_token = SoftwareToken([])
    kbpk, kbpk_value = kbpk_of(hsm_token, KeyKind.AES_256)
    kind = next(kind for kind in role.kinds if (kind in AES_KINDS) == (algorithm == "A"))
    header = shared_keys.export_header(role, kind, "D", usage, mode)
    made = shared_keys.make_key(hsm_token, kind)
    text = shared_keys.write_block(hsm_token, kbpk, made, header)
    theirs, their_key = psec.tr31.unwrap(kbpk_value, text)
    assert (theirs.key_usage, theirs.algorithm, theirs.mode_of_use) == (usage, algorithm, mode)
    assert works_as(hsm_token, shared_keys.store(hsm_token, role, ISSUER, made), their_key)


@pytest.mark.parametrize(
    ("role", "kind", "usage", "mode", "expected"),
    [
        (KeyRole.ZPK, KeyKind.TDES_2KEY, None, None, "P0 B"),
        (KeyRole.SECCOS_PIN, KeyKind.TDES_2KEY, None, "E", "P0 E"),
        (KeyRole.SECCOS_PIN, KeyKind.TDES_2KEY, "E1", None, "E1 B"),
        (KeyRole.SECCOS_MAC, KeyKind.TDES_2KEY, None, "G", "M3 G"),
        (KeyRole.SECCOS_MAC_MASTER, KeyKind.TDES_2KEY, None, None, "E2 X"),
        (KeyRole.SMC, KeyKind.TDES_2KEY, None, None, "E1 X"),
        (KeyRole.PVK, KeyKind.TDES_2KEY, None, "V", "V2 V"),
    ],
)
def test_a_partner_gets_the_other_direction_where_it_is_asked_for(
    role: KeyRole, kind: KeyKind, usage: str | None, mode: str | None, expected: str
) -> None:
    header = shared_keys.export_header(role, kind, "D", usage, mode)
    assert f"{header.usage} {header.mode}" == expected


@pytest.mark.parametrize(
    ("role", "kind", "usage", "mode", "message"),
    [
        (KeyRole.ZPK, KeyKind.AES_256, None, None, "no key of this kind"),
        (KeyRole.PVK, KeyKind.TDES_3KEY, None, None, "no key of this kind"),
        (KeyRole.ZPK, KeyKind.TDES_2KEY, "K0", None, "no key of this usage"),
        (KeyRole.ZPK, KeyKind.TDES_2KEY, None, "X", "no such mode"),
        (KeyRole.PVK, KeyKind.TDES_2KEY, None, "B", "no such mode"),
    ],
)
def test_a_key_that_the_role_does_not_have_is_not_made(
    role: KeyRole, kind: KeyKind, usage: str | None, mode: str | None, message: str
) -> None:
    with pytest.raises(CeremonyError, match=message):
        shared_keys.export_header(role, kind, "D", usage, mode)


@pytest.mark.parametrize(
    ("kbpk_kind", "version", "kind"),
    [
        (KeyKind.TDES_2KEY, "B", KeyKind.TDES_3KEY),
        (KeyKind.AES_128, "D", KeyKind.AES_192),
        (KeyKind.AES_192, "D", KeyKind.AES_256),
    ],
)
def test_a_key_that_is_stronger_than_the_one_above_it_is_not_wrapped(
    kbpk_kind: KeyKind, version: str, kind: KeyKind
) -> None:
    hsm_token = SoftwareToken([])
    kbpk, _ = kbpk_of(hsm_token, kbpk_kind)
    role = KeyRole.ZPK if kind in TDES_KINDS else KeyRole.ZPK_AES
    header = shared_keys.export_header(role, kind, version, None, None)
    with pytest.raises(CeremonyError, match="stronger than the block-protection key"):
        shared_keys.write_block(hsm_token, kbpk, shared_keys.make_key(hsm_token, kind), header)


@pytest.mark.parametrize("kind", SECRET_KINDS)
def test_kp_is_the_kcv_of_the_key_above(any_hsm_token: HsmToken, kind: KeyKind) -> None:
    kbpk, value = kbpk_of(any_hsm_token, kind)
    expected = (
        "00" + tdes_ecb(value)(bytes(8))[:3].hex()
        if kind in TDES_KINDS
        else "01" + aes_cmac(value)(bytes(16))[:5].hex()
    )
    block = shared_keys.kbpk_kcv_block(any_hsm_token, kbpk)
    assert block == OptionalBlock("KP", expected.upper())


def test_a_clear_key_does_not_show_itself() -> None:
    key = components(A, "0123456789ABCDEFFEDCBA9876543210")
    assert key.value.reveal().hex()[:6] not in f"{key!r} {key}".lower()
    assert "***" in f"{key!r}"
