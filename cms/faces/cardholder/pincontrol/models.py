"""What an issuer's server and the scripts of pages get, as typed members; the contract's names."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cms.faces.cardholder.page.models import CONTROL_TOKEN, HOST, Hidden

TZPK: Final = "A TDES key of 16 bytes, enciphered to the device by RSA-OAEP with SHA-256; base64."


class ErrorType(StrEnum):
    """The contract's kinds of errors."""

    STATIC = "STATIC_VALIDATION_ERROR"
    DYNAMIC = "DYNAMIC_VALIDATION_ERROR"
    INTEGRATION = "INTEGRATION_ERROR"
    SECURITY = "SECURITY_ERROR"
    UNEXPECTED = "UNEXPECTED_ERROR"


class ErrorResponse(msgspec.Struct, rename="camel"):
    """Every answer that is not 2xx, but for pages."""

    code: Annotated[str, Meta(description="The status.", pattern="^[0-9]{3}$")]
    message: str
    id: Annotated[
        str,
        Meta(description="In audit and log, too.", extra_json_schema={"format": "uuid"}),
    ]
    error_code: str
    error_type: ErrorType
    error_reason: str
    timestamp: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class ControlIdIssued(Hidden, rename="camel"):
    """A control id, and where it is used."""

    id: Annotated[
        str,
        Meta(
            description="Lives for 30 seconds, and is good once.",
            examples=[CONTROL_TOKEN],
            extra_json_schema={"format": "uuid"},
        ),
    ]
    pin_url: Annotated[
        str,
        Meta(
            description="For a webview, which posts the id to it as controlId.",
            examples=[f"{HOST}/pincontrol/pin"],
        ),
    ] = msgspec.field(name="pinURL")
    pin_frame_url: Annotated[
        str,
        Meta(
            description="For an iframe, with the query parameter key.",
            examples=[f"{HOST}/pincontrol/frame"],
        ),
    ] = msgspec.field(name="pinFrameURL")


class Digits(Hidden):
    """The PIN as text, in a JWE to the page's key."""

    jwe: Annotated[str, Meta(examples=["eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSJ9..A.B.C"])]


class PinBlock(Hidden, rename="camel"):
    """A PIN under a pre-shared key."""

    pin_block: Annotated[
        str,
        Meta(
            description="ISO 9564-1 format 1, TDES in ECB mode, hexadecimal.",
            pattern="^[0-9A-F]{16}$",
            examples=["81739710556E1518"],
        ),
    ]


class DeviceKey(Hidden):
    """The key under which a device sends a PIN."""

    tzpk: Annotated[str, Meta(description=TZPK, min_length=1, examples=["kq3Zc0V1…"])]


class DevicePin(Hidden, rename="camel"):
    """A PIN for a device."""

    tzpk: Annotated[str, Meta(description=TZPK, min_length=1, examples=["kq3Zc0V1…"])]
    pin_block: Annotated[
        str,
        Meta(
            description="ISO 9564-1 format 1, TDES in ECB mode under that key, base64.",
            min_length=12,
            max_length=12,
            examples=["gXOXEFVuFRg="],
        ),
    ]


class Nothing(msgspec.Struct):
    """It is done."""
