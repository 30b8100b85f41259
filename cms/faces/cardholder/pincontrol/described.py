"""What is said of the calls of the pincontrol family: control ids, their pages, PIN operations."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from cms.domain.cards import PLASTIC_ID_PATTERN
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ControlEnded,
    CounterExhausted,
    DomainError,
    EvidenceRefused,
    Invalid,
    LimitReached,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ServiceUnavailable,
    TooManyFailures,
    TypeNotOffered,
    Unauthorized,
    ValueNotPossible,
)
from cms.faces.cardholder.page import described as page
from cms.faces.cardholder.page.models import CONTROL_TOKEN, PageOpening
from cms.faces.cardholder.pincontrol import problems
from cms.faces.cardholder.pincontrol.control_id import NAMES
from cms.faces.cardholder.pincontrol.models import (
    ControlIdIssued,
    DeviceKey,
    DevicePin,
    Digits,
    ErrorResponse,
    Nothing,
    PinBlock,
)
from cms.faces.cardholder.pincontrol.operation_requests import (
    BASE64_SHAPE,
    CONTROL_ID_CHARS_MAX,
    HEX_BLOCK,
    SHAPES,
    ZPK_INDEX,
)
from cms.faces.cardholder.pincontrol.pages import INTERNAL, WEBVIEW_ENDS
from cms.faces.cardholder.pincontrol.schemas import AUDIT_USER_CHARS_MAX, SCOPES
from cms.faces.operation import (
    BINARY,
    CORRELATION_ID,
    TEXT,
    About,
    Answered,
    Content,
    Model,
    Operation,
    Schema,
    parameter,
)
from cms.faces.refusals import DEFECT, TELL, Refusal
from cms.faces.request import FORM

ABOUT: Final = About(
    name="pincontrol",
    title="Card PIN Control and Card PIN face",
    description=(
        "The two published contracts of the pincontrol family: control ids for pages of ours, and"
        " PIN operations without pages (v2 with pre-shared keys, v3 with PKI). Answers come in a"
        " fixed order: 401, 400, 404, 403."
    ),
    error=ErrorResponse,
    security={"server": {"type": "http", "scheme": "basic", "description": "RFC 7617."}},
    tags={
        "PIN Control handling": "An issuer's server.",
        "PIN operations": "An issuer's server, for itself or for a cardholder's device.",
        page.PAGE: "A webview or an iframe of a cardholder.",
        page.SCRIPT: "The script of our own page, and nobody else.",
    },
)
SERVER: Final = ("server",)
PLASTIC_ID: Final = parameter(
    *("path", "plasticId"),
    {"type": "string", "format": "biginteger", "pattern": f"^{PLASTIC_ID_PATTERN.pattern}$"},
    "The plastic; leading zeros change nothing.",
    example="4711",
)
AUDIT_USER: Final = parameter(
    *("query", "auditUser"),
    {"type": "string", "minLength": 1, "maxLength": AUDIT_USER_CHARS_MAX},
    f"Who acts, for the audit; {SHAPES['auditUser']}; no PAN.",
    required=True,
    example="clerk 7",
)
INDEX: Final[Schema] = {
    "type": "string",
    "pattern": f"^{ZPK_INDEX.pattern}$",
    "description": "Which of the server's pre-shared keys.",
    "examples": ["0"],
}
CONTROL_ID: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": CONTROL_ID_CHARS_MAX,
    "description": "The id of an answer of the Card PIN Control API.",
    "examples": [CONTROL_TOKEN],
}
KEY: Final[Schema] = {
    "type": "string",
    "description": SHAPES["publicKey"],
    "examples": ["MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA…"],
}
HEX: Final[Schema] = {
    "type": "string",
    "minLength": 16,
    "maxLength": 16,
    "pattern": f"^{HEX_BLOCK.pattern}$",
    "description": "ISO 9564-1 format 1, TDES in ECB mode.",
    "examples": ["0123456789ABCDEF"],
}
BASE64: Final[Schema] = {
    "type": "string",
    "description": BASE64_SHAPE,
    "examples": ["tACuB41yyfU="],
}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": [*properties], "properties": properties}


ISSUE: Final = Operation(
    summary="Request PIN Control access token by plasticId",
    tag="PIN Control handling",
    answers={
        201: Answered(
            "Successful creation of the access token", Content(ControlIdIssued), page.NO_STORE
        )
    },
    refusals=problems.refusals(
        *(Unauthorized, Invalid, BadRequest, CardNotFound, EvidenceRefused, CardForbids),
        *(PinUnavailable, ValueNotPossible, TooManyFailures, ServiceUnavailable),
    ),
    parameters=[PLASTIC_ID, AUDIT_USER, CORRELATION_ID],
    body=[Content(_object(scope={"type": "string", "enum": [*SCOPES], "examples": ["VIEW_PIN"]}))],
    security=SERVER,
)
OPENED: Final = Operation(
    summary="Open the webview's address",
    description="As after a reload: only what an app posts gives the page.",
    tag=page.PAGE,
    answers={},
    refusals=page.page_refusals(ControlEnded),
    parameters=[page.LANGUAGE],
)
WEBVIEW: Final = Operation(
    summary="Open the page in a webview",
    description="The control id is consumed when the page's script runs.",
    tag=page.PAGE,
    answers={200: page.page_answer("The page that shows or sets the PIN.")},
    refusals=[
        *page.page_refusals(
            *(ControlEnded, TooManyFailures, ServiceUnavailable, BadRequest), ends=WEBVIEW_ENDS
        ),
        Refusal(INTERNAL[0], "The service cannot be reached", DEFECT, TELL, media_type=page.HTML),
    ],
    parameters=[page.LANGUAGE],
    body=[
        Content(_object(controlId=CONTROL_ID), FORM),
        Content(
            {
                "type": "object",
                "anyOf": [{"required": [name]} for name in NAMES],
                "properties": dict.fromkeys(NAMES, CONTROL_ID),
            },
            example={NAMES[0]: CONTROL_TOKEN},
        ),
    ],
)
FRAME: Final = Operation(
    summary="Open the page in an iframe",
    description="It waits for a message with operation and controlId.",
    tag=page.PAGE,
    answers={200: page.page_answer("The page, which waits.")},
    refusals=[
        *page.page_refusals(ControlEnded, ServiceUnavailable),
        *problems.refusals(),
    ],
    parameters=[
        parameter(
            *("query", "key", TEXT, "The frame key of the client."),
            required=True,
            example="demobank01-frame",
        ),
        page.LANGUAGE,
    ],
)
BY_SCRIPT: Final[Schema] = {
    "type": "object",
    "required": ["controlId"],
    "properties": {
        "controlId": CONTROL_ID,
        "key": {"type": ["string", "null"], "description": "The frame key, in an iframe."},
    },
}
SESSION: Final = page.opening(problems.refusals, PageOpening, body=BY_SCRIPT)
VIEW: Final = Operation(
    summary="Show the PIN as an image",
    description="Spends the control id.",
    tag=page.SCRIPT,
    answers={
        200: Answered(
            "The PIN. Where text is allowed, X-Pin-Session and X-Pin-Grant are good for it once.",
            Content(BINARY, "image/png"),
            {
                **page.NO_STORE,
                "X-Pin-Result": "`shown`.",
                "X-Pin-Last-Four": "Of the card's number.",
            },
        )
    },
    refusals=page.by_page(problems.refusals, TooManyFailures),
    body=[Content(BY_SCRIPT)],
)
DIGITS: Final = page.posted(
    "Show the PIN as text",
    page.by_page(problems.refusals, changed=True),
    of=Digits,
    body={
        "type": "object",
        "required": ["session", "controlToken", "key"],
        "properties": {
            **page.texts("session", "controlToken")["properties"],
            "key": {
                "type": "object",
                "description": "The page's public P-256 key, a JWK.",
                "examples": [{"kty": "EC", "crv": "P-256", "x": "…", "y": "…"}],
            },
        },
    },
)
EXTEND: Final = page.extending(problems.refusals)
SUBMIT: Final = page.submitting(problems.refusals)
CANCEL: Final = page.cancelling(problems.refusals)

OPERATION_ERRORS: Final = (
    *(Unauthorized, Invalid, BadRequest, TypeNotOffered),
    *(TooManyFailures, ServiceUnavailable),
)
refused: Final = partial(problems.refusals, wires=problems.OF_OPERATIONS)


def _operation(
    summary: str,
    of: Model,
    *errors: type[DomainError],
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Schema | None = None,
) -> Operation:
    return Operation(
        summary=summary,
        tag="PIN operations",
        answers={200: Answered(str(of.__doc__), Content(of), page.NO_STORE)},
        refusals=refused(*OPERATION_ERRORS, *errors),
        parameters=[*parameters, AUDIT_USER, CORRELATION_ID],
        body=[] if body is None else [Content(body)],
        security=SERVER,
    )


OF_PLASTIC: Final = (CardNotFound, EvidenceRefused, CardForbids, LimitReached)
OF_SET: Final = (PinRefused, PinForbidden, ValueNotPossible, CounterExhausted)
VIEW_BY_SERVER: Final = _operation(
    *("Get encrypted PIN", PinBlock, *OF_PLASTIC, PinUnavailable),
    parameters=[
        PLASTIC_ID,
        parameter("query", "zpkIndex", INDEX, required=True, example="0"),
    ],
)
SET_BY_SERVER: Final = _operation(
    *("Set PIN", Nothing, *OF_PLASTIC, *OF_SET),
    parameters=[PLASTIC_ID],
    body=_object(zpkIndex=INDEX, pinBlock=HEX),
)
VIEW_BY_DEVICE: Final = _operation(
    *("View PIN (v3)", DevicePin, ControlEnded),
    body=_object(controlId=CONTROL_ID, publicKey=KEY),
)
MAKE_KEY: Final = _operation(
    *("Get TZPK for set PIN (v3)", DeviceKey, ControlEnded, CardNotFound, CardForbids),
    body=_object(controlId=CONTROL_ID, publicKey=KEY),
)
SET_BY_DEVICE: Final = _operation(
    *("Set PIN (v3)", Nothing, ControlEnded, CardNotFound, CardForbids, LimitReached, *OF_SET),
    body=_object(controlId=CONTROL_ID, pinBlock=BASE64),
)
NOT_SERVED: Final = Operation(
    summary="PKI (v2)",
    description="What the contract calls deprecated is not served.",
    tag="PIN operations",
    answers={},
    refusals=refused(statuses=[404])[:1],
    deprecated=True,
)
