"""What a PKCS#11 token computes, compared with the same in software."""

import ctypes
import itertools
import os
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from pkcs11 import exceptions

from crypto.jose.jwe import other_info
from hsm.pkcs11.keys import KeyRole
from hsm.pkcs11.token import Pkcs11Token
from tests.crypto.ciphers import cbc_of
from tests.hsm.pkcs11.sample_keys import (
    AGREE_ROLES,
    ENCRYPT_ROLES,
    INFO,
    MAC_ROLES,
    label_of,
    read_back,
    read_or_refusal,
    session_keys,
    session_objects,
    software_key,
)

#: What a shared secret may do: nothing, but be digested.
SHARED = {
    "TOKEN": False,
    "PRIVATE": True,
    "SENSITIVE": True,
    "EXTRACTABLE": False,
    **dict.fromkeys(("ENCRYPT", "DECRYPT", "SIGN", "VERIFY", "WRAP", "UNWRAP", "DERIVE"), False),
}


def concat_kdf(z: bytes, info: bytes) -> bytes:
    return ConcatKDFHash(hashes.SHA256(), 32, info).derive(z)


@pytest.mark.parametrize("role", AGREE_ROLES)
@pytest.mark.parametrize("info", [INFO, other_info("A256GCM", b"", b"", 256), b"", bytes(300)])
def test_agree_is_ecdh_and_concat_kdf(hsm_token: Pkcs11Token, role: KeyRole, info: bytes) -> None:
    ours = hsm_token.public_point(label_of(role)).public_key()
    for number in range(2, 8):
        key, point = software_key(number)
        expected = concat_kdf(key.exchange(ec.ECDH(), ours), info)
        assert hsm_token.agree(label_of(role), point, info) == expected


def test_agree_keeps_the_zeros_in_front_of_the_shared_secret(hsm_token: Pkcs11Token) -> None:
    ours = hsm_token.public_point(label_of(KeyRole.D1)).public_key()
    for number in itertools.count(2):
        key, point = software_key(number)
        z = key.exchange(ec.ECDH(), ours)
        if z[0] == 0:
            break
    assert hsm_token.agree(label_of(KeyRole.D1), point, INFO) == concat_kdf(z, INFO)


def test_the_shared_secret_cannot_be_read_or_used_while_it_is_there(
    hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    destroy = hsm_token._calls._destroy_object

    def look_and_destroy(session: ctypes.c_ulong, handle: ctypes.c_ulong) -> int:
        key = session_keys(hsm_token)[handle.value]
        seen.append(read_or_refusal(key, "VALUE"))
        seen.append(read_back(key, SHARED))
        returned: int = destroy(session, handle)
        return returned

    monkeypatch.setattr(hsm_token._calls, "_destroy_object", look_and_destroy)
    hsm_token.agree(label_of(KeyRole.D1), software_key(2)[1], INFO)
    assert seen == [exceptions.AttributeSensitive, SHARED]


def test_no_shared_secret_is_left_behind(hsm_token: Pkcs11Token) -> None:
    before = session_objects(hsm_token)
    for number in range(2, 202):
        hsm_token.agree(label_of(KeyRole.D1), software_key(number)[1], INFO)
    assert session_objects(hsm_token) == before


@pytest.mark.parametrize("role", ENCRYPT_ROLES)
def test_a_block_is_deciphered_to_what_it_was(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    block = os.urandom(16)
    sealed = hsm_token.encrypt_block(label_of(role), block)
    assert sealed != block
    assert hsm_token.decrypt_block(label_of(role), sealed) == block


@pytest.mark.parametrize("role", ENCRYPT_ROLES)
def test_cbc_chains_blocks_of_the_same_cipher(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    label, iv, data = label_of(role), os.urandom(16), os.urandom(48)
    chained = cbc_of(partial(hsm_token.encrypt_block, label))
    assert hsm_token.encrypt_cbc(label, iv, data) == chained(iv, data)


@pytest.mark.parametrize("role", [KeyRole.RECORD, KeyRole.VALUES, KeyRole.TZPK])
def test_gcm_is_counter_mode_of_the_same_cipher(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    label, nonce, plaintext = label_of(role), os.urandom(12), os.urandom(20)
    sealed = hsm_token.encrypt_gcm(label, nonce, plaintext)
    stream = b"".join(hsm_token.encrypt_block(label, nonce + n.to_bytes(4)) for n in (2, 3))
    assert len(sealed) == len(plaintext) + 16
    assert sealed[:20] == bytes(a ^ b for a, b in zip(plaintext, stream, strict=False))
    assert hsm_token.decrypt_gcm(label, nonce, sealed) == plaintext


@pytest.mark.parametrize("role", MAC_ROLES)
def test_a_mac_depends_on_every_bit_and_on_the_key(hsm_token: Pkcs11Token, role: KeyRole) -> None:
    data = os.urandom(40)
    mac = hsm_token.mac(label_of(role), data)
    assert (len(mac), mac) == (16, hsm_token.mac(label_of(role), data))
    others = {hsm_token.mac(label_of(other), data) for other in MAC_ROLES if other is not role}
    others |= {hsm_token.mac(label_of(role), changed) for changed in (data[:-1], data + b"\0", b"")}
    assert mac not in others
    assert len(others) == len(MAC_ROLES) - 1 + 3


def test_a_signature_verifies_in_software(hsm_token: Pkcs11Token) -> None:
    label, digest = label_of(KeyRole.TOKEN_SIGN), os.urandom(32)
    signature = hsm_token.sign(label, digest)
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    public = hsm_token.public_point(label).public_key()
    public.verify(der, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_random_bytes_are_as_many_as_asked_and_do_not_repeat(hsm_token: Pkcs11Token) -> None:
    assert [len(hsm_token.random(size)) for size in (1, 12, 16, 33)] == [1, 12, 16, 33]
    assert len({hsm_token.random(16) for _ in range(100)}) == 100
