"""What D1 sends and what it gets.

Source: Thales D1 "PIN Management API" (D1-Public-OUT-v1). Member names that it does not publish
come from the issuer's wire profile.
"""

from collections.abc import Mapping
from typing import Final

from cms.domain.errors import BadRequest, Field
from cms.faces.operation import TEXT, Schema
from cms.services.d1 import jwe_report
from cms.services.d1.pins import PinEnvelope
from crypto.errors import JoseError
from crypto.jose import json_object, jwe
from hsm.manifest.wire import WireProfile

JWE_PATTERN: Final = r"^[A-Za-z0-9_-]+\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{22}$"
"""Five parts, no encrypted key, an IV of 12 bytes, a tag of 16."""
JWE_EXAMPLE: Final = (
    "eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsImtpZCI6ImJhbmstMjAyNiIsImVwayI6e319"
    "..AAECAwQFBgcICQoL.o9JvGk0R4vYk.t7d0Yb0VZkq3uQ5m1n8xrw"
)
"""Of this form; it opens for nobody."""


def put_pin_schema(wire: WireProfile) -> Schema:
    """Describe the body of PUT pin; a literal of ``type`` may be in upper or lower case."""
    literals = [*wire.put_pin.iso0, *wire.put_pin.seccos]
    encrypted = {"type": "string", "maxLength": jwe.JWE_CHARS_MAX, "pattern": JWE_PATTERN}
    return {
        "type": "object",
        "required": ["type", "encryptedPinBlock"],
        "properties": {
            "type": {"type": "string", "enum": literals, "examples": literals[:1]},
            "encryptedPinBlock": {**encrypted, "examples": [JWE_EXAMPLE]},
        },
    }


def pin_schema(wire: WireProfile) -> Schema:
    """Describe what :func:`pin_answer` builds."""
    members = pin_answer(JWE_EXAMPLE, wire)
    properties: dict[str, Schema] = {
        name: {"type": "string", "examples": [value]} for name, value in members.items()
    }
    return {"type": "object", "required": [*members], "properties": properties}


def counter_schema(wire: WireProfile) -> Schema:
    """Describe what :func:`counter_answer` builds."""
    ((name, value),) = counter_answer(3, wire).items()
    kind = {"type": "string"} if wire.counter.as_string else {"type": "integer", "minimum": 0}
    member = {**kind, "examples": [value]}
    return {"type": "object", "required": [name], "properties": {name: member}}


def error_schema(wire: WireProfile) -> Schema:
    """Describe every answer that is not 2xx."""
    names = [wire.errors.code_field, wire.errors.error_field]
    return {"type": "object", "required": names, "properties": dict.fromkeys(names, TEXT)}


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
