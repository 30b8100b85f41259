import pytest

from crypto import kcv
from tests.crypto.ciphers import aes_cmac, aes_encrypt, tdes_ecb
from tests.crypto.vectors import Row, rows


@pytest.mark.parametrize("row", rows("kcv.json", "kcv"))
def test_published_check_values(row: Row) -> None:
    key = bytes.fromhex(row["inputs"]["key"])
    if row["inputs"]["algorithm"] == "AES-CMAC":
        value = kcv.aes(aes_cmac(key), len(row["expected"]) // 2)
    else:
        value = kcv.tdes(tdes_ecb(key))

    assert value.hex().upper() == row["expected"]


def test_a_check_value_has_3_bytes() -> None:
    key = bytes(range(16))

    assert len(kcv.tdes(tdes_ecb(key))) == len(kcv.aes(aes_cmac(key))) == 3
    assert len(kcv.aes(aes_cmac(key), 5)) == 5


@pytest.mark.parametrize("row", rows("kcv.json", "kcv_pkcs11_pitfall"))
def test_the_check_value_of_a_token_is_another(row: Row) -> None:
    key, expected = bytes.fromhex(row["inputs"]["key"]), row["expected"]

    assert kcv.aes(aes_cmac(key)).hex().upper() == expected["AES_CMAC_zero_X9_24"]
    assert aes_encrypt(key)(bytes(16))[:3].hex().upper() == expected["CKA_CHECK_VALUE"]


@pytest.mark.parametrize("number", range(64))
def test_a_key_that_makes_no_macs_has_the_same_check_value(number: int) -> None:
    key = number.to_bytes(32)

    assert kcv.aes_of_cipher(aes_encrypt(key)) == kcv.aes(aes_cmac(key))
