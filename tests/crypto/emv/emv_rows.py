"""The rows of ``emv.json``, and what several tests do with one."""

import pytest

from crypto.emv import key_derivation
from crypto.types import Pan
from tests.crypto.ciphers import tdes_ecb
from tests.crypto.vectors import Row, rows


def each(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows("emv.json", *kinds))


def given_bytes(row: Row, name: str) -> bytes:
    return bytes.fromhex(row["inputs"][name])


def card_key(row: Row, issuer_key: str) -> bytes:
    data = key_derivation.card_key_a(Pan(row["inputs"]["pan"]), int(row["inputs"]["psn"]))
    return key_derivation.derive(data.key, tdes_ecb(given_bytes(row, issuer_key))).reveal()


def text(value: bytes) -> str:
    return value.hex().upper()
