"""The SECCOS profile: the choices that no public text settles, each with a default of our own.

NOT PUBLIC: OUR DESIGN. Ask Thales and the bank about each member before going live.

A profile is read from JSON. An unknown member, a value that is not offered, and members that
contradict one another are refused, each with its path. Not offered: session keys from a cryptogram
(``emv_csk_arqc``) or by XOR (``visa_xor``), and a payload that nobody reads (``verify: opaque``).
"""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from crypto.errors import CounterExhaustedError
from crypto.padding import TDES_BLOCK_BYTES
from crypto.types import PIN_BLOCK_BYTES

ZERO_IV_HEX: Final = "0000000000000000"
CARD_DATA_BYTES_MIN: Final = 2
CARD_DATA_BYTES_MAX: Final = 256
PRW_RANDOM_BYTES: Final = 4
CSK_COUNTER_MAX: Final = 0xFFFF

MAC_BYTES: Final = {
    "aes-cmac": 16,
    "tdes-cmac": 8,
    "iso9797-alg3": 8,
    "iso9797-alg3-pad2": 8,
}
CARD_PARTS: Final = {
    "{psn:u8}": 1,
    "{psn:u16}": 2,
    "{psn:bcd}": 1,
    "{psn:ascii}": 2,
    "{expiry:yymm}": 2,
    "{expiry:ascii}": 4,
}
"""The parts of card data, beside pairs of hexadecimal digits, and the size of each in bytes."""

COUNTER_PARTS: Final = {"counter:u8": 1, "counter:u16be": 2, "counter:u32be": 4}

_CARD_PART: Final = "|".join(map(re.escape, CARD_PARTS)) + "|[0-9A-Fa-f]{2}"
_COMMON_PART: Final = "pan|cdp|cdt|random|" + "|".join(COUNTER_PARTS)
_HEX_PART: Final = "hex:(?:[0-9A-Fa-f]{2}){1,64}"

CardTemplate = Annotated[str, Field(pattern=f"^(?:{_CARD_PART})+$")]
PrwPart = Annotated[str, Field(pattern=f"^(?:{_COMMON_PART}|length|pin|pinField|{_HEX_PART})$")]
MacPart = Annotated[str, Field(pattern=f"^(?:{_COMMON_PART}|pinBlock|prw|{_HEX_PART})$")]
_GENERATION: Final = r"(?:\.g([1-9][0-9]{0,5}))?"
Member = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Names = Annotated[tuple[Member, ...], Field(min_length=1, max_length=16)]


class _Section(BaseModel):
    """Unknown members are refused, values are not coerced."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class PinBlockProfile(_Section):
    """How the PIN block is laid out and enciphered."""

    clear_format: Literal["iso0", "iso1", "iso2", "iso3"] = "iso2"
    """ISO 9564-1 format of the clear block. SECCOS cards take format 2."""
    selfenc: Literal["none", "replace", "append"] = "none"
    """The block enciphered under itself with single DES (IBM SELFENC): not used, in place of the
    block, or after it. ``replace`` cannot be undone and needs ``verify: mac_only``."""
    cipher: Literal["tdes-ecb", "tdes-cbc"] = "tdes-ecb"
    """The mode; TDES with a key of two parts."""
    iv: Annotated[str, Field(pattern="^(?:[0-9A-Fa-f]{16}|counter)$")] = ZERO_IV_HEX
    """With ``tdes-cbc``: 16 hexadecimal digits, or ``counter``, which is the change counter in
    8 bytes, big-endian."""
    padding: Literal["none", "iso9797-2"] = "none"
    """``iso9797-2`` adds 80 00 00 00 00 00 00 00, since the data is whole blocks already."""
    session_key: Literal["emv_csk", "none"] = "emv_csk"
    """``emv_csk``: the key is an issuer master key; card key by EMV option A, common session key
    with R = counter in 2 bytes and 6 zero bytes. ``none``: it is used as it is, for all cards."""
    same_on_every_card: bool = False
    """Must be true where the same PIN makes the same block on every card, and only there: a block
    of format 2 under the key as it is. Whoever sees blocks then sees which cards have one PIN."""
    key_label: Annotated[str, Field(pattern=rf"^d1\.spe{_GENERATION}$")] = "d1.spe"
    """The key that deciphers the block: ``d1.spe`` (generation 1), ``d1.spe.g2`` and so on."""

    @property
    def key_generation(self) -> int:
        """The generation in ``key_label``; a payload may name another one."""
        return _generation(self.key_label)

    @property
    def ignores_card(self) -> bool:
        """Whether the same PIN at the same counter makes the same block on every card."""
        return self.session_key == "none" and self.clear_format == "iso2"

    @property
    def block_bytes(self) -> int:
        """The size of the enciphered block: 8, 16 or 24."""
        clear = PIN_BLOCK_BYTES * (2 if self.selfenc == "append" else 1)
        return clear + (TDES_BLOCK_BYTES if self.padding == "iso9797-2" else 0)

    def iv_bytes(self, counter: int) -> bytes | None:
        """Return the IV, 8 bytes, or None in ECB mode."""
        if self.cipher == "tdes-ecb":
            return None
        return (
            counter.to_bytes(TDES_BLOCK_BYTES) if self.iv == "counter" else bytes.fromhex(self.iv)
        )


class PrwProfile(_Section):
    """How the PIN reference value (PRW) is computed."""

    alg: Literal["aes-cmac", "tdes-cmac", "iso9797-alg3"] = "aes-cmac"
    """16 bytes of AES-CMAC, or 8 of TDES-CMAC or of the retail MAC with padding method 2."""
    encoding: Literal["lv", "ibm-literal", "template"] = "lv"
    """``lv``: ``PRW1``, then PAN, CDp, CDt each behind its length in 2 bytes, then the PIN field
    0N PIN F…, then the random. ``ibm-literal``: PAN, CDp, CDt, PIN length in 1 byte, PIN in
    ASCII, random. ``template``: the parts of ``template`` in their order."""
    template: tuple[PrwPart, ...] = ()
    """With ``encoding: template``: any of ``pan cdp cdt length pin pinField random
    counter:u8 counter:u16be counter:u32be hex:…``. The PIN and, where there is one, the random
    must be among them."""
    pan: Literal["full", "iso12"] = "full"
    """In ASCII digits: the whole PAN, or the 12 digits left of its check digit, zeros in front.
    The MAC takes the same."""
    cdp: CardTemplate = "{psn:u16}"
    """Card data that stays the same over the card's life (CDp), 2 to 256 bytes: hexadecimal
    digits and ``{psn:u8} {psn:u16} {psn:bcd} {psn:ascii} {expiry:yymm} {expiry:ascii}``;
    ``yymm`` is BCD in 2 bytes."""
    cdt: CardTemplate = "{expiry:yymm}"
    """Card data that changes (CDt), 2 to 256 bytes, made of the same."""
    counter_binding: Literal["cdt_suffix", "replace_random", "none"] = "cdt_suffix"
    """Where the counter enters: behind CDt in ``counter.width`` bytes, in place of the random in
    4 bytes, or not at all; big-endian."""
    random: Literal["payload", "issuer", "none"] = "payload"
    """4 random bytes: in D1's payload; drawn by the issuer, whose PRW is then the only one; or
    not used."""
    key_label: Annotated[str, Field(pattern=rf"^d1\.prw\.ver{_GENERATION}$")] = "d1.prw.ver"
    """The key of the PRW: ``d1.prw.ver``, or ``d1.prw.ver.g2`` and so on."""

    @property
    def key_generation(self) -> int:
        """The generation in ``key_label``; a payload may name another one."""
        return _generation(self.key_label)

    @property
    def tag_bytes(self) -> int:
        """The size of the PRW."""
        return MAC_BYTES[self.alg]

    @property
    def random_bytes(self) -> int:
        """How many random bytes go into the computation: 4 or none."""
        used = self.random != "none" and self.counter_binding != "replace_random"
        return PRW_RANDOM_BYTES if used else 0

    @property
    def in_payload(self) -> bool:
        """Whether D1 sends a PRW; it does not if the issuer draws the random bytes."""
        return self.random != "issuer"


class MacProfile(_Section):
    """How the MAC over the payload is computed."""

    alg: Literal["iso9797-alg3-pad2", "aes-cmac", "tdes-cmac"] = "iso9797-alg3-pad2"
    """8 bytes of the retail MAC with padding method 2, 16 of AES-CMAC, or 8 of TDES-CMAC."""
    length: Annotated[int, Field(ge=4, le=16)] = 8
    """How many of its bytes are sent, the leftmost."""
    input: Annotated[tuple[MacPart, ...], Field(min_length=1, max_length=32)] = (
        "hex:8424000210",
        "counter:u16be",
        "pinBlock",
    )
    """The parts of its input: any of ``pinBlock prw random pan cdp cdt counter:u8 counter:u16be
    counter:u32be hex:…`` in their order. ``pinBlock`` must be among them. The default is a
    script command; IBM's MAC of a PIN block is ``pinBlock cdp``."""
    session_key: Literal["emv_csk", "none"] = "emv_csk"
    """As for the block; ``none`` with AES-CMAC."""
    key_label: Annotated[str, Field(pattern=rf"^d1\.smi{_GENERATION}$")] = "d1.smi"
    """The key of the MAC: ``d1.smi``, or ``d1.smi.g2`` and so on."""

    @property
    def key_generation(self) -> int:
        """The generation in ``key_label``; a payload may name another one."""
        return _generation(self.key_label)


class CounterProfile(_Section):
    """The change counter of a card."""

    width: Literal[1, 2, 4] = 2
    """Bytes of the counter behind CDt."""
    rule: Literal["current", "next"] = "current"
    """What D1 computes with: the counter that the issuer returned, or that plus one."""
    start: Literal[0] = 0
    """The counter of a card whose PIN was never changed."""
    max: Annotated[int, Field(ge=1, le=0xFFFFFFFF)] = 0xFFFF
    """The highest counter that is accepted."""
    increment: Literal["on_success"] = "on_success"
    """Only a PIN that was accepted counts."""

    def expected(self, changes: int) -> int:
        """Return the counter of the next payload of a card whose PIN was changed *changes* times.

        >>> CounterProfile(rule="next").expected(7)
        8

        Raises:
            CounterExhaustedError: the counter is higher than ``max``.
        """
        counter = changes + (1 if self.rule == "next" else 0)
        if counter > self.max:
            raise CounterExhaustedError
        return counter


class KeyId(_Section):
    """What D1 calls one generation of the three keys."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """The name."""
    generation: Annotated[int, Field(ge=1, le=999_999)]
    """The generation."""


class PayloadProfile(_Section):
    """The members of the JSON in the JWE; each may come under any one of its names."""

    pin_block: Names = ("pinBlock", "pinblock", "block", "encryptedPinBlock", "epb", "value")
    """The enciphered block, hexadecimal."""
    prw: Names = ("prw", "pinReferenceWord", "pinReferenceValue")
    """The PRW, hexadecimal."""
    prw_random: Names = ("prwRandom", "random", "rnd", "prwRnd")
    """The random of the PRW, 8 hexadecimal digits."""
    mac: Names = ("mac", "scriptMac", "pinBlockMac")
    """The MAC, hexadecimal."""
    counter: Names = ("pinChangeCounter", "changeCounter", "counter", "pcc")
    """The counter that D1 computed with: a number or text. It may be missing only if the MAC
    depends on it. Otherwise a wrong counter would look like a wrong PIN, and count for the card."""
    counter_text: Literal["decimal", "hex"] = "decimal"
    """How a counter is written if it is text."""
    key_id: Names = ("keyId", "keyVersion", "keyRef", "kcv")
    """Which generation of the keys D1 used. It may be missing."""
    key_ids: Annotated[tuple[KeyId, ...], Field(max_length=16)] = ()
    """The key ids that D1 may name; a payload that names another one is refused."""


class ErrorProfile(_Section):
    """How refusals are answered."""

    conflict: Literal[400] = 400
    """The status for a stale counter. Thales documents no 409."""


class SeccosProfile(_Section):
    """A whole profile; the defaults are the design of this project and nobody else's."""

    version: Annotated[str, Field(min_length=1, max_length=64)] = "design-default"
    """A name for people; the program does not use it."""
    pin_block: PinBlockProfile = PinBlockProfile()
    prw: PrwProfile = PrwProfile()
    mac: MacProfile = MacProfile()
    counter: CounterProfile = CounterProfile()
    payload: PayloadProfile = PayloadProfile()
    verify: Literal["full", "mac_only"] = "full"
    """``full``: MAC, PIN block and PRW are verified. ``mac_only``: only the MAC, and the PIN stays
    unread."""
    prw_source: Literal["d1", "issuer"] = "d1"
    """Whose PRW is stored: D1's, or a new one that the issuer computes from the PIN."""
    errors: ErrorProfile = ErrorProfile()

    @property
    def is_under_card_keys(self) -> bool:
        """Whether block and MAC are each under a key that one card has."""
        return "none" not in (self.pin_block.session_key, self.mac.session_key)

    @property
    def mac_binds_counter(self) -> bool:
        """Whether the MAC depends on the counter; if not, a payload must name its counter."""
        by_card_data = self.prw.counter_binding == "cdt_suffix" and "cdt" in self.mac.input
        by_part = bool(COUNTER_PARTS.keys() & {*self.mac.input})
        return by_part or by_card_data or self.mac.session_key == "emv_csk"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        broken = [
            InitErrorDetails(type=PydanticCustomError("combination", rule), loc=path, input=None)
            for path, rule in _broken_rules(self)
        ]
        if broken:
            # This way each error keeps the path of its member.
            raise ValidationError.from_exception_data(type(self).__name__, broken)
        return self


Rule = tuple[tuple[str, ...], str]


def _generation(key_label: str) -> int:
    _, _, generation = key_label.partition(".g")
    return int(generation or 1)


def card_parts(template: str) -> list[str]:
    """Split a card data template into its parts; two hexadecimal digits are one part.

    >>> card_parts("{psn:u8}0A{expiry:yymm}")
    ['{psn:u8}', '0A', '{expiry:yymm}']
    """
    return re.findall(_CARD_PART, template)


def _broken_rules(profile: SeccosProfile) -> Iterator[Rule]:
    yield from _broken_block_rules(profile)
    yield from _broken_prw_rules(profile)
    yield from _broken_template_rules(profile)
    yield from _broken_mac_rules(profile)
    yield from _broken_counter_rules(profile)
    names = profile.payload
    every = names.pin_block + names.prw + names.prw_random + names.mac + names.counter
    if len({*every, *names.key_id}) != len(every) + len(names.key_id):
        yield ("payload",), "a name stands twice"
    ids = [key.name for key in names.key_ids]
    if len({*ids}) != len(ids):
        yield ("payload", "key_ids"), "an id stands twice"


def _broken_block_rules(profile: SeccosProfile) -> Iterator[Rule]:
    block = profile.pin_block
    if block.cipher == "tdes-ecb" and block.iv != ZERO_IV_HEX:
        yield ("pin_block", "iv"), "ECB has no IV"
    if block.same_on_every_card and not block.ignores_card:
        yield ("pin_block", "same_on_every_card"), "it is not: nothing is to be allowed"
    if block.ignores_card and not block.same_on_every_card:
        yield ("pin_block", "same_on_every_card"), "format 2 without a session key needs it"
    if block.selfenc == "replace" and profile.verify != "mac_only":
        yield ("verify",), "selfenc: replace cannot be undone and needs verify: mac_only"


def _broken_prw_rules(profile: SeccosProfile) -> Iterator[Rule]:
    prw = profile.prw
    for name, template in (("cdp", prw.cdp), ("cdt", prw.cdt)):
        size = sum(CARD_PARTS.get(part, 1) for part in card_parts(template))
        if not CARD_DATA_BYTES_MIN <= size <= CARD_DATA_BYTES_MAX:
            yield ("prw", name), "card data is 2 to 256 bytes"
    if profile.prw_source == "issuer" and profile.verify != "full":
        yield ("prw_source",), "the issuer makes a PRW from a PIN, which mac_only leaves unread"
    if prw.random == "issuer" and profile.prw_source != "issuer":
        yield ("prw", "random"), "random: issuer needs prw_source: issuer"
    if prw.random == "issuer" and prw.counter_binding == "replace_random":
        yield ("prw", "random"), "random: issuer has nothing that the counter could replace"


def _broken_template_rules(profile: SeccosProfile) -> Iterator[Rule]:
    prw, path, parts = profile.prw, ("prw", "template"), {*profile.prw.template}
    if (prw.encoding == "template") != bool(parts):
        yield path, "template and encoding: template go together"
    if not parts:
        return
    has_random = prw.random != "none" or prw.counter_binding == "replace_random"
    if not parts & {"pin", "pinField"}:
        yield path, "the PIN is missing"
    if has_random != ("random" in parts):
        yield path, "the random is missing, or there is none"
    if prw.counter_binding == "cdt_suffix" and "cdt" not in parts:
        yield path, "counter_binding: cdt_suffix needs cdt"


def _broken_mac_rules(profile: SeccosProfile) -> Iterator[Rule]:
    mac, prw, parts = profile.mac, profile.prw, {*profile.mac.input}
    if mac.length > MAC_BYTES[mac.alg]:
        yield ("mac", "length"), "longer than the algorithm's tag"
    if mac.session_key == "emv_csk" and mac.alg == "aes-cmac":
        yield ("mac", "session_key"), "emv_csk makes TDES keys: none with aes-cmac"
    if "pinBlock" not in parts:
        yield ("mac", "input"), "pinBlock is missing"
    if "prw" in parts and not prw.in_payload:
        yield ("mac", "input"), "the payload has no PRW"
    if "random" in parts and not (prw.in_payload and prw.random_bytes):
        yield ("mac", "input"), "the payload has no random"


def _broken_counter_rules(profile: SeccosProfile) -> Iterator[Rule]:
    counter, prw, mac = profile.counter, profile.prw, profile.mac
    if counter.max >= 1 << 8 * counter.width:
        yield ("counter", "max"), "does not fit the width"
    for path, parts in ((("mac", "input"), mac.input), (("prw", "template"), prw.template)):
        widths = [COUNTER_PARTS[part] for part in parts if part in COUNTER_PARTS]
        if widths and counter.max >= 1 << 8 * min(widths):
            yield path, "counter.max does not fit a counter part"
    session_keys = {profile.pin_block.session_key, mac.session_key}
    if "emv_csk" in session_keys and counter.max > CSK_COUNTER_MAX:
        yield ("counter", "max"), "emv_csk has 2 bytes for the counter"
    by_prw = prw.counter_binding != "none" or COUNTER_PARTS.keys() & {*prw.template}
    if not (profile.mac_binds_counter or (by_prw and prw.in_payload and profile.verify == "full")):
        yield ("prw", "counter_binding"), "nothing that is checked depends on the counter"
