"""A keyed hash is an HMAC over values that cannot run into one another."""

import hashlib
import hmac

import pytest

from crypto.keyed_hash import keyed_hash
from crypto.secret import Secret

KEY = Secret(b"k" * 32)


def test_each_value_comes_after_its_length() -> None:
    message = b"\0\0\0\5token\0\0\0\2ab"
    assert keyed_hash(KEY, b"token", b"ab") == hmac.digest(b"k" * 32, message, hashlib.sha256)


def test_values_that_are_cut_elsewhere_have_another_hash() -> None:
    hashes = {
        keyed_hash(KEY, *values)
        for values in [(), (b"",), (b"", b""), (b"ab", b"c"), (b"a", b"bc"), (b"abc",)]
    }
    assert len(hashes) == 6


def test_another_key_makes_another_hash() -> None:
    assert keyed_hash(KEY, b"a") != keyed_hash(Secret(b"o" * 32), b"a")


def test_a_key_has_at_least_256_bits() -> None:
    with pytest.raises(ValueError, match="too short"):
        keyed_hash(Secret(b"k" * 31), b"a")
