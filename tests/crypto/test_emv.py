import hashlib
from collections.abc import Callable

import pyemv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import emv
from crypto.emv import PinChange, Tree
from crypto.errors import EmvError
from crypto.pinblock import iso2
from crypto.secret import Secret
from crypto.types import Pan, Pin
from tests.crypto.ciphers import tdes_cbc, tdes_ecb, two_key_mac
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.strategies import pans, pins
from tests.crypto.vectors import Row, rows

FILE = "emv.json"
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")

keys = st.binary(min_size=16, max_size=16)
sequences = st.integers(0, 99)


def each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows(FILE, *kinds))


def given_bytes(row: Row, name: str) -> bytes:
    return bytes.fromhex(row["inputs"][name])


def card_key(row: Row, issuer_key: str) -> bytes:
    data = emv.card_key_a(Pan(row["inputs"]["pan"]), int(row["inputs"]["psn"]))
    return emv.derive(data.key, tdes_ecb(given_bytes(row, issuer_key))).reveal()


def text(value: bytes) -> str:
    return value.hex().upper()


@each("emv_mk_option_a")
def test_card_key_option_a(row: Row) -> None:
    assert text(card_key(row, "imk")) == row["expected"]


@each("emv_mk_option_b")
def test_card_key_option_b(row: Row) -> None:
    data = emv.card_key_b(Pan(row["inputs"]["pan"]), int(row["inputs"]["psn"]))

    key = emv.derive(data.key, tdes_ecb(given_bytes(row, "imk")))

    assert text(key.reveal()) == row["expected"]


@each("emv_common_session_key")
def test_common_session_key(row: Row) -> None:
    data = emv.session_key(given_bytes(row, "r"))

    assert text(emv.derive(data.key, tdes_ecb(given_bytes(row, "mk"))).reveal()) == row["expected"]


@each("visa_sm_session_key")
def test_visa_session_key(row: Row) -> None:
    key = emv.visa_session_key(Secret(given_bytes(row, "mk")), given_bytes(row, "atc"))

    assert text(key.reveal()) == row["expected"]


@each("emv2000_tree_session_key")
def test_emv2000_session_key(row: Row) -> None:
    tree = Tree(row["inputs"]["branch"])
    assert tree.height == row["inputs"]["height"]

    key = emv.emv2000_session_key(
        Secret(given_bytes(row, "mk")), given_bytes(row, "atc"), tree
    ).reveal()

    assert text(key) == row["expected"]


@each("emv_pin_change_mastercard", "emv_pin_change_ccd")
def test_pin_change_of_mastercard_and_ccd(row: Row) -> None:
    given, session = row["inputs"], emv.session_key(given_bytes(row, "r"))
    smc, smi = (
        emv.derive(session.key, tdes_ecb(card_key(row, name))).reveal()
        for name in ("imk_smc", "imk_smi")
    )
    encipher = emv.encipher_ccd if row["kind"].endswith("ccd") else emv.encipher_mastercard

    block = iso2.encode(Pin(given["pin"]))
    data = encipher(block, tdes_cbc(smc))
    mac = emv.command_mac(given_bytes(row, "apdu_header"), data, two_key_mac(smi))

    assert text(block.reveal()) == row["expected"]["pin_block"]
    assert text(data) == row["expected"]["encrypted_pin"]
    assert text(mac) == row["expected"]["mac"]


@each("emv_pin_change_visa")
def test_pin_change_of_visa(row: Row) -> None:
    given, atc = row["inputs"], given_bytes(row, "atc")
    smc, smi = (
        emv.visa_session_key(Secret(card_key(row, name)), atc).reveal()
        for name in ("imk_smc", "imk_smi")
    )
    current = Pin(given["current_pin"]) if given["current_pin"] else None

    block = emv.vis_block(Pin(given["pin"]), Secret(card_key(row, "imk_ac")), current)
    data = emv.encipher_visa(block, tdes_ecb(smc))
    mac = emv.command_mac(given_bytes(row, "apdu_header"), data, two_key_mac(smi))

    assert text(block.reveal()) == row["expected"]["pin_block"]
    assert text(data) == row["expected"]["encrypted_pin"]
    assert text(mac) == row["expected"]["mac"]


@each("vis_pin_block")
def test_vis_block(row: Row) -> None:
    block = emv.vis_block(Pin(row["inputs"]["pin"]), Secret(given_bytes(row, "icc_mk_ac")))

    assert text(block.reveal()) == row["expected"]


@takes_tdes_the_old_way
@given(key=keys, pan=pans, sequence=sequences)
def test_pyemv_derives_the_same_card_keys(key: bytes, pan: str, sequence: int) -> None:
    number = f"{sequence:02d}"

    a = emv.derive(emv.card_key_a(Pan(pan), sequence).key, tdes_ecb(key)).reveal()
    b = emv.derive(emv.card_key_b(Pan(pan), sequence).key, tdes_ecb(key)).reveal()

    assert a == pyemv.kd.derive_icc_mk_a(key, pan, number)
    assert b == pyemv.kd.derive_icc_mk_b(key, pan, number)


@takes_tdes_the_old_way
def test_a_hash_with_few_digits_falls_back_on_letters() -> None:
    pan = next(
        pan
        for pan in map(str, range(10**17, 10**17 + 100_000))
        if decimals(hashlib.sha1(bytes.fromhex(f"{pan}01")).hexdigest()) < 16
    )

    key = emv.derive(emv.card_key_b(Pan(pan), 1).key, tdes_ecb(KEY)).reveal()

    assert key == pyemv.kd.derive_icc_mk_b(KEY, pan, "01")


def decimals(nibbles: str) -> int:
    return sum(map(str.isdecimal, nibbles))


@takes_tdes_the_old_way
@given(key=keys, diversifier=st.binary(min_size=8, max_size=8))
def test_pyemv_derives_the_same_session_keys(key: bytes, diversifier: bytes) -> None:
    atc = diversifier[:2]
    common = emv.derive(emv.session_key(diversifier).key, tdes_ecb(key)).reveal()

    assert common == pyemv.kd.derive_common_sk(key, diversifier)
    assert emv.visa_session_key(Secret(key), atc).reveal() == pyemv.kd.derive_visa_sm_sk(key, atc)
    for tree in Tree:
        ours = emv.emv2000_session_key(Secret(key), atc, tree).reveal()
        assert ours == pyemv.kd.derive_emv2000_tree_sk(key, atc, tree.height, tree.value)


@takes_tdes_the_old_way
@given(key=keys, pin=pins, current=st.none() | pins, data=st.binary(max_size=60))
def test_pyemv_enciphers_and_macs_the_same(
    key: bytes, pin: str, current: str | None, data: bytes
) -> None:
    kinds = pyemv.sm.EncryptionType
    old = None if current is None else Pin(current)

    assert emv.vis_block(Pin(pin), Secret(key), old).reveal() == pyemv.sm.format_vis_pin_block(
        key, pin, current
    )
    for ours, kind in [
        (emv.encipher_mastercard(Secret(data), tdes_cbc(key)), kinds.MASTERCARD),
        (emv.encipher_ccd(Secret(data), tdes_cbc(key)), kinds.EMV),
        (emv.encipher_visa(Secret(data), tdes_ecb(key)), kinds.VISA),
    ]:
        assert ours == pyemv.sm.encrypt_command_data(key, data, kind)
    mac = emv.command_mac(b"\x84\x24\0\x02\x10", data, two_key_mac(key), size_bytes=5)
    assert mac == pyemv.sm.generate_command_mac(key, b"\x84\x24\0\x02\x10" + data, 5)


@given(key=keys)
def test_derived_keys_have_odd_parity(key: bytes) -> None:
    adjusted = emv.odd_parity(Secret(key)).reveal()

    assert all(byte.bit_count() % 2 == 1 for byte in adjusted)
    assert all(a >> 1 == b >> 1 for a, b in zip(key, adjusted, strict=True))


@given(key=keys, pan=pans, sequence=sequences, diversifier=st.binary(min_size=8, max_size=8))
def test_the_left_key_is_the_first_half_twice(
    key: bytes, pan: str, sequence: int, diversifier: bytes
) -> None:
    for data in (emv.card_key_a(Pan(pan), sequence), emv.session_key(diversifier)):
        whole = emv.derive(data.key, tdes_ecb(key)).reveal()
        assert emv.derive(data.left, tdes_ecb(key)).reveal() == whole[:8] * 2


def test_a_whole_command_counts_data_and_mac() -> None:
    mac, data = two_key_mac(KEY), bytes(16)

    command = emv.pin_change_command(PinChange.CHANGE, data, mac)
    unblock = emv.pin_change_command(PinChange.UNBLOCK, b"", mac, mac_bytes=4)

    assert command[:5].hex() == "8424000218"
    assert command[5:] == data + mac(command[:5] + data)
    assert unblock.hex() == "8424000004" + mac(bytes.fromhex("8424000004"))[:4].hex()


def test_transaction_data_is_in_the_mac_and_not_in_the_command() -> None:
    mac, data, seen = two_key_mac(KEY), bytes(8), b"\xff\xff" + bytes(8)

    command = emv.pin_change_command(PinChange.CHANGE, data, mac, transaction=seen)

    assert len(command) == 5 + 8 + 8
    assert command[-8:] == mac(command[:5] + seen + data)


def test_a_published_mac_with_transaction_data() -> None:
    header, seen = bytes.fromhex("8424000008"), bytes.fromhex("FFFF1234567890123456")

    mac = emv.command_mac(header, b"", two_key_mac(KEY), transaction=seen)

    assert text(mac) == "E07B8DF1B4184282"


ISSUED = Secret(KEY)
SHORT = Secret(KEY[:8])
MAC = two_key_mac(KEY)
REFUSALS: dict[str, Callable[[], object]] = {
    "sequence number -1": lambda: emv.card_key_a(Pan("4761739001010119"), -1),
    "sequence number 100": lambda: emv.card_key_a(Pan("4761739001010119"), 100),
    "option B, sequence number 100": lambda: emv.card_key_b(Pan("12345678901234567"), 100),
    "R of 7 bytes": lambda: emv.session_key(bytes(7)),
    "R of 16 bytes": lambda: emv.session_key(bytes(16)),
    "Visa, key of 8 bytes": lambda: emv.visa_session_key(SHORT, bytes(2)),
    "Visa, ATC of 1 byte": lambda: emv.visa_session_key(ISSUED, bytes(1)),
    "tree, key of 8 bytes": lambda: emv.emv2000_session_key(SHORT, bytes(2)),
    "tree, ATC of 3 bytes": lambda: emv.emv2000_session_key(ISSUED, bytes(3)),
    "VIS block, key of 8 bytes": lambda: emv.vis_block(Pin("1234"), SHORT),
    "Visa, 256 bytes": lambda: emv.encipher_visa(Secret(bytes(256)), tdes_ecb(KEY)),
    "MAC of 3 bytes": lambda: emv.command_mac(b"", b"", MAC, size_bytes=3),
    "MAC of 9 bytes": lambda: emv.command_mac(b"", b"", MAC, size_bytes=9),
    "command too long": lambda: emv.pin_change_command(PinChange.CHANGE, bytes(248), MAC),
}


@pytest.mark.parametrize("call", REFUSALS.values(), ids=REFUSALS)
def test_what_emv_does_not_allow_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(EmvError):
        call()
