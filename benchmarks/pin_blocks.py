"""PIN blocks a second, beside psec, the other implementation of ISO 9564-1 in Python.

Both sides start from text or bytes and end with them, as a caller has them: on our side the
values are parsed into their types, and a decoder gives a PIN that hides itself. psec has no
format 1. Format 4 is two AES blocks on each side, both through ``cryptography``; a cipher is
made for each block, as psec does.
"""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import psec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from benchmarks.measure import heading, interleaved, machine
from crypto.pinblock import iso0, iso1, iso2, iso3, iso4
from crypto.types import Pan, Pin, PinBlock

PIN: Final = "4821"
PAN: Final = "4761739001010119"
KEY: Final = bytes(range(16))
OURS: Final = "ours"
PSEC: Final = "psec"

theirs = psec.pinblock
Operation = Callable[[], object]


def encrypt_block(block: bytes) -> bytes:
    encryptor = Cipher(AES(KEY), ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def decrypt_block(block: bytes) -> bytes:
    decryptor = Cipher(AES(KEY), ECB()).decryptor()
    return decryptor.update(block) + decryptor.finalize()


def operations() -> Mapping[str, Mapping[str, Operation]]:
    """Pair each operation of ours with psec's."""
    block0 = theirs.encode_pinblock_iso_0(PIN, PAN)
    block1 = bytes.fromhex("144821" + "0123456789")
    block2 = theirs.encode_pinblock_iso_2(PIN)
    block3 = theirs.encode_pinblock_iso_3(PIN, PAN)
    block4 = theirs.encipher_pinblock_iso_4(KEY, PIN, PAN)
    return {
        "format 0, encode": {
            OURS: lambda: iso0.encode(Pin(PIN), Pan(PAN)),
            PSEC: partial(theirs.encode_pinblock_iso_0, PIN, PAN),
        },
        "format 0, decode": {
            OURS: lambda: iso0.decode(PinBlock(block0), Pan(PAN)),
            PSEC: partial(theirs.decode_pinblock_iso_0, block0, PAN),
        },
        "format 1, encode": {OURS: lambda: iso1.encode(Pin(PIN), os.urandom)},
        "format 1, decode": {OURS: lambda: iso1.decode(PinBlock(block1))},
        "format 2, encode": {
            OURS: lambda: iso2.encode(Pin(PIN)),
            PSEC: partial(theirs.encode_pinblock_iso_2, PIN),
        },
        "format 2, decode": {
            OURS: lambda: iso2.decode(PinBlock(block2)),
            PSEC: partial(theirs.decode_pinblock_iso_2, block2),
        },
        "format 3, encode": {
            OURS: lambda: iso3.encode(Pin(PIN), Pan(PAN), os.urandom),
            PSEC: partial(theirs.encode_pinblock_iso_3, PIN, PAN),
        },
        "format 3, decode": {
            OURS: lambda: iso3.decode(PinBlock(block3), Pan(PAN)),
            PSEC: partial(theirs.decode_pinblock_iso_3, block3, PAN),
        },
        "format 4, encipher": {
            OURS: lambda: iso4.encipher(Pin(PIN), Pan(PAN), os.urandom, encrypt_block),
            PSEC: partial(theirs.encipher_pinblock_iso_4, KEY, PIN, PAN),
        },
        "format 4, decipher": {
            OURS: lambda: iso4.decipher(block4, Pan(PAN), decrypt_block),
            PSEC: partial(theirs.decipher_pinblock_iso_4, KEY, block4, PAN),
        },
    }


def main() -> int:
    """Measure and print."""
    heading(f"PIN blocks · {machine()}")
    print(f"{'operations a second, one core':<32}{OURS:>10}{PSEC:>10}{'ours/psec':>12}")
    for name, pair in operations().items():
        rates = interleaved(pair)
        line = f"{name:<32}{rates[OURS]:>10.0f}"
        if PSEC in rates:
            line += f"{rates[PSEC]:>10.0f}{rates[OURS] / rates[PSEC]:>12.2f}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
