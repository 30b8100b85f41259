"""Padding method 2: a bit 1, then zeros up to whole blocks; always at least one byte.

Source: ISO/IEC 9797-1:2011, 6.3.3; blocks are the 8 bytes of TDES::

    data 80 00 … 00
"""

from typing import Final

TDES_BLOCK_BYTES: Final = 8
MARKER: Final = b"\x80"


def pad(data: bytes) -> bytes:
    """Return *data* with padding: a multiple of 8 bytes, longer than *data* by 1 to 8.

    >>> pad(bytes.fromhex("112233")).hex()
    '1122338000000000'
    >>> pad(bytes(8)).hex()
    '00000000000000008000000000000000'
    """
    marked = data + MARKER
    return marked + bytes(-len(marked) % TDES_BLOCK_BYTES)
