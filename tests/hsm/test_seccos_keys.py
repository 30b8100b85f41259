"""Every algorithm of a SECCOS profile with keys in an HSM token, imported from D1's key blocks.

What D1's side computes is written from the text of the design, with psec and pyemv.
"""

import os
from collections import Counter
from typing import Final

import psec
import pytest

from crypto.secret import Secret
from hsm.errors import NotGenuine, WrongPinData
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyKind, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.seccos import SeccosReader
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.seccos.d1_side import Card, SharedKeys, Writer
from tests.crypto.seccos.profiles import profile
from tests.crypto.seccos.vault_side import card_data

pytestmark = takes_tdes_the_old_way

ISSUER: Final = "testbank01"
CARD: Final = Card("6725901234567890125", 1, "2912")
COUNTER, PIN = 7, "407190"
KBPK: Final = bytes(range(32))
#: What D1 writes on the key blocks: role, algorithm, usage, mode of use.
Marks = tuple[KeyRole, str, str, str]
PRW_KEYS: Final[dict[str, Marks]] = {
    "aes-cmac": (KeyRole.SECCOS_PRW, "A", "M6", "V"),
    "tdes-cmac": (KeyRole.SECCOS_PRW, "T", "M6", "V"),
    "iso9797-alg3": (KeyRole.SECCOS_PRW_RETAIL, "T", "M3", "V"),
}
MAC_KEYS: Final[dict[tuple[str, str], Marks]] = {
    ("iso9797-alg3-pad2", "none"): (KeyRole.SECCOS_MAC, "T", "M3", "V"),
    ("aes-cmac", "none"): (KeyRole.SECCOS_MAC_CMAC, "A", "M6", "V"),
    ("tdes-cmac", "none"): (KeyRole.SECCOS_MAC_CMAC, "T", "M6", "V"),
    ("iso9797-alg3-pad2", "emv_csk"): (KeyRole.SECCOS_MAC_MASTER, "T", "E2", "X"),
    ("tdes-cmac", "emv_csk"): (KeyRole.SECCOS_MAC_MASTER, "T", "E2", "X"),
}
PIN_KEYS: Final[dict[str, Marks]] = {
    "none": (KeyRole.SECCOS_PIN, "T", "P0", "D"),
    "emv_csk": (KeyRole.SECCOS_PIN, "T", "E1", "X"),
}


def brought(hsm_token: HsmToken, marks: Marks) -> bytes:
    """Let D1 make a key and wrap it, and the issuer import it."""
    role, algorithm, usage, mode = marks
    key = os.urandom(32 if algorithm == "A" else 16)
    header = psec.tr31.Header("D", usage, algorithm, mode, "00", "N")
    text = psec.tr31.wrap(KBPK, header, key)
    shared_keys.store(
        hsm_token, role, ISSUER, shared_keys.open_block(hsm_token, role, ISSUER, text)
    )
    return key


@pytest.mark.parametrize("pin_keys", PIN_KEYS)
@pytest.mark.parametrize("mac_keys", MAC_KEYS, ids=" ".join)
@pytest.mark.parametrize("prw_keys", PRW_KEYS)
def test_what_d1_computes_is_taken_and_nothing_else(
    any_hsm_token: HsmToken, prw_keys: str, mac_keys: tuple[str, str], pin_keys: str
) -> None:
    protection = ClearKey(KeyKind.AES_256, Secret(KBPK))
    shared_keys.store(any_hsm_token, KeyRole.BLOCK_PROTECTION, ISSUER, protection)
    marks = (PIN_KEYS[pin_keys], PRW_KEYS[prw_keys], MAC_KEYS[mac_keys])
    keys = SharedKeys(*(brought(any_hsm_token, one) for one in marks))
    settings = profile(
        {
            "pin_block": {"session_key": pin_keys, "same_on_every_card": pin_keys == "none"},
            "prw": {"alg": prw_keys},
            "mac": {"alg": mac_keys[0], "session_key": mac_keys[1]},
        }
    )
    reader = SeccosReader(any_hsm_token, Keyring(any_hsm_token), ISSUER, settings)
    members = Writer(settings, keys, CARD, COUNTER, os.urandom).payload(PIN)
    names = settings.payload

    pin = reader.read(members, card_data(CARD), COUNTER).pin
    assert pin is not None
    assert pin.reveal() == PIN
    with pytest.raises(NotGenuine):
        reader.read(flipped(members, names.mac[0]), card_data(CARD), COUNTER)
    with pytest.raises(WrongPinData):
        reader.read(flipped(members, names.prw[1]), card_data(CARD), COUNTER)


def test_a_pin_by_the_default_profile_is_six_blocks_of_master_keys(
    emptied: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: Counter[KeyRole] = Counter()
    monkeypatch.setattr(
        emptied, "_count_uses", lambda label, _, blocks: told.update({label.role: blocks})
    )
    roles = (KeyRole.SECCOS_PIN, KeyRole.SECCOS_PRW, KeyRole.SECCOS_MAC_MASTER)
    keys = [os.urandom(32 if role is KeyRole.SECCOS_PRW else 16) for role in roles]
    for role, key in zip(roles, keys, strict=True):
        shared_keys.store(emptied, role, ISSUER, ClearKey(role.kind, Secret(key)))
    settings = profile({})
    members = Writer(settings, SharedKeys(*keys), CARD, COUNTER, os.urandom).payload(PIN)

    SeccosReader(emptied, Keyring(emptied), ISSUER, settings).read(
        members, card_data(CARD), COUNTER
    )

    assert told == {KeyRole.SECCOS_PIN: 2, KeyRole.SECCOS_MAC_MASTER: 4}


def flipped(members: dict[str, object], name: str) -> dict[str, object]:
    tag = bytearray.fromhex(str(members[name]))
    tag[0] ^= 1
    return {**members, name: tag.hex()}
