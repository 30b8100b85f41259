"""How the pixels of a PIN image are compressed: each literal and each repetition in one byte.

In RFC 1951 a code has 1 to 15 bits, so two compressed pieces cannot be put side by side without
shifting one. The code here gives 8 bits to a literal, and 8 to a repetition of the byte before: the
code of its length, the extra bits, and one bit for the distance. What encodes two pieces, put side
by side, is then what encodes both: an image is made of prepared pieces, without compressing.

A stream is the zlib header (RFC 1950), one block with a code of its own (RFC 1951, 3.2.7), empty
blocks up to the wanted size, an empty last block and the Adler-32 of the data.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from crypto.pin_image_strokes import INK

STEPS_OF_EDGE: Final = 3
"""Pixels 0 to 2 are steps of the edge, 3 is the background; 3 + INK is the text."""

# Two pixels. Ink is nowhere near the edge.
_EDGE_PAIRS: Final = {
    16 * a + b for a in range(STEPS_OF_EDGE + 1) for b in range(STEPS_OF_EDGE + 1)
}
_INK_PAIRS: Final = {
    16 * (STEPS_OF_EDGE + a) + STEPS_OF_EDGE + b for a in range(INK + 1) for b in range(INK + 1)
}
_PAIRS: Final = sorted(_EDGE_PAIRS | _INK_PAIRS)
# A code must leave no bits unused; five more literals complete this one.
_LITERALS: Final = {*_PAIRS, *[byte for byte in range(256) if byte not in _PAIRS][:5]}

# (value, bits of its code, extra bits, shortest length): of the table of RFC 1951, 3.2.5, the
# lengths for which there is room in the code.
_LENGTHS: Final = (
    *((257 + step, 7, 0, 3 + step) for step in range(8)),
    *((265 + step, 6, 1, 11 + 2 * step) for step in range(4)),
    *((269 + step, 5, 2, 19 + 4 * step) for step in range(4)),
    (285, 7, 0, 258),
)

_END_OF_BLOCK: Final = 256
_CODE_BITS: Final = {
    **dict.fromkeys(_LITERALS, 8),
    _END_OF_BLOCK: 8,
    **{value: bits for value, bits, _, _ in _LENGTHS},
}
# Distance 2 is never used, and completes the code for decoders that want that.
_DISTANCE_BITS: Final = (1, 1)

# How the header writes the bits of a code (RFC 1951, 3.2.7): these lengths make the header end at
# a byte.
_BITS_BITS: Final = {0: 1, 8: 2, 7: 3, 1: 4, 5: 5, 6: 5}
_BITS_ORDER: Final = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)

# Empty blocks that end at a byte: a stored one, and one of the fixed code before such a one.
_FIVE_BYTES: Final = b"\0\0\0\xff\xff"
_SIX_BYTES: Final = b"\2\0\0\0\xff\xff"
_LAST_BLOCK: Final = b"\3\0"


def _codes(bits_of: dict[int, int]) -> dict[int, int]:
    """Return the code of each value (RFC 1951, 3.2.2), its bits in the order of the stream."""
    codes, code, bits_before = {}, 0, 0
    for bits, value in sorted((bits, value) for value, bits in bits_of.items()):
        code <<= bits - bits_before
        codes[value] = int(f"{code:0{bits}b}"[::-1], 2)
        code, bits_before = code + 1, bits
    return codes


def _block_header() -> Iterator[tuple[int, int]]:
    """Yield the numbers of the header of a block with a code of its own, each with its bits."""
    values = max(_CODE_BITS) + 1
    yield 0, 1
    yield 2, 2
    yield values - 257, 5
    yield len(_DISTANCE_BITS) - 1, 5
    yield len(_BITS_ORDER) - 4, 4
    for bits in _BITS_ORDER:
        yield _BITS_BITS.get(bits, 0), 3
    codes = _codes(_BITS_BITS)
    for bits in (*(_CODE_BITS.get(value, 0) for value in range(values)), *_DISTANCE_BITS):
        yield codes[bits], _BITS_BITS[bits]


def _packed(numbers: Iterator[tuple[int, int]]) -> bytes:
    packed, size = 0, 0
    for number, bits in numbers:
        packed |= number << size
        size += bits
    return packed.to_bytes(size // 8, "little")


_CODES: Final = _codes(_CODE_BITS)
_START: Final = b"\x78\x01" + _packed(_block_header())
_END: Final = bytes([_CODES[_END_OF_BLOCK]])
_LITERAL: Final = bytes(_CODES.get(byte, 0) for byte in range(256))
_REPEATED: Final = {
    shortest + extra: bytes([_CODES[value] | extra << bits])
    for value, bits, extra_bits, shortest in _LENGTHS
    for extra in range(1 << extra_bits)
}
_LENGTHS_DOWN: Final = sorted(_REPEATED, reverse=True)
_RUN: Final = re.compile(rb"(.)\1{3,}", re.DOTALL)


def encode(data: bytes) -> bytes:
    """Return *data* as literals and repetitions.

    >>> len(encode(bytes(1 + 2 * 258 + 34)))
    4

    Args:
        data: of an image's rows; a byte is two pixels, or a filter type 0.
    """
    return _RUN.sub(lambda run: _run(run[1], len(run[0])), data.translate(_LITERAL))


@cache
def _run(literal: bytes, size: int) -> bytes:
    encoded, left = literal, size - 1
    for length in _LENGTHS_DOWN:
        encoded += _REPEATED[length] * (left // length)
        left %= length
    return encoded + literal * left


def write_stream(encoded: bytes, adler: int, size: int | None = None) -> bytes:
    """Return a zlib stream.

    Args:
        encoded: all of the data, as :func:`encode` returns it.
        adler: the Adler-32 of the data.
        size: the length of the stream in bytes; None: without empty blocks.

    Raises:
        ValueError: the stream is longer than *size*, or shorter by too little for empty blocks.
    """
    body = b"".join([_START, encoded, _END])
    end = _LAST_BLOCK + adler.to_bytes(4, "big")
    if size is None:
        return body + end
    missing = size - len(body) - len(end)
    sixes = missing % len(_FIVE_BYTES)
    fives = (missing - sixes * len(_SIX_BYTES)) // len(_FIVE_BYTES)
    if fives < 0:
        raise ValueError("no room for the image")
    return b"".join([body, _SIX_BYTES * sixes, _FIVE_BYTES * fives, end])
