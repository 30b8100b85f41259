"""A chip card that takes a new PIN by script: keys by pyemv, ciphers by cryptography."""

import os
import warnings
from dataclasses import dataclass, field

import pyemv
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from hsm.port import ChipTransaction


class ScriptFailed(Exception):
    """The chip answers 69 88 or 69 84: the MAC, or what is in the command, is wrong."""


@dataclass
class Chip:
    """A card of a PAN and a PSN, made with the issuer's two master keys.

    *ccd* and *covers* are as ``scheme`` and ``mac_transaction`` of the manifest's scripts.
    """

    imk_smc: bytes = field(repr=False)
    imk_smi: bytes = field(repr=False)
    pan: str
    psn: int = 1
    option_b: bool = False
    ccd: bool = False
    covers: bool = True
    mac_bytes: int = 8
    pin: str = ""
    atc: int = 41

    def transact(self) -> ChipTransaction:
        """Begin a transaction: a new ATC, and an ARQC that nobody foresees."""
        self.atc += 1
        self._now = ChipTransaction(self.atc.to_bytes(2), os.urandom(8))
        return self._now

    def execute(self, command: bytes) -> None:
        """Take a command in the answer to the transaction that began last.

        Raises:
            ScriptFailed: it is none for this card in this transaction.
        """
        header, data = command[:5], command[5 : -self.mac_bytes]
        covered = self._now.atc + self._now.arqc if self.covers else b""
        mac = pyemv.sm.generate_command_mac(
            self._key(self.imk_smi), header + covered + data, self.mac_bytes
        )
        if header[:4] != b"\x84\x24\x00\x02" or header[4] != len(command) - 5:
            raise ScriptFailed
        if mac != command[-self.mac_bytes :]:
            raise ScriptFailed
        key = self._key(self.imk_smc)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decryptor = Cipher(TripleDES(key + key[:8]), modes.CBC(bytes(8))).decryptor()
        clear = decryptor.update(data) + decryptor.finalize()
        if self.ccd:
            if clear[8:] != b"\x80" + bytes(7):
                raise ScriptFailed
            clear = clear[:8]
        text = clear.hex()
        digits = int(text[1], 16)
        if len(clear) != 8 or text[0] != "2" or text[2 + digits :].strip("f"):
            raise ScriptFailed
        self.pin = text[2 : 2 + digits]

    def _key(self, master: bytes) -> bytes:
        derive = pyemv.kd.derive_icc_mk_b if self.option_b else pyemv.kd.derive_icc_mk_a
        card_key = derive(master, self.pan, f"{self.psn:02d}")
        return pyemv.kd.derive_common_sk(card_key, self._now.arqc)
