"""Padding method 2: a bit 1, then zeros up to whole blocks; always at least one byte.

Source: ISO/IEC 9797-1:2011, 6.3.3; blocks are the 8 bytes of TDES::

    data 80 00 … 00
"""

from typing import Final

BLOCK_BYTES: Final = 8
MARKER: Final = b"\x80"


def pad(data: bytes) -> bytes:
    """Return *data* filled up to a multiple of 8 bytes."""
    marked = data + MARKER
    return marked + bytes(-len(marked) % BLOCK_BYTES)
