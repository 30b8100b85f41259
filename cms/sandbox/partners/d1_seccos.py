"""D1's side of "PIN 3DES Seccos": what goes into the JWE in place of an ISO-0 block.

NOT PUBLIC: a profile of this project, and of that only the default layout. Lengths and counter
in 2 bytes, big-endian::

    block   24 12 34 FF FF FF FF FF, ISO 9564-1 format 2, TDES-ECB under a session key
    PRW     AES-CMAC over 50 52 57 31 ‖ length ‖ PAN ‖ length ‖ PSN, 2 bytes
            ‖ length ‖ expiry YYMM ‖ counter ‖ 04 12 34 FF FF FF FF FF ‖ random, 4 bytes
    MAC     ISO 9797-1 algorithm 3, padding method 2, over 84 24 00 02 10 ‖ counter ‖ block,
            under a session key

Session keys are EMV's: card key by option A from PAN and PSN (EMV 4.3, Book 2, A1.4.1), common
session key (A1.3.1) with R = counter ‖ 00 00 00 00 00 00. What D1 shares are the master keys.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

from cms.sandbox.partners.pin_blocks import pin_field

SCRIPT_COMMAND: Final = "8424000210"
PRW_TAG: Final = b"PRW1"
BLOCK_BYTES: Final = 8
RANDOM_BYTES: Final = 4
#: Where the profile lists names of a member, the first of them is used.
MEMBERS: Final = ("pin_block", "prw", "prw_random", "mac", "counter")
#: What a profile must say for this client to take its part.
LAYOUT: Final[Mapping[str, Mapping[str, object]]] = {
    "pin_block": {
        "clear_format": "iso2",
        "selfenc": "none",
        "cipher": "tdes-ecb",
        "padding": "none",
        "session_key": "emv_csk",
    },
    "prw": {
        "alg": "aes-cmac",
        "encoding": "lv",
        "pan": "full",
        "cdp": "{psn:u16}",
        "cdt": "{expiry:yymm}",
        "counter_binding": "cdt_suffix",
        "random": "payload",
    },
    "mac": {
        "alg": "iso9797-alg3-pad2",
        "length": 8,
        "input": [f"hex:{SCRIPT_COMMAND}", "counter:u16be", "pinBlock"],
        "session_key": "emv_csk",
    },
    "counter": {"width": 2, "rule": "current"},
}


class LayoutError(Exception):
    """The issuer's profile asks for another layout than the default one."""


@dataclass(frozen=True)
class Card:
    """A card as D1 knows it."""

    pan: str
    psn: int
    expiry: str
    """YYMM."""


@dataclass(frozen=True, repr=False)
class Keys:
    """What D1 shares with the issuer: TDES, AES-256 and TDES keys of 16, 32 and 16 bytes.

    Those of TDES are master keys.
    """

    pin_block: bytes
    prw: bytes
    mac: bytes

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read ``{"pinBlock", "prw", "mac"}``, each hexadecimal."""
        content = json.loads(file.read_text())
        return cls(*(bytes.fromhex(content[name]) for name in ("pinBlock", "prw", "mac")))


@dataclass(frozen=True)
class Seccos:
    """D1's side for one card."""

    issuer_id: str
    card_id: str
    card: Card
    keys: Keys
    type_literal: str
    """What PUT pin calls it."""
    names: Mapping[str, str]
    """What each member of the payload is called."""

    def payload(self, pin: str, counter: int, random: bytes | None = None) -> dict[str, object]:
        """Return the members that the JWE holds.

        Raises:
            ValueError: *pin* is not 4 to 12 digits.
        """
        if random is None:
            random = secrets.token_bytes(RANDOM_BYTES)
        block = pin_block(pin, session_key(self.keys.pin_block, self.card, counter))
        mac_key = session_key(self.keys.mac, self.card, counter)
        return {
            self.names["pin_block"]: _hex(block),
            self.names["prw"]: _hex(prw(pin, self.card, counter, random, self.keys.prw)),
            self.names["prw_random"]: _hex(random),
            self.names["mac"]: _hex(mac(block, counter, mac_key)),
            self.names["counter"]: counter,
        }


def load(sandbox: Path) -> Seccos:
    """Read the SECCOS part of *sandbox*; its paths start at the repository's root.

    Raises:
        LayoutError: this client does not know the profile in it.
    """
    content: dict[str, Any] = json.loads(sandbox.read_text())["seccos"]
    if others := ", ".join(_others(content["profile"])):
        raise LayoutError(f"this client knows the default SECCOS layout only; different: {others}")
    return Seccos(
        issuer_id=content["issuerId"],
        card_id=content["cardId"],
        card=Card(content["pan"], content["psn"], content["expiry"]),
        keys=Keys.load(sandbox.absolute().parent.parent / content["keysFile"]),
        type_literal=content["type"],
        names={member: content["profile"]["payload"][member][0] for member in MEMBERS},
    )


def session_key(master: bytes, card: Card, counter: int) -> bytes:
    """Return the key of a card for one change, 16 bytes."""
    y = f"{card.pan}{card.psn:02d}"[-16:].rjust(16, "0")
    card_key = _ecb(master, bytes.fromhex(y) + bytes(byte ^ 0xFF for byte in bytes.fromhex(y)))
    r = [counter.to_bytes(2) + mark + bytes(5) for mark in (b"\xf0", b"\x0f")]
    return _ecb(card_key, b"".join(r))


def pin_block(pin: str, key: bytes) -> bytes:
    """Return the format-2 block of *pin*, enciphered.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    return _ecb(key, bytes.fromhex(pin_field(2, pin)))


def prw(pin: str, card: Card, counter: int, random: bytes, key: bytes) -> bytes:
    """Return the PIN reference value (PRW), 16 bytes.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    parts = (
        card.pan.encode("ascii"),
        card.psn.to_bytes(2),
        bytes.fromhex(card.expiry) + counter.to_bytes(2),
    )
    prefixed = b"".join(len(part).to_bytes(2) + part for part in parts)
    cmac = CMAC(AES(key))
    cmac.update(PRW_TAG + prefixed + bytes.fromhex(pin_field(0, pin)) + random)
    return cmac.finalize()


def mac(block: bytes, counter: int, key: bytes) -> bytes:
    """Return the MAC over an enciphered block, 8 bytes."""
    message = bytes.fromhex(SCRIPT_COMMAND) + counter.to_bytes(2) + block + b"\x80"
    message += bytes(-len(message) % BLOCK_BYTES)
    left, right = key[:BLOCK_BYTES], key[BLOCK_BYTES:]
    chain = _update(Cipher(_tdes(left), CBC(bytes(BLOCK_BYTES))).encryptor(), message)
    turned = _update(Cipher(_tdes(right), ECB()).decryptor(), chain[-BLOCK_BYTES:])  # noqa: S305 - one block
    return _ecb(left, turned)


def _others(profile: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for section, members in LAYOUT.items():
        for member, value in members.items():
            if profile[section][member] != value:
                yield f"{section}.{member}"


def _ecb(key: bytes, blocks: bytes) -> bytes:
    return _update(Cipher(_tdes(key), ECB()).encryptor(), blocks)  # noqa: S305 - what SECCOS uses


def _tdes(key: bytes) -> TripleDES:
    # The library wants K1, K2, K1 spelled out; single DES is K1 three times.
    return TripleDES((key * 3)[:24])


def _update(context: CipherContext, data: bytes) -> bytes:
    return context.update(data) + context.finalize()


def _hex(value: bytes) -> str:
    return value.hex().upper()
