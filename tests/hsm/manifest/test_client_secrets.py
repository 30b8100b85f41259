"""A client's secret: 256 random bits, of which SHA-256 is stored."""

import base64
import hashlib
from datetime import UTC, datetime

import pytest

from crypto.secret import Secret
from hsm.manifest.client_secrets import hash_secret, is_secret, new_secret
from hsm.manifest.clients import SecretHash

NOW = 1_700_000_000


def registered(*secrets: str) -> list[SecretHash]:
    return [SecretHash(sha256=hash_secret(secret)) for secret in secrets]


def test_a_secret_has_256_random_bits() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.urlsafe_b64decode(secret + "=")) for secret in made} == {32}


def test_what_is_stored_of_a_secret_is_its_sha_256() -> None:
    assert hash_secret("abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_secret_fits_any_of_the_hashes_that_are_valid() -> None:
    old, new = new_secret(), new_secret()
    hashes = registered(old, new)
    assert is_secret(Secret(old), hashes, NOW)
    assert is_secret(Secret(new), hashes, NOW)
    assert is_secret(Secret(new), hashes[1:], NOW)


def test_a_secret_that_has_an_end_is_wrong_from_then_on() -> None:
    end = datetime.fromtimestamp(NOW, UTC)
    hashes = [SecretHash(sha256=hash_secret("abc"), valid_until=end)]
    assert is_secret(Secret("abc"), hashes, NOW - 1)
    assert not is_secret(Secret("abc"), hashes, NOW)


@pytest.mark.parametrize("presented", ["", "wrong", "\udcff", "x" * 100_000])
def test_another_text_fits_none(presented: str) -> None:
    assert not is_secret(Secret(presented), registered(new_secret()), NOW)
    assert not is_secret(Secret(presented), [], NOW)


def test_each_hash_is_compared_so_that_the_time_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    def compare(_: str, stored: str) -> bool:
        compared.append(stored)
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert is_secret(Secret("x"), registered("first", "second"), NOW)
    assert compared == [hash_secret("first"), hash_secret("second")]
