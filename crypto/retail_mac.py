"""The retail MAC: single DES along the chain, TDES at its end; 8 bytes.

Source: ISO/IEC 9797-1:2011, MAC algorithm 3 with padding method 2 (EMV 4.3, Book 2, A1.2.1)::

    H0 = 0,  Hi = E_K1( Bi XOR Hi-1 )        for every block but the last
    MAC = E_K1( D_K2( E_K1( Bn XOR Hn-1 ) ) )

A token has no mechanism for it. It has TDES in CBC mode, and single DES is TDES
under K1‖K1, so two keys make the MAC: the left one runs along the chain, the
full one K1‖K2 takes the last block with the chain's end as its IV.
"""

from crypto.padding import BLOCK_BYTES, pad
from crypto.types import TdesCbc


def compute(message: bytes, left: TdesCbc, full: TdesCbc) -> bytes:
    """Return the 8-byte MAC of *message*.

    Args:
        message: any number of bytes.
        left: CBC encryption under K1‖K1; not called if one block is all there is.
        full: CBC encryption under K1‖K2.
    """
    return over_blocks(pad(message), left, full)


def over_blocks(blocks: bytes, left: TdesCbc, full: TdesCbc) -> bytes:
    """Return the MAC of one or more whole *blocks*, padded already by whatever method."""
    chain, last = blocks[:-BLOCK_BYTES], blocks[-BLOCK_BYTES:]
    iv = bytes(BLOCK_BYTES)
    if chain:
        iv = left(iv, chain)[-BLOCK_BYTES:]
    return full(iv, last)
