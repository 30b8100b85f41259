import hashlib
from collections.abc import Callable

import pyemv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.emv import key_derivation
from crypto.emv.key_derivation import Tree
from crypto.errors import EmvError
from crypto.secret import Secret
from crypto.types import Pan
from tests.crypto.ciphers import tdes_ecb
from tests.crypto.emv.emv_rows import card_key, each, given_bytes, text
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.strategies import pans
from tests.crypto.vectors import Row

KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")

keys = st.binary(min_size=16, max_size=16)
psns = st.integers(0, 99)


@each("emv_mk_option_a")
def test_card_key_option_a(row: Row) -> None:
    assert text(card_key(row, "imk")) == row["expected"]


@each("emv_mk_option_b")
def test_card_key_option_b(row: Row) -> None:
    data = key_derivation.card_key_b(Pan(row["inputs"]["pan"]), int(row["inputs"]["psn"]))

    key = key_derivation.derive(data.key, tdes_ecb(given_bytes(row, "imk")))

    assert text(key.reveal()) == row["expected"]


@each("emv_common_session_key")
def test_common_session_key(row: Row) -> None:
    data = key_derivation.session_key(given_bytes(row, "r"))

    key = key_derivation.derive(data.key, tdes_ecb(given_bytes(row, "mk")))

    assert text(key.reveal()) == row["expected"]


@each("visa_sm_session_key")
def test_visa_session_key(row: Row) -> None:
    key = key_derivation.visa_session_key(Secret(given_bytes(row, "mk")), given_bytes(row, "atc"))

    assert text(key.reveal()) == row["expected"]


@each("emv2000_tree_session_key")
def test_emv2000_session_key(row: Row) -> None:
    tree = Tree(row["inputs"]["branch"])
    assert tree.height == row["inputs"]["height"]

    key = key_derivation.emv2000_session_key(
        Secret(given_bytes(row, "mk")), given_bytes(row, "atc"), tree
    ).reveal()

    assert text(key) == row["expected"]


@takes_tdes_the_old_way
@given(key=keys, pan=pans, psn=psns)
def test_pyemv_derives_the_same_card_keys(key: bytes, pan: str, psn: int) -> None:
    number = f"{psn:02d}"

    a = key_derivation.derive(key_derivation.card_key_a(Pan(pan), psn).key, tdes_ecb(key)).reveal()
    b = key_derivation.derive(key_derivation.card_key_b(Pan(pan), psn).key, tdes_ecb(key)).reveal()

    assert a == pyemv.kd.derive_icc_mk_a(key, pan, number)
    assert b == pyemv.kd.derive_icc_mk_b(key, pan, number)


@takes_tdes_the_old_way
def test_a_hash_with_few_digits_falls_back_on_letters() -> None:
    pan = next(
        pan
        for pan in map(str, range(10**17, 10**17 + 100_000))
        if decimals(hashlib.sha1(bytes.fromhex(f"{pan}01")).hexdigest()) < 16
    )

    key = key_derivation.derive(key_derivation.card_key_b(Pan(pan), 1).key, tdes_ecb(KEY)).reveal()

    assert key == pyemv.kd.derive_icc_mk_b(KEY, pan, "01")


def decimals(nibbles: str) -> int:
    return sum(map(str.isdecimal, nibbles))


@takes_tdes_the_old_way
@given(key=keys, diversifier=st.binary(min_size=8, max_size=8))
def test_pyemv_derives_the_same_session_keys(key: bytes, diversifier: bytes) -> None:
    atc, data = diversifier[:2], key_derivation.session_key(diversifier)
    common = key_derivation.derive(data.key, tdes_ecb(key)).reveal()
    visa = key_derivation.visa_session_key(Secret(key), atc).reveal()

    assert common == pyemv.kd.derive_common_sk(key, diversifier)
    assert visa == pyemv.kd.derive_visa_sm_sk(key, atc)
    for tree in Tree:
        ours = key_derivation.emv2000_session_key(Secret(key), atc, tree).reveal()
        assert ours == pyemv.kd.derive_emv2000_tree_sk(key, atc, tree.height, tree.value)


@given(key=keys)
def test_derived_keys_have_odd_parity(key: bytes) -> None:
    adjusted = key_derivation.odd_parity(Secret(key)).reveal()

    assert all(byte.bit_count() % 2 == 1 for byte in adjusted)
    assert all(a >> 1 == b >> 1 for a, b in zip(key, adjusted, strict=True))


@given(key=keys, pan=pans, psn=psns, diversifier=st.binary(min_size=8, max_size=8))
def test_the_left_key_is_the_first_half_twice(
    key: bytes, pan: str, psn: int, diversifier: bytes
) -> None:
    for data in (key_derivation.card_key_a(Pan(pan), psn), key_derivation.session_key(diversifier)):
        whole = key_derivation.derive(data.key, tdes_ecb(key)).reveal()
        assert key_derivation.derive(data.left, tdes_ecb(key)).reveal() == whole[:8] * 2


ISSUED = Secret(KEY)
SHORT = Secret(KEY[:8])
REFUSALS: dict[str, Callable[[], object]] = {
    "PSN -1": lambda: key_derivation.card_key_a(Pan("4761739001010119"), -1),
    "PSN 100": lambda: key_derivation.card_key_a(Pan("4761739001010119"), 100),
    "option B, PSN 100": lambda: key_derivation.card_key_b(Pan("12345678901234567"), 100),
    "R of 7 bytes": lambda: key_derivation.session_key(bytes(7)),
    "R of 16 bytes": lambda: key_derivation.session_key(bytes(16)),
    "Visa, key of 8 bytes": lambda: key_derivation.visa_session_key(SHORT, bytes(2)),
    "Visa, ATC of 1 byte": lambda: key_derivation.visa_session_key(ISSUED, bytes(1)),
    "tree, key of 8 bytes": lambda: key_derivation.emv2000_session_key(SHORT, bytes(2)),
    "tree, ATC of 3 bytes": lambda: key_derivation.emv2000_session_key(ISSUED, bytes(3)),
}


@pytest.mark.parametrize("call", REFUSALS.values(), ids=REFUSALS)
def test_what_emv_does_not_allow_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(EmvError):
        call()
