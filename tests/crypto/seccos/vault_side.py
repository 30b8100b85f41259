"""The issuer's side of SECCOS with keys in software, put together as the vault does it."""

from crypto.emv import key_derivation
from crypto.seccos import session_key
from crypto.seccos.card import CardData
from crypto.seccos.payload import parse
from crypto.seccos.profile import SeccosProfile
from crypto.seccos.verify import Keys, Outcome, verify
from crypto.types import Mac, Pan
from tests.crypto.ciphers import aes_cmac, tdes_cmac, tdes_ecb, tdes_ecb_decrypt, two_key_mac
from tests.crypto.seccos.d1_side import Card, SharedKeys

MACS = {
    "aes-cmac": aes_cmac,
    "tdes-cmac": tdes_cmac,
    "iso9797-alg3": two_key_mac,
    "iso9797-alg3-pad2": two_key_mac,
}


def card_data(card: Card) -> CardData:
    return CardData(Pan(card.pan), card.psn, card.expiry)


def keys_for(profile: SeccosProfile, shared: SharedKeys, card: CardData, counter: int) -> Keys:
    def session(key: bytes, method: str) -> bytes:
        if method == "none":
            return key
        steps = session_key.emv_csk(card, counter)
        card_key = key_derivation.derive(steps.card_key.key, tdes_ecb(key)).reveal()
        return key_derivation.derive(steps.session_key.key, tdes_ecb(card_key)).reveal()

    return Keys(
        decrypt=tdes_ecb_decrypt(session(shared.spe, profile.pin_block.session_key)),
        prw=mac_of(profile.prw.alg, shared.prw),
        mac=mac_of(profile.mac.alg, session(shared.mac, profile.mac.session_key)),
    )


def mac_of(algorithm: str, key: bytes) -> Mac:
    return MACS[algorithm](key)


def received(
    members: dict[str, object],
    profile: SeccosProfile,
    shared: SharedKeys,
    card: CardData,
    counter: int,
) -> Outcome:
    """Read and check a payload against the *counter* that the issuer expects."""
    payload = parse(members, profile)
    return verify(payload, card, counter, profile, keys_for(profile, shared, card, counter))
