"""The personalisation bureau: reads batches with its own keys, and nothing of ours."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psec
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC


@dataclass(frozen=True)
class Batch:
    """A batch whose MAC is right."""

    head: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Bureau:
    """What the bureau has: its keys, and the PANs of the cards, by card id."""

    pin_key: bytes
    mac_key: bytes
    pans: Mapping[str, str]

    def read_file(self, text: str) -> Sequence[Batch]:
        """Read all parts of a file; they are there, in order, and the last one ends it."""
        batches, start = [], 0
        for line_end in (at for at, char in enumerate(text) if char == "\n"):
            line_start = text.rfind("\n", 0, line_end) + 1
            if text.startswith('{"count":', line_start):
                batches.append(self.read(text[start : line_end + 1]))
                start = line_end + 1
        assert start == len(text)
        assert [batch.head["part"] for batch in batches] == [*range(1, len(batches) + 1)]
        assert len({batch.head["file"] for batch in batches}) == 1
        assert [batch.head["last"] for batch in batches][-1:] == [True]
        assert not any(batch.head["last"] for batch in batches[:-1])
        return batches

    def read(self, text: str) -> Batch:
        """Check a batch: its MAC first."""
        covered, found, mac = text.rpartition(',"mac":')
        assert found
        head, *lines, end = (json.loads(line) for line in text.splitlines())
        assert self.mac(covered.encode("ascii"), head["macAlgorithm"]) == json.loads(mac[:-2])
        assert end["count"] == len(lines)
        return Batch(head, lines)

    def mac(self, data: bytes, algorithm: str) -> str:
        if algorithm == "iso9797-alg3":
            return (
                psec.mac.generate_retail_mac(self.mac_key[:8], self.mac_key[8:], data, padding=2)
                .hex()
                .upper()
            )
        cmac = CMAC(algorithms.AES(self.mac_key))
        cmac.update(data)
        return cmac.finalize().hex().upper()

    def pin(self, head: Mapping[str, Any], line: Mapping[str, Any]) -> str:
        """Open the block of a line."""
        pan, block = self.pans[line["cardId"]], bytes.fromhex(line["block"])
        assert pan[-4:] == line["lastFour"]
        if head["block"] == "ISO-4":
            return psec.pinblock.decipher_pinblock_iso_4(self.pin_key, block, pan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clear = psec.des.decrypt_tdes_ecb(self.pin_key, block)
        return psec.pinblock.decode_pinblock_iso_0(clear, pan)

    def pins(self, text: str) -> dict[str, str]:
        """Open all PINs of a file, by card id."""
        return {
            line["cardId"]: self.pin(batch.head, line)
            for batch in self.read_file(text)
            for line in batch.lines
        }
