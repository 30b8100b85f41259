"""The retail MAC: single DES along the chain, TDES at its end; 8 bytes.

Source: ISO/IEC 9797-1:2011, MAC algorithm 3 with padding method 2 (EMV 4.3, Book 2, A1.2.1)::

    H0 = 0,  Hi = E_K1( Bi XOR Hi-1 )        for every block but the last
    MAC = E_K1( D_K2( E_K1( Bn XOR Hn-1 ) ) )

A token has no mechanism for this MAC, but it has TDES in CBC mode, and single DES is TDES under
K1‖K1. So two keys make the MAC: the left key K1‖K1 enciphers all blocks but the last, and the full
key K1‖K2 enciphers the last block, with the end of that chain as its IV.
"""

from crypto.padding import TDES_BLOCK_BYTES, pad
from crypto.types import TdesCbc


def compute(message: bytes, left: TdesCbc, full: TdesCbc) -> bytes:
    """Return the MAC of *message*, 8 bytes.

    >>> from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    >>> from cryptography.hazmat.primitives.ciphers import Cipher, modes
    >>> k1, k2 = bytes.fromhex("0123456789ABCDEF"), bytes.fromhex("FEDCBA9876543210")
    >>> def cbc(key):
    ...     return lambda iv, data: Cipher(TripleDES(key), modes.CBC(iv)).encryptor().update(data)
    >>> compute(bytes.fromhex("8424000008"), left=cbc(k1 + k1 + k1), full=cbc(k1 + k2 + k1)).hex()
    '0bfff5df3faa24e1'

    Args:
        message: any number of bytes; it is padded here.
        left: CBC encryption under K1‖K1; not called if the padded message is one block.
        full: CBC encryption under K1‖K2.
    """
    return over_blocks(pad(message), left, full)


def over_blocks(blocks: bytes, left: TdesCbc, full: TdesCbc) -> bytes:
    """Return the MAC, 8 bytes, of a message that is padded already.

    Args:
        blocks: one or more blocks of 8 bytes; the padding method is the caller's.
        left: as for :func:`compute`.
        full: as for :func:`compute`.
    """
    chain, last = blocks[:-TDES_BLOCK_BYTES], blocks[-TDES_BLOCK_BYTES:]
    iv = bytes(TDES_BLOCK_BYTES)
    if chain:
        iv = left(iv, chain)[-TDES_BLOCK_BYTES:]
    return full(iv, last)
