"""A client's secret: 256 random bits, of which SHA-256 is stored."""

import base64
import hashlib

import pytest

from cms.services.credentials import hash_secret, is_secret, new_secret


def test_a_secret_has_256_random_bits() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.urlsafe_b64decode(secret + "=")) for secret in made} == {32}


def test_what_is_stored_of_a_secret_is_its_sha_256() -> None:
    assert hash_secret("abc") == hashlib.sha256(b"abc").digest()


def test_a_secret_fits_any_of_the_hashes_that_are_valid() -> None:
    old, new = new_secret(), new_secret()
    hashes = [hash_secret(old), hash_secret(new)]
    assert is_secret(old, hashes)
    assert is_secret(new, hashes)
    assert is_secret(new, hashes[1:])


@pytest.mark.parametrize("presented", ["", "wrong", "\udcff", "x" * 100_000])
def test_another_text_fits_none(presented: str) -> None:
    assert not is_secret(presented, [hash_secret(new_secret())])
    assert not is_secret(presented, [])


def test_each_hash_is_compared_so_that_the_time_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def compare(_: bytes, stored: bytes) -> bool:
        compared.append(stored)
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert is_secret("x", [b"first", b"second"])
    assert compared == [b"first", b"second"]
