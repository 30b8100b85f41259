"""What D1 sends and what it gets.

Source: Thales D1 "PIN Management API" (D1-Public-OUT-v1). Member names that it does not publish
come from the issuer's wire profile.
"""

from collections.abc import Mapping
from typing import Any, Final

from cms.domain.errors import BadRequest, Field
from cms.services.d1 import jwe_report
from cms.services.d1.pins import PinEnvelope
from crypto.errors import JoseError
from crypto.jose import json_object, jwe
from hsm.manifest.wire import WireProfile

CARD_PATH: Final[list[dict[str, Any]]] = [
    {
        "name": "issuerId",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 10, "maxLength": 10},
    },
    {
        "name": "cardId",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,48}$"},
    },
    {"name": "x-correlation-id", "in": "header", "schema": {"type": "string"}},
]
PUT_PIN_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["type", "encryptedPinBlock"],
                "properties": {
                    "type": {"type": "string"},
                    "encryptedPinBlock": {"type": "string", "maxLength": jwe.JWE_CHARS_MAX},
                },
            }
        }
    },
}


def parse_envelope(body: bytes, wire: WireProfile) -> PinEnvelope:
    """Parse the body of PUT pin: ``{"type", "encryptedPinBlock"}``; other members are ignored.

    Raises:
        BadRequest: a part is not as published; it names the first such part.
    """
    try:
        members = json_object.parse(body)
    except JoseError:
        raise BadRequest(Field.BODY) from None
    literal, encrypted = members.get("type"), members.get("encryptedPinBlock")
    block_type = wire.block_type(literal) if isinstance(literal, str) else None
    if block_type is None:
        raise BadRequest(Field.TYPE)
    if not isinstance(encrypted, str):
        raise BadRequest(Field.ENCRYPTED_PIN_BLOCK)
    try:
        parsed = jwe.parse(encrypted, wire.jwe.extra)
    except JoseError:
        fault = jwe_report.first_fault(encrypted, wire.jwe.extra)
        raise BadRequest(Field.ENCRYPTED_PIN_BLOCK, fault) from None
    return PinEnvelope(block_type, encrypted, parsed.digest)


def loggable(body: bytes, wire: WireProfile) -> Mapping[str, str]:
    """Return what a log may say of the JWE in a body that was refused."""
    try:
        encrypted = json_object.parse(body).get("encryptedPinBlock")
    except JoseError:
        return {}
    return jwe_report.loggable(encrypted, wire.jwe.extra) if isinstance(encrypted, str) else {}


def pin_answer(encrypted: str, wire: WireProfile) -> Mapping[str, object]:
    """Build the answer to GET pin."""
    answer = {"type": wire.get_pin.type_literal} if wire.get_pin.include_type else {}
    return answer | {wire.get_pin.field: encrypted}


def counter_answer(counter: int, wire: WireProfile) -> Mapping[str, object]:
    """Build the answer to GET changeCounter."""
    return {wire.counter.field: str(counter) if wire.counter.as_string else counter}
