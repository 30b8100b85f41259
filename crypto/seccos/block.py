"""The enciphered PIN block of a SECCOS payload: 8, 16 or 24 bytes.

NOT PUBLIC: OUR DESIGN. Self-encryption is IBM CCA's SELFENC: "the 8-byte PIN block shall be
used as a DES key to encrypt the PIN block"::

    clear    PB  |  S = DES_PB( PB )  |  PB ‖ S        PB of ISO 9564-1 format 0, 1, 2 or 3
    padded   clear [ ‖ 80 00 00 00 00 00 00 00 ]
    block    TDES( padded ), ECB or CBC

The key works in ECB mode only, also for CBC, so that a token is asked for one mechanism.
"""

from hmac import compare_digest
from typing import Final

from crypto.errors import PinBlockError
from crypto.padding import BLOCK_BYTES, pad
from crypto.pinblock import iso0, iso1, iso2, iso3
from crypto.pinblock.fields import xor
from crypto.seccos.card import CardData
from crypto.seccos.profile import PinBlockProfile
from crypto.secret import Secret
from crypto.software import tdes_encrypt_ecb
from crypto.types import PIN_BLOCK_BYTES, Pan, Pin, PinBlock, Random, TdesEcb

PADDING: Final = pad(b"")


def build(
    pin: Pin,
    card: CardData,
    counter: int,
    profile: PinBlockProfile,
    encrypt: TdesEcb,
    random: Random,
) -> bytes:
    """Build the enciphered block of *pin*.

    Args:
        pin: the clear PIN.
        card: formats 0 and 3 bind its PAN.
        counter: used for an IV only; a session key is the business of *encrypt*.
        profile: how.
        encrypt: under the (session) key; called once in ECB mode, else once a block.
        random: fills formats 1 and 3.
    """
    block = _encode(pin, card.pan, profile, random)
    clear = block.reveal()
    if profile.selfenc != "none":
        enciphered = self_encrypt(block).reveal()
        clear = enciphered if profile.selfenc == "replace" else clear + enciphered
    if profile.padding == "iso9797-2":
        clear = pad(clear)
    iv = profile.iv_bytes(counter)
    return encrypt(clear) if iv is None else _encrypt_cbc(iv, clear, encrypt)


def parse(
    block: bytes, card: CardData, counter: int, profile: PinBlockProfile, decrypt: TdesEcb
) -> Pin:
    """Recover the PIN of *block* with one call of *decrypt*.

    Raises:
        PinBlockError: for every way of being wrong; and always with ``selfenc: replace``,
            which goes one way.
    """
    if len(block) != profile.block_bytes or profile.selfenc == "replace":
        raise PinBlockError
    clear = decrypt(block)
    iv = profile.iv_bytes(counter)
    if iv is not None:
        clear = xor(clear, (iv + block)[: len(block)])
    pin_block, tail = PinBlock(clear[:PIN_BLOCK_BYTES]), clear[PIN_BLOCK_BYTES:]
    expected = self_encrypt(pin_block).reveal() if profile.selfenc == "append" else b""
    if profile.padding == "iso9797-2":
        expected += PADDING
    tail_ok = compare_digest(tail, expected)
    # The format is looked at in any case: what is wrong first must not show in time.
    pin = _decode(pin_block, card.pan, profile)
    if pin is None or not tail_ok:
        raise PinBlockError
    return pin


def self_encrypt(block: PinBlock) -> Secret[bytes]:
    """Encipher *block* with single DES under itself; it falls to a search over all PINs."""
    return Secret(tdes_encrypt_ecb(block, block.reveal()))


def _encode(pin: Pin, pan: Pan, profile: PinBlockProfile, random: Random) -> PinBlock:
    match profile.clear_format:
        case "iso0":
            return iso0.encode(pin, pan)
        case "iso1":
            return iso1.encode(pin, random)
        case "iso2":
            return iso2.encode(pin)
        case "iso3":
            return iso3.encode(pin, pan, random)


def _decode(block: PinBlock, pan: Pan, profile: PinBlockProfile) -> Pin | None:
    try:
        match profile.clear_format:
            case "iso0":
                return iso0.decode(block, pan)
            case "iso1":
                return iso1.decode(block)
            case "iso2":
                return iso2.decode(block)
            case "iso3":
                return iso3.decode(block, pan)
    except PinBlockError:
        return None


def _encrypt_cbc(iv: bytes, clear: bytes, encrypt: TdesEcb) -> bytes:
    chain = [iv]
    for start in range(0, len(clear), BLOCK_BYTES):
        chain.append(encrypt(xor(clear[start : start + BLOCK_BYTES], chain[-1])))
    return b"".join(chain[1:])
