"""Published and design vectors computed by an HSM token, with keys that were imported into it.

What no HSM token of this service computes stands in ``NOT_IN_AN_HSM_TOKEN``, each with its reason.
"""

import json
import os
from contextlib import ExitStack
from functools import partial
from typing import Final

import psec
import pyemv
import pytest

from crypto import kcv, retail_mac
from crypto.emv import key_derivation, scripts
from crypto.emv.key_derivation import DerivationData
from crypto.padding import pad
from crypto.pinblock import iso2
from crypto.seccos import block, mac, prw, session_key
from crypto.seccos.card import CardData
from crypto.seccos.payload import parse
from crypto.seccos.verify import Keys, Verdict, verify
from crypto.secret import Secret
from crypto.types import Mac, Pan, Pin
from crypto.verification import ibm3624, pvv
from crypto.verification.ibm3624 import DecimalisationTable
from crypto.verification.pvv import KeyIndex
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.hsm_token import HsmToken, SessionKey
from hsm.pkcs11.keys import LEFT_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from tests.crypto.ciphers import tdes_cmac, tdes_ecb, tdes_ecb_decrypt
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.seccos.profiles import Body, profile
from tests.crypto.vectors import FOLDER, Row, rows
from tests.crypto.verification.test_ibm3624 import PAN, from_left, template_for

ISSUER: Final = "testbank01"
CARD: Final = CardData(Pan("6725901234567890125"), 1, "2912")
COUNTER: Final = 7
MASTER: Final = "1F2F3D4C5B6B79890123456789ABCDEF"
CMAC_ROLES: Final = [KeyRole.BLOCK_PROTECTION, KeyRole.SECCOS_PRW, KeyRole.SECCOS_MAC_CMAC]

IN_AN_HSM_TOKEN: Final = {
    "kcv.json": {"kcv", "kcv_pkcs11_pitfall"},
    "mac.json": {"retail_mac_iso9797_1_alg3", "cmac_tdes", "cmac_aes128"},
    "emv.json": {
        "emv_mk_option_a",
        "emv_mk_option_b",
        "emv_common_session_key",
        "emv_pin_change_mastercard",
        "emv_pin_change_ccd",
    },
    "verification.json": {
        "visa_pvv",
        "visa_pvv_KNOWN_BAD_SOURCE",
        "ibm3624_offset",
        "ibm3624_pin_from_offset",
    },
    "seccos.json": {
        "seccos_pin_block",
        "seccos_pin_block_iso0",
        "seccos_pin_block_session_key",
        "seccos_pin_block_selfenc",
        "seccos_session_key_emv_csk",
        "seccos_prw",
        "seccos_prw_tdes_cmac",
        "seccos_script_mac",
        "seccos_epb_mac",
        "seccos_payload_accept",
        "seccos_payload_reject",
    },
}
TRIPLE_LENGTH: Final = "cmac_tdes under a key of 24 bytes"
NOT_IN_AN_HSM_TOKEN: Final = {
    "mac.json": {
        "cbc_mac_iso9797_1_alg1_tdes": "checks the cipher of the tests; no verb makes this MAC",
        TRIPLE_LENGTH: "no role has a triple-length key",
    },
    "emv.json": {
        "visa_sm_session_key": "SoftHSM has no CKM_XOR_BASE_AND_DATA: the key must be in memory",
        "emv_pin_change_visa": "the same session key, and half of the card key in the clear",
        "vis_pin_block": "half of the card key is part of the data",
        "emv2000_tree_session_key": "its last step is XOR of two keys",
    },
    "verification.json": {"pvv_decimalization_scan": "needs no key"},
    "seccos.json": {"pin_block_self_encryption": "the PIN block itself is the key"},
}


@pytest.mark.parametrize("name", IN_AN_HSM_TOKEN)
def test_every_vector_is_computed_by_an_hsm_token_or_said_not_to_be(name: str) -> None:
    said_not_to = NOT_IN_AN_HSM_TOKEN.get(name, {}).keys() - {TRIPLE_LENGTH}
    kinds = {row["kind"] for row in json.loads((FOLDER / name).read_text("utf-8"))}
    assert IN_AN_HSM_TOKEN[name] | said_not_to == kinds
    assert not IN_AN_HSM_TOKEN[name] & said_not_to


def each(name: str, *kinds: str) -> pytest.MarkDecorator:
    assert {*kinds} <= IN_AN_HSM_TOKEN[name]
    return pytest.mark.parametrize("row", rows(name, *kinds))


def imported(hsm_token: HsmToken, role: KeyRole, key: str, kind: KeyKind | None = None) -> KeyLabel:
    """Import a key of whatever value; a second one of a role is its next generation."""
    generation = 1 + sum(label.role is role for label in hsm_token.labels())
    label = KeyLabel(role, generation, ISSUER)
    hsm_token.import_key(label, kind or role.kind, Secret(bytes.fromhex(key)))
    return label


def imported_retail_mac(hsm_token: HsmToken, key: str, role: KeyRole = KeyRole.SECCOS_MAC) -> Mac:
    """Import a key with its left half beside it, as in life."""
    clear = ClearKey(KeyKind.TDES_2KEY, Secret(bytes.fromhex(key)))
    label = shared_keys.store(hsm_token, role, ISSUER, clear)
    left = partial(hsm_token.tdes_encrypt_cbc, label.of(LEFT_ROLES[role]))
    full = partial(hsm_token.tdes_encrypt_cbc, label)
    return lambda message: retail_mac.compute(message, left, full)


def is_the_key(key: SessionKey, expected: str) -> bool:
    """A derived key cannot be read: it must work as the expected one does."""
    data, raw = bytes(range(8)), bytes.fromhex(expected)
    same = tdes_ecb(raw)(data)
    found = (key.encrypt(data), key.decrypt(same), key.encrypt_cbc(bytes(8), data), key.mac(data))
    return found == (same, data, same, tdes_cmac(raw)(data))


def given_bytes(row: Row, name: str) -> bytes:
    return bytes.fromhex(row["inputs"][name])


def text(value: bytes) -> str:
    return value.hex().upper()


@each("kcv.json", "kcv")
def test_check_values(any_hsm_token: HsmToken, row: Row) -> None:
    key = row["inputs"]["key"]
    if row["inputs"]["algorithm"] == "AES-CMAC":
        label = imported(any_hsm_token, KeyRole.PRW, key)
        value = kcv.aes(partial(any_hsm_token.mac, label), len(row["expected"]) // 2)
    else:
        label = imported(any_hsm_token, KeyRole.PVK, key)
        value = kcv.tdes(partial(any_hsm_token.tdes_encrypt, label))
        assert any_hsm_token.check_value(label) == value
    assert text(value) == row["expected"]


@each("kcv.json", "kcv_pkcs11_pitfall")
def test_the_check_value_of_an_hsm_token_is_another(any_hsm_token: HsmToken, row: Row) -> None:
    label = imported(any_hsm_token, KeyRole.PRW, row["inputs"]["key"])
    assert text(any_hsm_token.check_value(label)) == row["expected"]["CKA_CHECK_VALUE"]
    value = kcv.aes(partial(any_hsm_token.mac, label))
    assert text(value) == row["expected"]["AES_CMAC_zero_X9_24"]


@pytest.mark.parametrize("role", CMAC_ROLES)
@each("mac.json", "cmac_aes128")
def test_aes_cmac(any_hsm_token: HsmToken, role: KeyRole, row: Row) -> None:
    label = imported(any_hsm_token, role, row["inputs"]["key"])
    assert text(any_hsm_token.mac(label, given_bytes(row, "data"))) == row["expected"]


TDES_CMAC = pytest.mark.parametrize(
    "row",
    [
        parameter
        for parameter in rows("mac.json", "cmac_tdes")
        if len(parameter.values[0]["inputs"]["key"]) == 32
    ],
)


@pytest.mark.parametrize("role", CMAC_ROLES)
@TDES_CMAC
def test_tdes_cmac(any_hsm_token: HsmToken, role: KeyRole, row: Row) -> None:
    label = imported(any_hsm_token, role, row["inputs"]["key"], KeyKind.TDES_2KEY)
    assert text(any_hsm_token.tdes_mac(label, given_bytes(row, "data"))) == row["expected"]


@TDES_CMAC
def test_tdes_cmac_under_a_derived_key(any_hsm_token: HsmToken, row: Row) -> None:
    label = imported(any_hsm_token, KeyRole.SECCOS_MAC_MASTER, MASTER)
    # What the master key enciphers to the key of the vector.
    data = tdes_ecb_decrypt(bytes.fromhex(MASTER))(given_bytes(row, "key"))
    with any_hsm_token.derived(label, data) as key:
        assert text(key.mac(given_bytes(row, "data"))) == row["expected"]


@takes_tdes_the_old_way
@pytest.mark.parametrize("size_bytes", [0, 1, 7, 8, 9, 15, 16, 47, 300])
def test_macs_under_a_session_key_are_those_of_pyemv_and_psec(
    any_hsm_token: HsmToken, size_bytes: int
) -> None:
    label = imported(any_hsm_token, KeyRole.SECCOS_MAC_MASTER, MASTER)
    steps, message = session_key.emv_csk(CARD, COUNTER), os.urandom(size_bytes)
    card_key = pyemv.kd.derive_icc_mk_a(bytes.fromhex(MASTER), CARD.pan.reveal(), f"{CARD.psn:02}")
    key = pyemv.kd.derive_common_sk(card_key, COUNTER.to_bytes(2).ljust(8, b"\0"))
    expected = psec.mac.generate_retail_mac(key[:8] * 3, key[8:] * 3, message, 2, 8)

    make = derived_retail_mac(any_hsm_token, label, steps.card_key, steps.session_key)
    assert make(message) == pyemv.mac.mac_iso9797_3(key[:8], key[8:], message, 2) == expected
    with any_hsm_token.derived(label, steps.card_key.key, steps.session_key.key) as session:
        assert session.mac(message) == tdes_cmac(key)(message)


@each("mac.json", "retail_mac_iso9797_1_alg3")
def test_retail_mac(any_hsm_token: HsmToken, row: Row) -> None:
    message, given = given_bytes(row, "data"), row["inputs"]
    if "key" in given:
        for role in LEFT_ROLES:
            make = imported_retail_mac(any_hsm_token, given["key"], role)
            assert text(make(message)) == row["expected"]
        return
    # Here each of K1 and K2 is a TDES key itself, so that one HSM token key does not make the end.
    first = imported(any_hsm_token, KeyRole.SECCOS_MAC, given["key1"])
    second = imported(any_hsm_token, KeyRole.SECCOS_PIN, given["key2"])
    left = partial(any_hsm_token.tdes_encrypt_cbc, first)

    def full(iv: bytes, last: bytes) -> bytes:
        return any_hsm_token.tdes_encrypt(first, any_hsm_token.tdes_decrypt(second, left(iv, last)))

    zeros = bytes(-len(message) % 8)
    blocks = {
        1: message + zeros,
        2: pad(message),
        3: (8 * len(message)).to_bytes(8) + message + zeros,
    }
    value = retail_mac.over_blocks(blocks[given["padding"]], left, full)
    assert text(value) == row["expected"]


@each("emv.json", "emv_mk_option_a", "emv_mk_option_b")
def test_card_keys(any_hsm_token: HsmToken, row: Row) -> None:
    option = key_derivation.card_key_a if row["kind"].endswith("a") else key_derivation.card_key_b
    data = option(Pan(row["inputs"]["pan"]), int(row["inputs"]["psn"]))
    label = imported(any_hsm_token, KeyRole.SECCOS_PIN, row["inputs"]["imk"])
    with any_hsm_token.derived(label, data.key) as key:
        assert is_the_key(key, row["expected"])
    with any_hsm_token.derived(label, data.left) as key:
        assert is_the_key(key, row["expected"][:16] * 2)


@each("emv.json", "emv_common_session_key")
def test_common_session_key(any_hsm_token: HsmToken, row: Row) -> None:
    data = key_derivation.session_key(given_bytes(row, "r"))
    label = imported(any_hsm_token, KeyRole.SECCOS_PIN, row["inputs"]["mk"])
    with any_hsm_token.derived(label, data.key) as key:
        assert is_the_key(key, row["expected"])
    with any_hsm_token.derived(label, data.left) as key:
        assert is_the_key(key, row["expected"][:16] * 2)


@each("emv.json", "emv_pin_change_mastercard", "emv_pin_change_ccd")
def test_pin_change_scripts(any_hsm_token: HsmToken, row: Row) -> None:
    given, session = row["inputs"], key_derivation.session_key(given_bytes(row, "r"))
    card = key_derivation.card_key_a(Pan(given["pan"]), int(given["psn"]))
    smc, smi = (
        imported(any_hsm_token, KeyRole.SECCOS_PIN, given[name]) for name in ("imk_smc", "imk_smi")
    )
    ccd = row["kind"].endswith("ccd")
    encipher = scripts.encipher_ccd if ccd else scripts.encipher_mastercard
    with any_hsm_token.derived(smc, card.key, session.key) as key:
        data = encipher(iso2.encode(Pin(given["pin"])), key.encrypt_cbc)
    value = scripts.command_mac(
        given_bytes(row, "apdu_header"), data, derived_retail_mac(any_hsm_token, smi, card, session)
    )
    assert text(data) == row["expected"]["encrypted_pin"]
    assert text(value) == row["expected"]["mac"]


def derived_retail_mac(
    hsm_token: HsmToken, label: KeyLabel, card: DerivationData, session: DerivationData
) -> Mac:
    def compute(message: bytes) -> bytes:
        with ExitStack() as keys:
            full = keys.enter_context(hsm_token.derived(label, card.key, session.key))
            left = keys.enter_context(hsm_token.derived(label, card.key, session.left))
            return retail_mac.compute(message, left.encrypt_cbc, full.encrypt_cbc)

    return compute


@each("verification.json", "visa_pvv", "visa_pvv_KNOWN_BAD_SOURCE")
def test_visa_pvv(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    encrypt = partial(
        any_hsm_token.tdes_encrypt, imported(any_hsm_token, KeyRole.PVK, given["pvk"])
    )
    value = pvv.compute(Pin(given["pin"]), Pan(given["pan"]), KeyIndex(int(given["pvki"])), encrypt)
    assert value.reveal() == row.get("correct_value", row["expected"])


@each("verification.json", "ibm3624_offset")
def test_ibm3624_offset(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    label = imported(any_hsm_token, KeyRole.PVK_3624, given["pvk"])
    value = ibm3624.offset(
        Pin(given["pin"]),
        PAN,
        template_for(given["validation_data"]),
        DecimalisationTable(given["decimalization_table"]),
        partial(any_hsm_token.tdes_encrypt, label),
    )
    assert value.reveal() == row["expected"]


@each("verification.json", "ibm3624_pin_from_offset")
def test_ibm3624_pin(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    label = imported(any_hsm_token, KeyRole.PVK_3624, given["pvk"])
    pin = ibm3624.pin_from_offset(
        Secret(given["offset"]),
        Pan(given["pan"]),
        from_left(given["pan_verify_offset"], given["pan_verify_length"], given["pad"]),
        DecimalisationTable(given["decimalization_table"]),
        partial(any_hsm_token.tdes_encrypt, label),
    )
    assert pin.reveal() == row["expected"]


def read_pin(hsm_token: HsmToken, key: str, body: Body, expected: str) -> str:
    """Read the PIN of the block *expected* with a key in the HSM token."""
    label = imported(hsm_token, KeyRole.SECCOS_PIN, key)
    decrypt = partial(hsm_token.tdes_decrypt, label)
    settings = profile(body).pin_block
    return block.parse(bytes.fromhex(expected), CARD, COUNTER, settings, decrypt).reveal()


@each("seccos.json", "seccos_pin_block", "seccos_pin_block_iso0")
def test_seccos_block(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    clear_format = "iso0" if row["kind"].endswith("iso0") else "iso2"
    body = {"pin_block": {"clear_format": clear_format}}
    assert read_pin(any_hsm_token, given["k_spe"], body, row["expected"]) == given["pin"]


@each("seccos.json", "seccos_pin_block_selfenc")
def test_seccos_block_enciphered_under_itself(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    for cipher, name in (("tdes-ecb", "ecb"), ("tdes-cbc", "cbc_iv0")):
        enciphered = row["expected"][name]
        if given["selfenc"] == "append":
            body = {"pin_block": {"selfenc": "append", "cipher": cipher}}
            assert read_pin(any_hsm_token, given["k_spe"], body, enciphered) == given["pin"]
        else:
            # It goes one way: what comes out of the key is the block under itself.
            label = imported(any_hsm_token, KeyRole.SECCOS_PIN, given["k_spe"])
            itself = block.self_encrypt(iso2.encode(Pin(given["pin"]))).reveal()
            assert any_hsm_token.tdes_decrypt(label, bytes.fromhex(enciphered)) == itself


@each("seccos.json", "seccos_pin_block_session_key")
def test_seccos_block_under_a_session_key(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    padded = {"pin_block": {"cipher": "tdes-cbc", "padding": "iso9797-2"}}
    for body, name in (({}, "ecb"), (padded, "cbc_iv0_pad2")):
        pin = read_pin(any_hsm_token, given["session_key"], body, row["expected"][name])
        assert pin == given["pin"]


@each("seccos.json", "seccos_session_key_emv_csk")
def test_seccos_session_key(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    card = CardData(Pan(given["pan"]), int(given["psn"]), "2912")
    steps = session_key.emv_csk(card, given["counter"])
    label = imported(any_hsm_token, KeyRole.SECCOS_PIN, given["k_spe_master"])
    with any_hsm_token.derived(label, steps.card_key.key) as key:
        assert is_the_key(key, row["expected"]["card_key"])
    with any_hsm_token.derived(label, steps.card_key.key, steps.session_key.key) as key:
        assert is_the_key(key, row["expected"]["session_key"])


@each("seccos.json", "seccos_prw", "seccos_prw_tdes_cmac")
def test_seccos_prw(any_hsm_token: HsmToken, row: Row) -> None:
    given = row["inputs"]
    if row["kind"].endswith("tdes_cmac"):
        label = imported(any_hsm_token, KeyRole.SECCOS_PRW, given["k_prw"], KeyKind.TDES_2KEY)
        make, algorithm = partial(any_hsm_token.tdes_mac, label), "tdes-cmac"
    else:
        label = imported(any_hsm_token, KeyRole.SECCOS_PRW, given["k_prw"])
        make, algorithm = partial(any_hsm_token.mac, label), "aes-cmac"
    _, _, binding = given.get("variant", "").partition("counter_binding=")
    body = {
        "alg": algorithm,
        "encoding": given["encoding"],
        "counter_binding": binding or "cdt_suffix",
    }
    random = b"" if binding == "replace_random" else given_bytes(row, "random")
    card = CardData(Pan(given["pan"]), int(given["cdp"]), given["cdt"][:4])
    settings = profile({"prw": body})
    value = prw.compute(Pin(given["pin"]), card, given["counter"], random, settings, make)
    assert text(value) == row["expected"]


@each("seccos.json", "seccos_script_mac")
def test_seccos_script_mac(any_hsm_token: HsmToken, row: Row) -> None:
    make = imported_retail_mac(any_hsm_token, row["inputs"]["k_mac"])
    enciphered = given_bytes(row, "message")[-8:]
    value = mac.compute(enciphered, CARD, COUNTER, profile({}), make)
    assert text(value) == row["expected"]


@each("seccos.json", "seccos_epb_mac")
def test_seccos_mac_as_ibm_orders_it(any_hsm_token: HsmToken, row: Row) -> None:
    label = imported(any_hsm_token, KeyRole.SECCOS_MAC_CMAC, row["inputs"]["k_epb_mac"])
    body = {
        "mac": {
            "alg": "aes-cmac",
            "length": 16,
            "input": ["pinBlock", "cdp"],
            "session_key": "none",
        }
    }
    enciphered = given_bytes(row, "message")[:8]
    value = mac.compute(enciphered, CARD, COUNTER, profile(body), partial(any_hsm_token.mac, label))
    assert text(value) == row["expected"]


@each("seccos.json", "seccos_payload_accept", "seccos_payload_reject")
def test_seccos_payload(any_hsm_token: HsmToken, row: Row) -> None:
    given, settings = row["inputs"], profile({})
    card = CardData(Pan(given["pan"]), int(given["cdp"]), given["expiry_yymm"])
    spe = imported(any_hsm_token, KeyRole.SECCOS_PIN, given["k_spe"])
    keys = Keys(
        decrypt=partial(any_hsm_token.tdes_decrypt, spe),
        prw=partial(any_hsm_token.mac, imported(any_hsm_token, KeyRole.SECCOS_PRW, given["k_prw"])),
        mac=imported_retail_mac(any_hsm_token, given["k_mac"]),
    )
    payload = parse(given["decrypted_json"], settings)
    found = verify(payload, card, given["expected_counter"], settings, keys)
    if row["kind"].endswith("accept"):
        assert found.pin is not None
        assert found.pin.reveal() == row["expected"]["pin"]
    else:
        assert found.verdict is not Verdict.ACCEPTED
        assert found.pin is None
