"""The vectors of the design: they prove that the code is the text, and nothing about Thales."""

import pytest

from crypto.emv import key_derivation
from crypto.pinblock import iso2
from crypto.seccos import block, mac, prw, session_key
from crypto.seccos.card import CardData
from crypto.seccos.verify import Outcome, Verdict
from crypto.types import Pan, Pin, PinBlock
from tests.crypto.ciphers import (
    aes_cmac,
    tdes_cmac,
    tdes_ecb,
    tdes_ecb_decrypt,
    two_key_mac,
)
from tests.crypto.seccos.d1_side import SharedKeys
from tests.crypto.seccos.profiles import KEYS_OF_ALL_CARDS, Body, profile
from tests.crypto.seccos.vault_side import received
from tests.crypto.vectors import Row, rows

FILE = "seccos.json"
CARD = CardData(Pan("6725901234567890125"), 1, "2912")
COUNTER = 7


def each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows(FILE, *kinds))


def text(value: bytes) -> str:
    return value.hex().upper()


def check_block(body: Body, key: str, pin: str, expected: str) -> None:
    """Build the block, and read it back where that is possible."""
    settings = profile(body).pin_block
    raw = bytes.fromhex(key)

    built = block.build(Pin(pin), CARD, COUNTER, settings, tdes_ecb(raw), bytes)

    assert text(built) == expected
    if settings.selfenc != "replace":
        read = block.parse(built, CARD, COUNTER, settings, tdes_ecb_decrypt(raw))
        assert read.reveal() == pin


@each("seccos_pin_block")
def test_block(row: Row) -> None:
    given = row["inputs"]

    assert text(iso2.encode(Pin(given["pin"])).reveal()) == given["clear_block"]
    check_block({}, given["k_spe"], given["pin"], row["expected"])


@each("seccos_pin_block_iso0")
def test_block_of_format_0(row: Row) -> None:
    body = {"pin_block": {"clear_format": "iso0"}}

    check_block(body, row["inputs"]["k_spe"], row["inputs"]["pin"], row["expected"])


@each("seccos_pin_block_session_key")
def test_block_under_a_session_key(row: Row) -> None:
    key, pin = row["inputs"]["session_key"], row["inputs"]["pin"]
    padded = {"cipher": "tdes-cbc", "padding": "iso9797-2"}

    check_block({}, key, pin, row["expected"]["ecb"])
    check_block({"pin_block": padded}, key, pin, row["expected"]["cbc_iv0_pad2"])


@each("seccos_pin_block_selfenc")
def test_block_enciphered_under_itself(row: Row) -> None:
    given = row["inputs"]
    for cipher, expected in (("tdes-ecb", "ecb"), ("tdes-cbc", "cbc_iv0")):
        settings = {"selfenc": given["selfenc"], "cipher": cipher}
        verify = "mac_only" if given["selfenc"] == "replace" else "full"
        body = {"pin_block": settings, "verify": verify}
        check_block(body, given["k_spe"], given["pin"], row["expected"][expected])


@each("pin_block_self_encryption")
def test_self_encryption(row: Row) -> None:
    clear = PinBlock.from_hex(row["inputs"]["clear_block"])

    itself = block.self_encrypt(clear).reveal()

    assert text(itself) == row["expected"]["self_encrypted"]
    assert text(clear.reveal() + itself) == row["expected"]["clear_plus_self"]


@each("seccos_session_key_emv_csk")
def test_session_key(row: Row) -> None:
    given = row["inputs"]
    card = CardData(Pan(given["pan"]), int(given["psn"]), "2912")
    steps = session_key.emv_csk(card, given["counter"])

    master = tdes_ecb(bytes.fromhex(given["k_spe_master"]))
    card_key = key_derivation.derive(steps.card_key.key, master)
    key = key_derivation.derive(steps.session_key.key, tdes_ecb(card_key.reveal()))

    assert text(card_key.reveal()) == row["expected"]["card_key"]
    assert text(key.reveal()) == row["expected"]["session_key"]


@each("seccos_prw", "seccos_prw_tdes_cmac")
def test_prw(row: Row) -> None:
    given = row["inputs"]
    _, _, binding = given.get("variant", "").partition("counter_binding=")
    tdes = row["kind"].endswith("tdes_cmac")
    settings = profile(
        {
            "prw": {
                "alg": "tdes-cmac" if tdes else "aes-cmac",
                "encoding": given["encoding"],
                "counter_binding": binding or "cdt_suffix",
            }
        }
    )
    random = b"" if binding == "replace_random" else bytes.fromhex(given["random"])
    card = CardData(Pan(given["pan"]), int(given["cdp"]), given["cdt"][:4])
    made = (Pin(given["pin"]), card, given["counter"], random, settings)
    key = bytes.fromhex(given["k_prw"])

    assert text(prw.message(*made).reveal()) == given["message"]
    value = prw.compute(*made, tdes_cmac(key) if tdes else aes_cmac(key))
    assert text(value) == row["expected"]


@each("seccos_script_mac")
def test_script_mac(row: Row) -> None:
    message, key = bytes.fromhex(row["inputs"]["message"]), bytes.fromhex(row["inputs"]["k_mac"])
    made = (message[-8:], CARD, COUNTER, profile({}))

    assert mac.message(*made) == message
    assert text(mac.compute(*made, two_key_mac(key))) == row["expected"]


@each("seccos_epb_mac")
def test_mac_as_ibm_orders_it(row: Row) -> None:
    message = bytes.fromhex(row["inputs"]["message"])
    key = aes_cmac(bytes.fromhex(row["inputs"]["k_epb_mac"]))
    for length in (8, 16):
        settings = profile(
            {
                "mac": {
                    "alg": "aes-cmac",
                    "length": length,
                    "input": ["pinBlock", "cdp"],
                    "session_key": "none",
                }
            }
        )
        made = (message[:8], CARD, COUNTER, settings)

        assert mac.message(*made) == message
        assert text(mac.compute(*made, key)) == row["expected"][: 2 * length]


def outcome(row: Row) -> Outcome:
    given = row["inputs"]
    keys = SharedKeys(*(bytes.fromhex(given[name]) for name in ("k_spe", "k_prw", "k_mac")))
    card = CardData(Pan(given["pan"]), int(given["cdp"]), given["expiry_yymm"])
    settings = profile(KEYS_OF_ALL_CARDS)
    return received(given["decrypted_json"], settings, keys, card, given["expected_counter"])


@each("seccos_payload_accept")
def test_a_payload_is_accepted(row: Row) -> None:
    found = outcome(row)

    assert found.verdict is Verdict.ACCEPTED
    assert found.pin is not None
    assert found.pin.reveal() == row["expected"]["pin"]


@each("seccos_payload_reject")
def test_a_payload_is_refused(row: Row) -> None:
    found = outcome(row)

    prw_only = row["inputs"]["case"] == "prw_bitflip"
    assert found.verdict is (Verdict.WRONG_PIN_DATA if prw_only else Verdict.NOT_GENUINE)
    assert found.pin is None
