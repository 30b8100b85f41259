"""What is said of the calls that Thales D1 makes; answers are those of the default wire profile."""

from typing import Final

from cms.domain.errors import (
    CardForbids,
    CardNotFound,
    CounterExhausted,
    Field,
    IssuerNotFound,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    TooManyFailures,
    TypeNotOffered,
    ValueNotPossible,
)
from cms.faces.d1.problems import refusals
from cms.faces.d1.schemas import counter_schema, error_schema, pin_schema, put_pin_schema
from cms.faces.operation import (
    CORRELATION_ID,
    About,
    Answered,
    Content,
    Operation,
    Schema,
    parameter,
)
from hsm.manifest.wire import WireProfile
from hsm.port import CARD_ID_PATTERN, ISSUER_ID_CHARS

WIRE: Final = WireProfile()
ABOUT: Final = About(
    name="d1",
    title="D1 face",
    description=(
        "What Thales D1 calls: PIN Management API and Card Activation API (D1-Public-OUT-v1), and"
        " the token endpoint that the issuer hosts for it. Answers come in a fixed order: TLS,"
        " 401, another issuer 404, path 400, unknown card 404, state of the card 403, then what is"
        " in the body. Members that D1 does not publish are those of the default wire profile; an"
        " issuer's manifest may name others."
    ),
    error=error_schema(WIRE),
    security={
        "certificate": {
            "type": "mutualTLS",
            "description": "A certificate that the issuer registered for the client.",
        },
        "accessToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Of the token endpoint, bound to the certificate.",
        },
        "client": {
            "type": "http",
            "scheme": "basic",
            "description": "Id and secret of the client (RFC 6749, 2.3.1).",
        },
    },
    tags={"card": "A card of the issuer.", "authorization": "Who calls, and with which keys."},
)
ISSUER_ID: Final = parameter(
    *("path", "issuerId"),
    {"type": "string", "minLength": ISSUER_ID_CHARS, "maxLength": ISSUER_ID_CHARS},
    "The id of the issuer.",
    example="demobank01",
)
CARD_ID: Final = parameter(
    *("path", "cardId"),
    {"type": "string", "pattern": f"^{CARD_ID_PATTERN.pattern}$"},
    "The id of the card.",
    example="card-0001",
)
CARD: Final = (ISSUER_ID, CARD_ID, CORRELATION_ID)
CALLER: Final = ("certificate", "accessToken")
NO_STORE: Final = {"Cache-Control": "`no-store`."}
ON_CARD: Final = (IssuerNotFound, CardNotFound, CardForbids)

GET_PIN: Final = Operation(
    summary="Get Card PIN",
    description="The PIN as an ISO-0 block, in a JWE to D1's key.",
    tag="card",
    answers={200: Answered("The PIN, encrypted.", Content(pin_schema(WIRE)), NO_STORE)},
    refusals=refusals(*ON_CARD, PinUnavailable, fields=[Field.CARD_ID]),
    parameters=CARD,
    security=CALLER,
)
SET_PIN: Final = Operation(
    summary="Set Card PIN",
    description=(
        "A JWE that was accepted for the card before is answered 204 again and changes nothing."
    ),
    tag="card",
    answers={204: Answered("The PIN is set.", headers=NO_STORE)},
    refusals=refusals(
        *(*ON_CARD, PinRefused, PinForbidden, TypeNotOffered, ValueNotPossible),
        *(CounterExhausted, TooManyFailures),
        fields=[Field.CARD_ID, Field.BODY, Field.TYPE, Field.ENCRYPTED_PIN_BLOCK],
    ),
    parameters=CARD,
    body=[Content(put_pin_schema(WIRE))],
    security=CALLER,
)
COUNTER: Final = Operation(
    summary="Get PIN Change Counter",
    tag="card",
    answers={
        200: Answered("How often the PIN was changed.", Content(counter_schema(WIRE)), NO_STORE)
    },
    refusals=refusals(*ON_CARD, fields=[Field.CARD_ID]),
    parameters=CARD,
    security=CALLER,
)
ACTIVATE: Final = Operation(
    summary="Activate Card",
    description="A card that is active stays so. A body is ignored.",
    tag="card",
    answers={204: Answered("The card is active.", headers=NO_STORE)},
    refusals=refusals(*ON_CARD, fields=[Field.CARD_ID]),
    parameters=CARD,
    security=CALLER,
)
COORDINATE: Final[Schema] = {"type": "string", "minLength": 43, "maxLength": 43}
JWK: Final[Schema] = {
    "type": "object",
    "required": ["kty", "crv", "x", "y", "kid", "use", "role"],
    "properties": {
        "kty": {"const": "EC"},
        "crv": {"const": "P-256"},
        "x": {**COORDINATE, "examples": ["MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"]},
        "y": {**COORDINATE, "examples": ["4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"]},
        "kid": {"type": "string", "examples": ["bank-2026"]},
        "use": {"const": "enc"},
        "role": {"enum": ["d1", "intake"]},
    },
}
JWKS: Final[Schema] = {
    "type": "object",
    "required": ["keys"],
    "properties": {"keys": {"type": "array", "items": JWK}},
}
PUBLIC_KEYS: Final = Operation(
    summary="Public Keys",
    description="What partners encrypt to, of each role the newest first. No access token.",
    tag="authorization",
    answers={
        200: Answered(
            "A JWK set (RFC 7517, 5).",
            Content(JWKS),
        )
    },
    refusals=refusals()[1:],
)
