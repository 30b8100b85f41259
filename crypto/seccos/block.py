"""The enciphered PIN block of a SECCOS payload: 8, 16 or 24 bytes.

NOT PUBLIC: OUR DESIGN. Self-encryption is IBM CCA's SELFENC: "the 8-byte PIN block shall be
used as a DES key to encrypt the PIN block"::

    clear    PB  |  S = DES_PB( PB )  |  PB ‖ S        PB of ISO 9564-1 format 0, 1, 2 or 3
    padded   clear [ ‖ 80 00 00 00 00 00 00 00 ]
    block    TDES( padded ), ECB or CBC

CBC is made of ECB calls here, so that the key in the token needs one mechanism only.
"""

from hmac import compare_digest
from typing import Final

from crypto.errors import PinBlockError
from crypto.padding import TDES_BLOCK_BYTES, pad
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
    """Return the enciphered block of *pin*.

    Args:
        pin: the clear PIN.
        card: its PAN is bound into formats 0 and 3.
        counter: the change counter; it is the IV if the profile says so.
        profile: the layout and the mode.
        encrypt: TDES-ECB encryption under the key, or under the session key. It is called once
            in ECB mode, and once for each block in CBC mode.
        random: gives the fill of formats 1 and 3.
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
    """Return the PIN of an enciphered block.

    Args:
        block: 8, 16 or 24 bytes, as the profile says.
        card: as for :func:`build`.
        counter: as for :func:`build`.
        profile: as for :func:`build`.
        decrypt: TDES-ECB decryption under the same key; it is called once.

    Raises:
        PinBlockError: *block* has another length, or does not decode for this card, counter and
            key. Always with ``selfenc: replace``, which cannot be undone.
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
    # The block is decoded in any case, so that time does not tell what is wrong first.
    pin = _decode(pin_block, card.pan, profile)
    if pin is None or not tail_ok:
        raise PinBlockError
    return pin


def self_encrypt(block: PinBlock) -> Secret[bytes]:
    """Encipher *block* with single DES under itself; 8 bytes, as secret as the PIN.

    Whoever has the result finds the PIN by trying all PINs.

    >>> self_encrypt(PinBlock.from_hex("241234FFFFFFFFFF")).reveal().hex()
    '7eb3985f23229e91'
    """
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
    for start in range(0, len(clear), TDES_BLOCK_BYTES):
        chain.append(encrypt(xor(clear[start : start + TDES_BLOCK_BYTES], chain[-1])))
    return b"".join(chain[1:])
