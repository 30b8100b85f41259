"""PIN blocks a second, beside psec, the other implementation of ISO 9564-1 in Python.

psec takes text and bytes and returns them. Ours is measured twice: *typed* as the vault calls it,
which has read PIN and PAN already, gets a block as bytes and keeps the PIN hidden; and from *text*
as psec, with each value parsed into its type and the result revealed within the loop. psec has no
format 1. Format 4 is two AES blocks on each side, both through ``cryptography``; a cipher is made
for each block, as psec does.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

import psec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from benchmarks.measure import heading, machine, rate
from crypto.pinblock import iso0, iso1, iso2, iso3, iso4
from crypto.types import Pan, Pin, PinBlock

PIN: Final = "4821"
PAN: Final = "4761739001010119"
KEY: Final = bytes(range(16))
TYPED: Final = "typed"
TEXT: Final = "text"
PSEC: Final = "psec"
ROUNDS: Final = 250
ROUND_SECONDS: Final = 0.002

theirs = psec.pinblock
Operation = Callable[[], object]


def encrypt_cbc(iv: bytes, data: bytes) -> bytes:
    encryptor = Cipher(AES(KEY), CBC(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def decrypt_block(block: bytes) -> bytes:
    decryptor = Cipher(AES(KEY), ECB()).decryptor()
    return decryptor.update(block) + decryptor.finalize()


def best(ways: Mapping[str, Operation]) -> dict[str, float]:
    """Run each operation for a while, in turns; return the most a second of any round.

    Not the median: nothing here waits, so a round that takes longer was disturbed. A round is
    shorter than a scheduler's time slice, so that some are not, even on a busy machine.
    """
    rates = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, operation in ways.items():
            rates[name] = max(rates[name], rate(operation, ROUND_SECONDS))
    return rates


def operations() -> Mapping[str, Mapping[str, Operation]]:
    """Pair both ways to call each operation of ours with psec's."""
    pin, pan = Pin(PIN), Pan(PAN)
    block0 = theirs.encode_pinblock_iso_0(PIN, PAN)
    block1 = bytes.fromhex("144821" + "0123456789")
    block2 = theirs.encode_pinblock_iso_2(PIN)
    block3 = theirs.encode_pinblock_iso_3(PIN, PAN)
    block4 = theirs.encipher_pinblock_iso_4(KEY, PIN, PAN)
    return {
        "format 0, encode": {
            TYPED: lambda: iso0.encode(pin, pan).reveal(),
            TEXT: lambda: iso0.encode(Pin(PIN), Pan(PAN)).reveal(),
            PSEC: lambda: theirs.encode_pinblock_iso_0(PIN, PAN),
        },
        "format 0, decode": {
            TYPED: lambda: iso0.decode(PinBlock(block0), pan),
            TEXT: lambda: iso0.decode(PinBlock(block0), Pan(PAN)).reveal(),
            PSEC: lambda: theirs.decode_pinblock_iso_0(block0, PAN),
        },
        "format 1, encode": {
            TYPED: lambda: iso1.encode(pin, os.urandom).reveal(),
            TEXT: lambda: iso1.encode(Pin(PIN), os.urandom).reveal(),
        },
        "format 1, decode": {
            TYPED: lambda: iso1.decode(PinBlock(block1)),
            TEXT: lambda: iso1.decode(PinBlock(block1)).reveal(),
        },
        "format 2, encode": {
            TYPED: lambda: iso2.encode(pin).reveal(),
            TEXT: lambda: iso2.encode(Pin(PIN)).reveal(),
            PSEC: lambda: theirs.encode_pinblock_iso_2(PIN),
        },
        "format 2, decode": {
            TYPED: lambda: iso2.decode(PinBlock(block2)),
            TEXT: lambda: iso2.decode(PinBlock(block2)).reveal(),
            PSEC: lambda: theirs.decode_pinblock_iso_2(block2),
        },
        "format 3, encode": {
            TYPED: lambda: iso3.encode(pin, pan, os.urandom).reveal(),
            TEXT: lambda: iso3.encode(Pin(PIN), Pan(PAN), os.urandom).reveal(),
            PSEC: lambda: theirs.encode_pinblock_iso_3(PIN, PAN),
        },
        "format 3, decode": {
            TYPED: lambda: iso3.decode(PinBlock(block3), pan),
            TEXT: lambda: iso3.decode(PinBlock(block3), Pan(PAN)).reveal(),
            PSEC: lambda: theirs.decode_pinblock_iso_3(block3, PAN),
        },
        "format 4, encipher": {
            TYPED: lambda: iso4.encipher(pin, pan, os.urandom, encrypt_cbc),
            TEXT: lambda: iso4.encipher(Pin(PIN), Pan(PAN), os.urandom, encrypt_cbc),
            PSEC: lambda: theirs.encipher_pinblock_iso_4(KEY, PIN, PAN),
        },
        "format 4, decipher": {
            TYPED: lambda: iso4.decipher(block4, pan, decrypt_block),
            TEXT: lambda: iso4.decipher(block4, Pan(PAN), decrypt_block).reveal(),
            PSEC: lambda: theirs.decipher_pinblock_iso_4(KEY, block4, PAN),
        },
    }


def main() -> int:
    """Measure and print."""
    heading(f"PIN blocks · {machine()}")
    columns = f"{TYPED:>9}{TEXT:>9}{PSEC:>9}{'typed/psec':>12}{'text/psec':>11}"
    print(f"{'operations a second, one core':<30}{columns}")
    for name, ways in operations().items():
        rates = best(ways)
        line = f"{name:<30}{rates[TYPED]:>9.0f}{rates[TEXT]:>9.0f}"
        if PSEC in rates:
            typed, text = rates[TYPED] / rates[PSEC], rates[TEXT] / rates[PSEC]
            line += f"{rates[PSEC]:>9.0f}{typed:>12.2f}{text:>11.2f}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
