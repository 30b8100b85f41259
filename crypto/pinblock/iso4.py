"""PIN block format 4: PIN and PAN bound between two AES encryptions; a block of 16 bytes.

Source: ISO 9564-1:2017, 9.4, format 4 (ANSI X9.24-3 gives examples). One character is one nibble,
and both fields are 16 bytes::

    PIN field   4 N P P P P f f f f f f f f A A   and 8 random bytes   f = digit or A
    PAN field   M A A A A A A A A A A A A 0 0 0 … 0                    M = PAN digits - 12
    block       AES( AES( PIN field ) XOR PAN field )

The PAN field holds the whole PAN with its check digit. A PAN of fewer than 12 digits gets zeros
on the left, and M = 0. What enciphers is CBC mode over both fields, of which the last block is the
result: one call of the HSM token in place of two.
"""

from collections.abc import Sequence
from typing import Final

from crypto.errors import PinBlockError
from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field, xor
from crypto.types import PIN_BLOCK_BYTES, AesCbc, BlockCipher, BlocksCipher, Pan, Pin, Random

BLOCK_BYTES: Final = 16
NO_IV: Final = bytes(BLOCK_BYTES)
PAN_DIGITS_SHORT: Final = 12
CONTROL: Final = PinBlockFormat.ISO4.value << 4
FILL: Final = "a" * FILL_NIBBLES_MAX


def encipher(pin: Pin, pan: Pan, random: Random, encrypt_cbc: AesCbc) -> bytes:
    """Return the enciphered block of *pin* for *pan*, 16 bytes.

    The example is from ANSI X9.24-3.

    >>> from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    >>> key = algorithms.AES(bytes.fromhex("AF8CB133A78F8DC2D1359F18527593FB"))
    >>> encrypt = lambda iv, data: Cipher(key, modes.CBC(iv)).encryptor().update(data)
    >>> fill = bytes.fromhex("2F69ADDE2E9E7ACE")
    >>> encipher(Pin("1234"), Pan("4111111111111111"), lambda size: fill, encrypt).hex()
    'a912150391ab65a67e52883d81ce2d15'

    Args:
        pin: the clear PIN.
        pan: the PAN to which the block is bound.
        random: is asked for 8 bytes.
        encrypt_cbc: AES-CBC encryption; it is called once, with 32 bytes and an IV of zeros.
    """
    field = pin_field(CONTROL, pin, FILL) + random(8)
    return encrypt_cbc(NO_IV, field + pan_field(pan))[BLOCK_BYTES:]


def decipher(block: bytes, pan: Pan, decrypt_block: BlockCipher) -> Pin:
    """Return the PIN of an enciphered block that was made for *pan*.

    With another PAN or another key, about 6 blocks in 10^8 decode to some PIN by chance.

    Args:
        block: 16 bytes.
        pan: the PAN to which the block is bound.
        decrypt_block: AES decryption of one block; it is called twice.

    Raises:
        PinBlockError: *block* is not 16 bytes, or not a format-4 block for *pan* under this key.
    """
    if len(block) != BLOCK_BYTES:
        raise PinBlockError
    field = decrypt_block(xor(decrypt_block(block), pan_field(pan)))
    return read_pin_field(field[:PIN_BLOCK_BYTES], CONTROL, FILL)


def encipher_all(
    pins: Sequence[Pin], pans: Sequence[Pan], random: Random, encrypt_blocks: BlocksCipher
) -> Sequence[bytes]:
    """Return the enciphered blocks of several PINs, as :func:`encipher` makes each.

    Args:
        pins: the clear PINs.
        pans: the PAN to which each block is bound.
        random: is asked for 8 bytes a PIN.
        encrypt_blocks: AES encryption of 16-byte blocks, each alone; it is called twice.
    """
    draws = random(8 * len(pins))
    fields = [
        pin_field(CONTROL, pin, FILL) + draws[8 * number : 8 * number + 8]
        for number, pin in enumerate(pins)
    ]
    pan_fields = b"".join(map(pan_field, pans))
    return _blocks(encrypt_blocks(xor(encrypt_blocks(b"".join(fields)), pan_fields)))


def decipher_all(
    blocks: Sequence[bytes], pans: Sequence[Pan], decrypt_blocks: BlocksCipher
) -> Sequence[Pin | None]:
    """Return the PINs of several enciphered blocks; None of one that is not for its PAN.

    Args:
        blocks: 16 bytes each.
        pans: the PAN to which each is bound.
        decrypt_blocks: AES decryption of 16-byte blocks, each alone; it is called twice.

    Raises:
        PinBlockError: a block is not 16 bytes.
    """
    if any(len(block) != BLOCK_BYTES for block in blocks):
        raise PinBlockError
    pan_fields = b"".join(map(pan_field, pans))
    fields = decrypt_blocks(xor(decrypt_blocks(b"".join(blocks)), pan_fields))
    return [_pin(field) for field in _blocks(fields)]


def _blocks(joined: bytes) -> Sequence[bytes]:
    return [joined[start : start + BLOCK_BYTES] for start in range(0, len(joined), BLOCK_BYTES)]


def _pin(field: bytes) -> Pin | None:
    try:
        return read_pin_field(field[:PIN_BLOCK_BYTES], CONTROL, FILL)
    except PinBlockError:
        return None


def pan_field(pan: Pan) -> bytes:
    """Return the PAN field of format 4, 16 clear bytes.

    >>> pan_field(Pan("4111111111111111")).hex()
    '44111111111111111000000000000000'
    """
    digits = pan.reveal().rjust(PAN_DIGITS_SHORT, "0")
    nibbles = f"{len(digits) - PAN_DIGITS_SHORT:X}{digits}"
    return bytes.fromhex(nibbles.ljust(2 * BLOCK_BYTES, "0"))
