from collections.abc import Callable

import pyemv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.emv import key_derivation, scripts
from crypto.emv.scripts import PinChange
from crypto.errors import EmvError
from crypto.pinblock import iso2
from crypto.secret import Secret
from crypto.types import Pin
from tests.crypto.ciphers import tdes_cbc, tdes_ecb, two_key_mac
from tests.crypto.emv.emv_rows import card_key, each, given_bytes, text
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.strategies import pins
from tests.crypto.vectors import Row

KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")

keys = st.binary(min_size=16, max_size=16)


def built(block: Secret[bytes], data: bytes, mac: bytes) -> dict[str, str]:
    """Write what a command is made of as the rows have it."""
    return {"pin_block": text(block.reveal()), "encrypted_pin": text(data), "mac": text(mac)}


@each("emv_pin_change_mastercard", "emv_pin_change_ccd")
def test_pin_change_of_mastercard_and_ccd(row: Row) -> None:
    given, session = row["inputs"], key_derivation.session_key(given_bytes(row, "r"))
    smc, smi = (
        key_derivation.derive(session.key, tdes_ecb(card_key(row, name))).reveal()
        for name in ("imk_smc", "imk_smi")
    )
    encipher = scripts.encipher_ccd if row["kind"].endswith("ccd") else scripts.encipher_mastercard

    block = iso2.encode(Pin(given["pin"]))
    data = encipher(block, tdes_cbc(smc))
    mac = scripts.command_mac(given_bytes(row, "apdu_header"), data, two_key_mac(smi))

    assert row["expected"] == built(block, data, mac)


@each("emv_pin_change_visa")
def test_pin_change_of_visa(row: Row) -> None:
    given, atc = row["inputs"], given_bytes(row, "atc")
    smc, smi = (
        key_derivation.visa_session_key(Secret(card_key(row, name)), atc).reveal()
        for name in ("imk_smc", "imk_smi")
    )
    current = Pin(given["current_pin"]) if given["current_pin"] else None

    block = scripts.vis_block(Pin(given["pin"]), Secret(card_key(row, "imk_ac")), current)
    data = scripts.encipher_visa(block, tdes_ecb(smc))
    mac = scripts.command_mac(given_bytes(row, "apdu_header"), data, two_key_mac(smi))

    assert row["expected"] == built(block, data, mac)


@each("vis_pin_block")
def test_vis_block(row: Row) -> None:
    block = scripts.vis_block(Pin(row["inputs"]["pin"]), Secret(given_bytes(row, "icc_mk_ac")))

    assert text(block.reveal()) == row["expected"]


@takes_tdes_the_old_way
@given(key=keys, pin=pins, current=st.none() | pins, data=st.binary(max_size=60))
def test_pyemv_enciphers_and_macs_the_same(
    key: bytes, pin: str, current: str | None, data: bytes
) -> None:
    kinds = pyemv.sm.EncryptionType
    old = None if current is None else Pin(current)

    assert scripts.vis_block(Pin(pin), Secret(key), old).reveal() == pyemv.sm.format_vis_pin_block(
        key, pin, current
    )
    for ours, kind in [
        (scripts.encipher_mastercard(Secret(data), tdes_cbc(key)), kinds.MASTERCARD),
        (scripts.encipher_ccd(Secret(data), tdes_cbc(key)), kinds.EMV),
        (scripts.encipher_visa(Secret(data), tdes_ecb(key)), kinds.VISA),
    ]:
        assert ours == pyemv.sm.encrypt_command_data(key, data, kind)
    mac = scripts.command_mac(b"\x84\x24\0\x02\x10", data, two_key_mac(key), size_bytes=5)
    assert mac == pyemv.sm.generate_command_mac(key, b"\x84\x24\0\x02\x10" + data, 5)


def test_a_whole_command_counts_data_and_mac() -> None:
    mac, data = two_key_mac(KEY), bytes(16)

    command = scripts.pin_change_command(PinChange.CHANGE, data, mac)
    unblock = scripts.pin_change_command(PinChange.UNBLOCK, b"", mac, mac_bytes=4)

    assert command[:5].hex() == "8424000218"
    assert command[5:] == data + mac(command[:5] + data)
    assert unblock.hex() == "8424000004" + mac(bytes.fromhex("8424000004"))[:4].hex()


def test_transaction_data_is_in_the_mac_and_not_in_the_command() -> None:
    mac, data, seen = two_key_mac(KEY), bytes(8), b"\xff\xff" + bytes(8)

    command = scripts.pin_change_command(PinChange.CHANGE, data, mac, transaction=seen)

    assert len(command) == 5 + 8 + 8
    assert command[-8:] == mac(command[:5] + seen + data)


def test_a_published_mac_with_transaction_data() -> None:
    header, seen = bytes.fromhex("8424000008"), bytes.fromhex("FFFF1234567890123456")

    mac = scripts.command_mac(header, b"", two_key_mac(KEY), transaction=seen)

    assert text(mac) == "E07B8DF1B4184282"


SHORT = Secret(KEY[:8])
MAC = two_key_mac(KEY)
REFUSALS: dict[str, Callable[[], object]] = {
    "VIS block, key of 8 bytes": lambda: scripts.vis_block(Pin("1234"), SHORT),
    "Visa, 256 bytes": lambda: scripts.encipher_visa(Secret(bytes(256)), tdes_ecb(KEY)),
    "MAC of 3 bytes": lambda: scripts.command_mac(b"", b"", MAC, size_bytes=3),
    "MAC of 9 bytes": lambda: scripts.command_mac(b"", b"", MAC, size_bytes=9),
    "command too long": lambda: scripts.pin_change_command(PinChange.CHANGE, bytes(248), MAC),
}


@pytest.mark.parametrize("call", REFUSALS.values(), ids=REFUSALS)
def test_what_emv_does_not_allow_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(EmvError):
        call()
