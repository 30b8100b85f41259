"""The JSON of a SECCOS payload, the clear content of the JWE.

NOT PUBLIC: OUR DESIGN. By default, hexadecimal in either case::

    {"pinBlock": "…", "prw": "…", "prwRandom": "…", "mac": "…", "pinChangeCounter": 7}

The profile says the names of the members, their sizes, and which may be missing. Members that it
does not name are ignored. A member that is there under two of its names is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crypto.errors import SeccosError
from crypto.seccos.profile import PRW_RANDOM_BYTES, PayloadProfile, SeccosProfile

_HEX: Final = re.compile("(?:[0-9A-Fa-f]{2})+")
_DECIMAL_COUNTER: Final = re.compile("[0-9]{1,10}")
_HEX_COUNTER: Final = re.compile("[0-9A-Fa-f]{1,8}")


@dataclass(frozen=True, slots=True, repr=False)
class Payload:
    """A payload of the right form; nothing in it is verified yet. Its ``repr`` shows no value."""

    block: bytes
    prw: bytes
    """Empty if D1 sends no PRW."""
    random: bytes
    """Empty if D1 sends no random bytes."""
    mac: bytes
    counter: int | None
    key_generation: int | None
    """The generation of the keys that D1 named, or None if it named none."""


def parse(members: Mapping[str, object], profile: SeccosProfile) -> Payload:
    """Read the members of a payload.

    Raises:
        SeccosError: a member is missing, is there under two names, or has another type, length
            or alphabet; the counter is not a whole number from 0 to ``counter.max``; or the key
            id is unknown.
    """
    names, prw = profile.payload, profile.prw
    random_needed = prw.in_payload and prw.random_bytes > 0
    random_possible = random_needed or prw.counter_binding == "replace_random"
    return Payload(
        block=_hex(_one(members, names.pin_block), profile.pin_block.block_bytes),
        prw=_hex(_one(members, names.prw), prw.tag_bytes) if prw.in_payload else b"",
        random=_random(_one(members, names.prw_random), needed=random_needed)
        if random_possible
        else b"",
        mac=_hex(_one(members, names.mac), profile.mac.length),
        counter=_counter(_one(members, names.counter), profile),
        key_generation=_generation(_one(members, names.key_id), names),
    )


def _one(members: Mapping[str, object], names: tuple[str, ...]) -> object:
    """Return the value under one of *names*, or None; a JSON null counts as missing."""
    present = [members[name] for name in names if name in members]
    if len(present) > 1:
        raise SeccosError
    return present[0] if present else None


def _hex(value: object, size_bytes: int) -> bytes:
    # The length is checked first, so that a long text is not searched.
    if not isinstance(value, str) or len(value) != 2 * size_bytes or not _HEX.fullmatch(value):
        raise SeccosError
    return bytes.fromhex(value)


def _random(value: object, *, needed: bool) -> bytes:
    if value is None and not needed:
        return b""
    return _hex(value, PRW_RANDOM_BYTES)


def _counter(value: object, profile: SeccosProfile) -> int | None:
    if value is None:
        if not profile.mac_binds_counter:
            raise SeccosError
        return None
    if isinstance(value, str):
        decimal = profile.payload.counter_text == "decimal"
        if not (_DECIMAL_COUNTER if decimal else _HEX_COUNTER).fullmatch(value):
            raise SeccosError
        value = int(value, 10 if decimal else 16)
    # A bool is an int to Python.
    if type(value) is not int or not 0 <= value <= profile.counter.max:
        raise SeccosError
    return value


def _generation(value: object, names: PayloadProfile) -> int | None:
    if value is None:
        return None
    known: Mapping[object, int] = {key.name: key.generation for key in names.key_ids}
    if not isinstance(value, str) or value not in known:
        raise SeccosError
    return known[value]
