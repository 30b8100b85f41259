"""D1's side of SECCOS, written from the text of the design and not from our code.

It works on hexadecimal text, with psec's retail MAC and pyemv's derivations, so that a mistake of
ours is not made twice. pyemv needs ``takes_tdes_the_old_way``.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import psec
import pyemv
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from crypto.seccos.profile import MacProfile, PinBlockProfile, SeccosProfile
from crypto.types import Random
from tests.crypto.ciphers import aes_cmac, tdes_cmac, triple


@dataclass(frozen=True)
class SharedKeys:
    """What D1 and the issuer share: keys for the block, the PRW and the MAC."""

    spe: bytes
    prw: bytes
    mac: bytes


@dataclass(frozen=True)
class Card:
    """A card as D1 knows it."""

    pan: str
    psn: int
    expiry: str


@dataclass(frozen=True)
class Writer:
    """Writes payloads for one card and one counter."""

    profile: SeccosProfile
    keys: SharedKeys
    card: Card
    counter: int
    random: Random

    def payload(self, pin: str, *, with_counter: bool = True) -> dict[str, object]:
        prw_profile, names = self.profile.prw, self.profile.payload
        random = self.random_hex()
        block = self.block(pin)
        prw = self.prw(pin, random) if prw_profile.random != "issuer" else ""
        members: dict[str, object] = {
            names.pin_block[-1]: block,
            names.mac[0]: self.mac(block, prw, random),
        }
        if prw_profile.random != "issuer":
            members[names.prw[1]] = prw
            if random:
                members[names.prw_random[0]] = random
        if with_counter or not self.profile.mac_binds_counter:
            members[names.counter[0]] = self.counter
        return members

    def random_hex(self) -> str:
        if self.profile.prw.counter_binding == "replace_random":
            return f"{self.counter:08X}"
        return "" if self.profile.prw.random == "none" else self.random(4).hex().upper()

    def block(self, pin: str) -> str:
        profile = self.profile.pin_block
        clear = self.clear_block(pin, profile)
        if profile.selfenc != "none":
            itself = Cipher(TripleDES(clear * 3), ECB()).encryptor().update(clear)
            clear = itself if profile.selfenc == "replace" else clear + itself
        if profile.padding == "iso9797-2":
            clear += bytes.fromhex("8000000000000000")
        key = TripleDES(triple(self.session(self.keys.spe, profile.session_key)))
        if profile.cipher == "tdes-ecb":
            return Cipher(key, ECB()).encryptor().update(clear).hex()
        iv = f"{self.counter:016X}" if profile.iv == "counter" else profile.iv
        return Cipher(key, CBC(bytes.fromhex(iv))).encryptor().update(clear).hex()

    def clear_block(self, pin: str, profile: PinBlockProfile) -> bytes:
        control = profile.clear_format[-1]
        fill = {
            "0": "F" * 10,
            "1": self.random(5).hex(),
            "2": "F" * 10,
            "3": "".join("ABCDEF"[byte % 6] for byte in self.random(10)),
        }[control]
        field = int(f"{control}{len(pin):X}{pin}{fill}"[:16], 16)
        pan = int(self.card.pan[-13:-1]) if control in "03" else 0
        return (field ^ int(f"{pan:012d}", 16)).to_bytes(8)

    def prw(self, pin: str, random: str) -> str:
        profile = self.profile.prw
        field = f"0{len(pin):X}{pin}".ljust(16, "F")
        if profile.encoding == "lv":
            cards = [self.part(name) for name in ("pan", "cdp", "cdt")]
            message = "50525731" + "".join(f"{len(part) // 2:04X}{part}" for part in cards)
            message += field + random
        else:
            ibm = ("pan", "cdp", "cdt", "length", "pin", "random")
            order = ibm if profile.encoding == "ibm-literal" else profile.template
            own = {
                "length": f"{len(pin):02X}",
                "pin": pin.encode().hex(),
                "pinField": field,
                "random": random,
            }
            message = self.join(order, own)
        return self.tag(profile.alg, self.keys.prw, message).hex()

    def mac(self, block: str, prw: str, random: str) -> str:
        profile: MacProfile = self.profile.mac
        key = self.session(self.keys.mac, profile.session_key)
        own = {"pinBlock": block, "prw": prw, "random": random}
        return self.tag(profile.alg, key, self.join(profile.input, own))[: profile.length].hex()

    def join(self, order: Iterable[str], own: dict[str, str]) -> str:
        return "".join(own[name] if name in own else self.part(name) for name in order)

    def part(self, name: str) -> str:
        prw, card = self.profile.prw, self.card
        if name.startswith("hex:"):
            return name[4:]
        if name == "pan":
            pan = card.pan if prw.pan == "full" else f"{int(card.pan[-13:-1]):012d}"
            return pan.encode().hex()
        if name == "cdp":
            return self.card_data(prw.cdp)
        if name == "cdt":
            bound = prw.counter_binding == "cdt_suffix"
            suffix = f"{self.counter:0{2 * self.profile.counter.width}X}" if bound else ""
            return self.card_data(prw.cdt) + suffix
        digits = {"counter:u8": 2, "counter:u16be": 4, "counter:u32be": 8}[name]
        return f"{self.counter:0{digits}X}"

    def card_data(self, template: str) -> str:
        psn, expiry = f"{self.card.psn:02d}", self.card.expiry
        return (
            template.replace("{psn:u8}", f"{self.card.psn:02X}")
            .replace("{psn:u16}", f"{self.card.psn:04X}")
            .replace("{psn:bcd}", psn)
            .replace("{psn:ascii}", psn.encode().hex())
            .replace("{expiry:yymm}", expiry)
            .replace("{expiry:ascii}", expiry.encode().hex())
        )

    def session(self, key: bytes, method: str) -> bytes:
        if method == "none":
            return key
        card_key = pyemv.kd.derive_icc_mk_a(key, self.card.pan, f"{self.card.psn:02d}")
        return pyemv.kd.derive_common_sk(card_key, bytes.fromhex(f"{self.counter:04X}000000000000"))

    @staticmethod
    def tag(algorithm: str, key: bytes, message: str) -> bytes:
        data = bytes.fromhex(message)
        if algorithm == "aes-cmac":
            return aes_cmac(key)(data)
        if algorithm == "tdes-cmac":
            return tdes_cmac(key)(data)
        tag: bytes = psec.mac.generate_retail_mac(key[:8] * 3, key[8:16] * 3, data, 2, 8)
        return tag
