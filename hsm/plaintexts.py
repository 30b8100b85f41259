"""The JSON objects inside the JWEs that the vault reads and writes.

::

    ISO-0, both ways     {"pinBlock": "<16 or 32 hex digits>"}      member named by the profile
    block, from a page   {"grantId": "…", "controlToken": "…", "block": "<16 hex digits>"}
    digits, to a page    {"grantId": "…", "digits": "1234"}         then spaces
    PIN verification     {"issuerId": "…", "cardId": "…",
    values, to the host   "counter": 7, "pvv": {…}, …}              then spaces

The spaces make the length of a JWE say nothing about the number of digits of the PIN.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from crypto.errors import PinBlockError
from crypto.jose import json_object
from crypto.secret import Secret
from crypto.types import PIN_DIGITS_MAX, Pan, Pin
from hsm.manifest.wire import Iso0Wire
from hsm.port import CardRef, ValueKind
from hsm.sealed import VALUE_FIELD_BYTES
from hsm.verification import Value

_HEX: Final = re.compile("[0-9A-Fa-f]*")


def text_member(members: Mapping[str, object], name: str) -> str:
    """Return the member *name*, or an empty text if it is absent or is not text.

    >>> text_member({"pan": "4761739001010119"}, "pan"), text_member({"pan": 4}, "pan")
    ('4761739001010119', '')
    """
    value = members.get(name)
    return value if isinstance(value, str) else ""


def is_of_page(members: Mapping[str, object], grant_id: str, control_token: str) -> bool:
    """Tell whether the page of a grant wrote *members*, and for this very grant.

    The grant's id is a row's, which others may change; the control token the page has itself.

    >>> is_of_page({"grantId": "g", "controlToken": "t", "block": ""}, "g", "t")
    True
    """
    named = text_member(members, "grantId"), text_member(members, "controlToken")
    return named == (grant_id, control_token)


def read_block(
    members: Mapping[str, object], wire: Iso0Wire, pan: Pan, size_bytes: int
) -> Secret[bytes]:
    """Return the ISO-0 block in *members*, clear or enciphered.

    Raises:
        PinBlockError: *members* does not have *size_bytes* in hexadecimal digits under exactly one
            of the names in *wire*, or it has a PAN that is not *pan*.

    >>> pan = Pan("4761739001010119")
    >>> read_block({"pinBlock": "041223C6FFEFEFEE"}, Iso0Wire(), pan, 8).reveal().hex()
    '041223c6ffefefee'
    """
    names = members.keys() & {wire.field, *wire.aliases}
    if len(names) != 1 or members.get(wire.pan_field, pan.reveal()) != pan.reveal():
        raise PinBlockError
    text = text_member(members, names.pop())
    if len(text) != 2 * size_bytes or not _HEX.fullmatch(text):
        raise PinBlockError
    return Secret(bytes.fromhex(text))


def write_block(block: bytes, wire: Iso0Wire) -> bytes:
    """Write the object that GET pin encrypts to D1.

    >>> write_block(bytes.fromhex("041223C6FFEFEFEE"), Iso0Wire())
    b'{"pinBlock":"041223C6FFEFEFEE"}'
    """
    text = block.hex()
    return b'{"%b":"%b"}' % (
        wire.field.encode(),
        (text.upper() if wire.hex_case == "upper" else text).encode(),
    )


def write_digits(pin: Pin, grant_id: str) -> bytes:
    """Write the object that a page gets; it has the same length for every PIN.

    >>> write_digits(Pin("1234"), "g")
    b'{"grantId":"g","digits":"1234"}        '
    """
    digits = pin.reveal()
    plaintext = json_object.serialize({"grantId": grant_id, "digits": digits})
    return plaintext.ljust(len(plaintext) + PIN_DIGITS_MAX - len(digits))


def write_values(values: Mapping[ValueKind, Value], card: CardRef, counter: int) -> bytes:
    """Write the object that the authorisation host gets; its length tells only which values it has.

    >>> text = write_values({ValueKind.PVV: Value.of(pvv="5812")}, CardRef("testbank01", "c-1"), 7)
    >>> len(text), text.rstrip()
    (512, b'{"issuerId": "testbank01", "cardId": "c-1", "counter": 7, "pvv": {"pvv": "5812"}}')
    """
    members: dict[str, object] = {
        "issuerId": card.issuer_id,
        "cardId": card.card_id,
        "counter": counter,
    }
    members |= {kind: json.loads(value.reveal()) for kind, value in values.items()}
    return json.dumps(members).encode().ljust(VALUE_FIELD_BYTES * (1 + len(values)))
