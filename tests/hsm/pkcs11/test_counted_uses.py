"""What an HSM token tells of the uses of its keys."""

import pytest

from crypto.secret import Secret
from hsm.pkcs11.hsm_token import GCM_NONCE_BYTES, KeyUnit
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token

ISSUER = "testbank01"
NONCE = bytes(GCM_NONCE_BYTES)
VALUES, PIN, PIN_MAC = (
    KeyLabel(role, 1) for role in (KeyRole.VALUES, KeyRole.PIN, KeyRole.PIN_MAC)
)
KEY = Secret(bytes.fromhex("0123456789ABCDEF23456789ABCDEF01"))


@pytest.fixture
def told(emptied: Pkcs11Token, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, KeyUnit, int]]:
    """All that is told."""
    told: list[tuple[str, KeyUnit, int]] = []
    monkeypatch.setattr(
        emptied, "_count_uses", lambda label, unit, uses: told.append((str(label), unit, uses))
    )
    return told


def imported(hsm_token: Pkcs11Token, role: KeyRole) -> KeyLabel:
    label = KeyLabel(role, 1, ISSUER)
    hsm_token.import_key(label, KeyKind.TDES_2KEY, KEY)
    return label


def test_each_block_of_a_tdes_key_is_told(
    emptied: Pkcs11Token, told: list[tuple[str, KeyUnit, int]]
) -> None:
    zpk, mac, prw = (
        imported(emptied, role) for role in (KeyRole.ZPK, KeyRole.SECCOS_MAC, KeyRole.SECCOS_PRW)
    )
    emptied.tdes_encrypt(zpk, bytes(16))
    emptied.tdes_decrypt(zpk, bytes(8))
    emptied.tdes_encrypt_cbc(mac, bytes(8), bytes(32))
    for size_bytes in (0, 8, 17):
        emptied.tdes_mac(prw, bytes(size_bytes))
    expected = [(zpk, 2), (zpk, 1), (mac, 4), (prw, 1), (prw, 1), (prw, 3)]
    assert told == [(str(label), KeyUnit.TDES_BLOCKS, blocks) for label, blocks in expected]


def test_a_derivation_is_two_blocks_of_the_master_key_and_what_is_derived_is_not_told(
    emptied: Pkcs11Token, told: list[tuple[str, KeyUnit, int]]
) -> None:
    master = imported(emptied, KeyRole.SECCOS_PIN)
    with emptied.derived(master, bytes(16), bytes(16)) as key:
        key.encrypt(bytes(80))
        key.mac(bytes(80))
    assert told == [(str(master), KeyUnit.TDES_BLOCKS, 2)]


def test_gcm_is_told_when_it_enciphers_and_nothing_else_of_aes(
    emptied: Pkcs11Token, told: list[tuple[str, KeyUnit, int]]
) -> None:
    ciphertext = emptied.encrypt_gcm(VALUES, NONCE, bytes(300))
    emptied.decrypt_gcm(VALUES, NONCE, ciphertext)
    emptied.encrypt_cbc(PIN, bytes(16), bytes(16))
    emptied.decrypt_block(PIN, bytes(16))
    emptied.mac(PIN_MAC, bytes(300))
    assert told == [(str(VALUES), KeyUnit.GCM_INVOCATIONS, 1)]
