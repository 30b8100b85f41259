"""ISO-0 blocks under a zone PIN key (ZPK) inside the JWE, in both directions, against psec."""

from dataclasses import replace
from typing import Final

import psec
import pytest

from cms.sandbox.partners.jwe import decrypt
from hsm.errors import KeyMissing
from hsm.pkcs11.keys import KeyRole
from hsm.port import PinBlockType, SealedChange
from tests.contracts.issuer import LONG_PINS, PIN, block
from tests.contracts.partner import CARD, CHANGES, MAC_ONLY_ID, Partner
from tests.crypto.ciphers import tdes_ecb, tdes_ecb_decrypt
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.pans import PAN

pytestmark = takes_tdes_the_old_way

OTHER_PAN: Final = "4012888888881881"
ROLES: Final = {"zpk-tdes": KeyRole.ZPK, "zpk-aes": KeyRole.ZPK_AES}
every_protection = pytest.mark.parametrize("protection", ROLES)


def under_zpk(partner: Partner, protection: str, generation: int = 1) -> Partner:
    wire = {"iso0": {"protection": protection, "key_generation": generation}}
    return partner.with_members(wire=wire)


def enciphered(
    partner: Partner, protection: str, pin: str = PIN, pan: str = PAN, generation: int = 1
) -> str:
    key = partner.key(ROLES[protection], generation)
    if protection == "zpk-aes":
        return psec.pinblock.encipher_pinblock_iso_4(key, pin, pan).hex().upper()
    return tdes_ecb(key)(bytes.fromhex(block(pin, pan))).hex().upper()


def deciphered(partner: Partner, protection: str, text: str, generation: int = 1) -> str:
    key, sent = partner.key(ROLES[protection], generation), bytes.fromhex(text)
    if protection == "zpk-aes":
        return psec.pinblock.decipher_pinblock_iso_4(key, sent, PAN)
    return psec.pinblock.decode_pinblock_iso_0(tdes_ecb_decrypt(key)(sent), PAN)


def put(partner: Partner, text: str) -> SealedChange:
    return partner.send({"pinBlock": text}, block_type=PinBlockType.ISO0)


def got(partner: Partner, change: SealedChange) -> str:
    assert change.sealed_pin is not None
    sealed_record = partner.issuer.seal_record(PAN, partner.card)
    export = partner.issuer.export(change.sealed_pin, sealed_record, partner.card, CHANGES + 1)
    return str(decrypt(export, partner.issuer.d1_key)["pinBlock"])


@every_protection
@pytest.mark.parametrize("pin", ["4071", "407190", "40719028"])
@pytest.mark.parametrize("generation", [1, 2])
def test_a_block_comes_and_goes_under_the_zpk_that_the_profile_names(
    partner: Partner, protection: str, pin: str, generation: int
) -> None:
    partner = under_zpk(partner, protection, generation)
    change = put(partner, enciphered(partner, protection, pin, generation=generation))
    sent_back = got(partner, change)
    assert deciphered(partner, protection, sent_back, generation) == pin
    assert len(sent_back) == (32 if protection == "zpk-aes" else 16)
    assert sent_back != block(pin)


def test_a_block_under_aes_is_another_each_time(partner: Partner) -> None:
    partner = under_zpk(partner, "zpk-aes")
    change = put(partner, enciphered(partner, "zpk-aes"))
    assert got(partner, change) != got(partner, change)


@every_protection
def test_a_block_that_is_not_under_that_zpk_is_refused(partner: Partner, protection: str) -> None:
    # Under another key a block may by chance have a length, and this policy takes all of them.
    partner = under_zpk(partner.with_members(policy=LONG_PINS), protection)
    good = enciphered(partner, protection)
    for text in (
        block(PIN),
        block(PIN) * 2,
        enciphered(partner, protection, pan=OTHER_PAN),
        enciphered(partner, protection, generation=2),
        good[:-2],
        good + "00",
        good[:-1] + "é",
        " " + good[1:],
        "",
    ):
        partner.refusal({"pinBlock": text}, block_type=PinBlockType.ISO0)
    assert put(partner, good.lower()).sealed_pin


def test_without_protection_an_enciphered_block_is_refused(partner: Partner) -> None:
    partner = partner.with_members(policy=LONG_PINS)
    for protection in ROLES:
        text = enciphered(partner, protection)
        partner.refusal({"pinBlock": text}, block_type=PinBlockType.ISO0)
    assert put(partner, block(PIN, CARD.pan)).sealed_pin


@every_protection
def test_without_the_key_the_vault_is_unavailable_and_the_pin_not_refused(
    partner: Partner, mac_only: Partner, protection: str
) -> None:
    text = enciphered(partner, protection)
    for other in (under_zpk(mac_only, protection), under_zpk(partner, protection, 9)):
        with pytest.raises(KeyMissing):
            put(other, text)
    assert mac_only.issuer.issuer_id == MAC_ONLY_ID


@every_protection
def test_no_clear_block_leaves_when_a_zpk_is_missing(partner: Partner, protection: str) -> None:
    change = put(partner, block(PIN))
    with pytest.raises(KeyMissing):
        got(under_zpk(partner, protection, 9), change)
    assert got(replace(partner), change) == block(PIN)
