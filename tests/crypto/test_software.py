import pytest

from crypto import software
from crypto.secret import Secret
from tests.crypto.ciphers import tdes_cbc, tdes_ecb
from tests.crypto.vectors import Row, rows


@pytest.mark.parametrize("row", rows("mac.json", "cmac_tdes", "cmac_aes128"))
def test_cmac(row: Row) -> None:
    cmac = software.tdes_cmac if row["kind"] == "cmac_tdes" else software.aes_cmac
    key = Secret(bytes.fromhex(row["inputs"]["key"]))

    assert cmac(key, bytes.fromhex(row["inputs"]["data"])).hex().upper() == row["expected"]


@pytest.mark.parametrize("size", [8, 16, 24])
def test_tdes_takes_keys_of_one_two_and_three_parts(size: int) -> None:
    raw, data = bytes(range(size)), bytes(range(32))
    key, iv = Secret(raw), b"\x01" * 8

    assert software.tdes_encrypt_ecb(key, data) == tdes_ecb(raw)(data)
    assert software.tdes_decrypt_cbc(key, iv, tdes_cbc(raw)(iv, data)) == data


def test_aes_cbc() -> None:
    # NIST SP 800-38A, F.2.2, first block.
    key = Secret(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    block = bytes.fromhex("7649abac8119b246cee98e9b12e9197d")

    clear = software.aes_decrypt_cbc(key, bytes(range(16)), block)

    assert clear.hex() == "6bc1bee22e409f96e93d7e117393172a"
