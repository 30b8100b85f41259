"""A control token is a UUID of version 8: 16 bits name its issuer, 106 are random."""

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.control_tokens import RANDOM_BYTES, make, prefix, prefix_of

ISSUER_IDS = st.text(min_size=10, max_size=10)
RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(ISSUER_IDS, RANDOM)
def test_it_is_a_uuid_that_begins_as_the_hash_of_its_issuer(issuer_id: str, random: bytes) -> None:
    control_token = make(issuer_id, random)
    parsed = uuid.UUID(control_token)
    assert str(parsed) == control_token
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert parsed.bytes[:2] == hashlib.sha256(issuer_id.encode()).digest()[:2]
    assert prefix_of(control_token) == prefix(issuer_id)


def test_106_of_its_bits_are_random() -> None:
    """Each bit that is drawn shows in a bit of its own, or in none."""
    least = uuid.UUID(make("testbank01", bytes(RANDOM_BYTES))).int
    drawn = [
        uuid.UUID(make("testbank01", (1 << bit).to_bytes(RANDOM_BYTES))).int ^ least
        for bit in range(8 * RANDOM_BYTES)
    ]
    shown = [difference for difference in drawn if difference]
    assert len(shown) == len(set(shown)) == 106
    assert all(difference.bit_count() == 1 for difference in shown)


@pytest.mark.parametrize(
    "secret", ["", "abc", "ABCD-", "xyz10000", " abcd", "\0abcd", "\udc80abc", "\uff14111"]
)
def test_what_begins_as_no_control_token_does_has_no_prefix(secret: str) -> None:
    assert prefix_of(secret) is None
