"""What an issuer's server sends to the PIN operations.

Source: the published contract of the Card PIN API. Members and parameters that it does not know are
ignored; those it knows are strict.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from cms.domain.cards import parse_plastic_id
from cms.domain.errors import Invalid
from crypto import device_key
from crypto.errors import DeviceKeyError, JoseError
from crypto.jose import json_object
from crypto.types import PIN_BLOCK_BYTES

T = TypeVar("T")
CONTROL_ID_CHARS_MAX: Final = 64
ZPK_INDEX: Final = re.compile("[A-Za-z0-9._-]{1,16}")
HEX_BLOCK: Final = re.compile(f"[0-9A-Fa-f]{{{2 * PIN_BLOCK_BYTES}}}")
#: What each may be, by its name; as a refusal says it.
SHAPES: Final[Mapping[str, str]] = {
    "plasticId": "must be a number of 1 to 38 digits",
    "auditUser": "must be 1 to 128 printable characters, once",
    "zpkIndex": "must be 1 to 16 letters, digits, '-', '_' and '.'",
    "controlId": "must be the id of an answer of the Card PIN Control API",
    "publicKey": "must be base64 of a DER SubjectPublicKeyInfo: RSA, 2048 bits, exponent 65537",
}
HEX_SHAPE: Final = "must be 16 hexadecimal digits"
BASE64_SHAPE: Final = "must be base64 of 8 bytes"


@dataclass(slots=True)
class Reader:
    """Reads members and notes those that are not as published."""

    errors: list[tuple[str, str]]

    def take(self, name: str, value: T | None, shape: str | None = None) -> T | None:
        """Note that *value*, which was read of *name*, is none."""
        if value is None:
            self.errors.append((name, shape or SHAPES[name]))
        return value


@dataclass(frozen=True, slots=True)
class PlasticRequest:
    """For which plastic, and under which key."""

    plastic_id: str
    zpk_index: str


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """The same, and a block of 8 bytes."""

    plastic_id: str
    zpk_index: str
    block: bytes


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A control id, and the public key of a device, DER."""

    control_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A control id, and a block of 8 bytes."""

    control_id: str
    block: bytes


def read_view(plastic: str, zpk_index: str, audit_user: str | None) -> PlasticRequest:
    """Read ``GET /pin/v2/{plasticId}``.

    Raises:
        Invalid: naming what is not as published.
    """
    reader = Reader([])
    plastic_id = reader.take("plasticId", parse_plastic_id(plastic))
    reader.take("auditUser", audit_user)
    index = reader.take("zpkIndex", _matching(ZPK_INDEX, zpk_index))
    if reader.errors or plastic_id is None or index is None:
        raise Invalid(*reader.errors)
    return PlasticRequest(plastic_id, index)


def read_set(plastic: str, audit_user: str | None, body: bytes) -> BlockRequest:
    """Read ``POST /pin/v2/{plasticId}``.

    Raises:
        Invalid: naming what is not as published.
    """
    reader, members = Reader([]), _object(body)
    plastic_id = reader.take("plasticId", parse_plastic_id(plastic))
    reader.take("auditUser", audit_user)
    index = reader.take("zpkIndex", _matching(ZPK_INDEX, members.get("zpkIndex")))
    text = reader.take("pinBlock", _matching(HEX_BLOCK, members.get("pinBlock")), HEX_SHAPE)
    if reader.errors or plastic_id is None or index is None or text is None:
        raise Invalid(*reader.errors)
    return BlockRequest(plastic_id, index, bytes.fromhex(text))


def read_key(audit_user: str | None, body: bytes) -> KeyRequest:
    """Read ``POST /pin/v3/view`` and ``POST /pin/v3/set/tzpk``.

    Raises:
        Invalid: naming what is not as published.
    """
    reader, members = Reader([]), _object(body)
    reader.take("auditUser", audit_user)
    control_id = reader.take("controlId", _control_id(members))
    public_key = reader.take("publicKey", _public_key(members))
    if reader.errors or control_id is None or public_key is None:
        raise Invalid(*reader.errors)
    return KeyRequest(control_id, public_key)


def read_device(audit_user: str | None, body: bytes) -> DeviceRequest:
    """Read ``POST /pin/v3/set``.

    Raises:
        Invalid: naming what is not as published.
    """
    reader, members = Reader([]), _object(body)
    reader.take("auditUser", audit_user)
    control_id = reader.take("controlId", _control_id(members))
    block = _base64(members.get("pinBlock"))
    if block is not None and len(block) != PIN_BLOCK_BYTES:
        block = None
    reader.take("pinBlock", block, BASE64_SHAPE)
    if reader.errors or control_id is None or block is None:
        raise Invalid(*reader.errors)
    return DeviceRequest(control_id, block)


def _object(body: bytes) -> Mapping[str, object]:
    try:
        return json_object.parse(body)
    except JoseError:
        return {}


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _control_id(members: Mapping[str, object]) -> str | None:
    value = members.get("controlId")
    return value if isinstance(value, str) and 1 <= len(value) <= CONTROL_ID_CHARS_MAX else None


def _public_key(members: Mapping[str, object]) -> bytes | None:
    value = members.get("publicKey")
    if not isinstance(value, str):
        return None
    # Whoever takes the first and last line of a PEM file away may leave the ends of the others.
    der = _base64(value.replace("\r", "").replace("\n", ""))
    try:
        device_key.parse(der or b"")
    except DeviceKeyError:
        return None
    return der


def _base64(value: object) -> bytes | None:
    """Read base64 (RFC 4648, section 4), written as encoders write it."""
    if not isinstance(value, str):
        return None
    try:
        data = base64.b64decode(value, validate=True)
    except ValueError:  # not ASCII, no base64
        return None
    return data if base64.b64encode(data).decode() == value else None
