"""The public keys of cardholders' devices, and what is enciphered to them."""

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from crypto import device_key
from crypto.errors import DeviceKeyError
from crypto.secret import Secret
from tests.devices import rsa_key

KEY = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
TZPK = bytes(range(16))


def der(key: object) -> bytes:
    made: bytes = key.public_bytes(  # type: ignore[attr-defined] # each of the library's keys
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return made


def deciphered(data: bytes, digest: HashAlgorithm, mask: HashAlgorithm) -> bytes:
    return rsa_key().decrypt(data, padding.OAEP(padding.MGF1(mask), digest, None))


def test_both_hashes_of_the_padding_are_sha_256() -> None:
    enciphered = device_key.encipher(device_key.parse(KEY), Secret(TZPK))
    assert len(enciphered) == 256
    assert deciphered(enciphered, SHA256(), SHA256()) == TZPK
    for digest, mask in ((SHA256(), SHA1()), (SHA1(), SHA256()), (SHA1(), SHA1())):
        with pytest.raises(ValueError, match=r"[Dd]ecryption"):
            deciphered(enciphered, digest, mask)


def test_the_same_is_enciphered_to_something_else_each_time() -> None:
    key = device_key.parse(KEY)
    assert len({device_key.encipher(key, Secret(TZPK)) for _ in range(5)}) == 5


@given(st.one_of(st.binary(max_size=400), st.binary(min_size=294, max_size=294)))
@example(KEY)
def test_no_bytes_are_a_key_by_chance(public_key: bytes) -> None:
    try:
        parsed = device_key.parse(public_key)
    except DeviceKeyError:
        return
    assert (parsed.key_size, der(parsed)) == (2048, public_key)


@given(st.integers(0, len(KEY) - 1), st.integers(1, 255))
def test_a_key_with_another_byte_is_another_key_or_none(at: int, mask: int) -> None:
    changed = KEY[:at] + bytes((KEY[at] ^ mask,)) + KEY[at + 1 :]
    try:
        parsed = device_key.parse(changed)
    except DeviceKeyError:
        return
    assert (parsed.key_size, parsed.public_numbers().e, der(parsed)) == (2048, 65537, changed)
