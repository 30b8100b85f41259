"""What is said of the hosted face's calls."""

from collections.abc import Sequence
from typing import Final

from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ClientKeyInvalid,
    ClientKeyMissing,
    ControlEnded,
    DomainError,
    EvidenceRefused,
    Invalid,
    PinUnavailable,
    ServiceUnavailable,
    StepUpRequired,
    TooManyFailures,
    Unauthorized,
    ValueNotPossible,
)
from cms.faces.cardholder.hosted.image import KINDS
from cms.faces.cardholder.hosted.models import (
    Card,
    HostedError,
    HostedOpening,
    ImageToken,
    PageToken,
)
from cms.faces.cardholder.hosted.problems import refusals
from cms.faces.cardholder.hosted.schemas import wish_schema
from cms.faces.cardholder.page import described as page
from cms.faces.cardholder.page.answers import ENDS
from cms.faces.cardholder.page.assets import MEDIA_TYPES
from cms.faces.cardholder.page.models import CONTROL_TOKEN
from cms.faces.operation import (
    BINARY,
    CORRELATION_ID,
    JSON,
    TEXT,
    About,
    Answered,
    Content,
    Operation,
    parameter,
)
from cms.faces.refusals import Refusal, refusal_of
from hsm.port import Purpose

PNG: Final = "image/png"
ABOUT: Final = About(
    name="hosted",
    title="Hosted face",
    description=(
        "What apps and cardholders' devices call: the published contract of control tokens to view"
        " and to set a PIN. Answers come in a fixed order: 499, 498, 401, 403, 404, 422."
    ),
    error=HostedError,
    security={
        "clientKey": {"type": "apiKey", "in": "header", "name": "x-client-key"},
        "cardholder": {
            "type": "http",
            "scheme": "bearer",
            "description": "The cardholder's access token, of the issuer's identity provider.",
        },
    },
    tags={
        "card": "An app, for the cardholder of a card.",
        page.PAGE: "Whoever has a control token.",
        page.SCRIPT: "The script of our own page, and nobody else.",
    },
)
CALLER: Final = ("clientKey", "cardholder")
HEADERS: Final = (
    parameter(
        *("header", "x-us-env", {"enum": ["true", "false"], "default": "false"}),
        "`true`: the request is for the second deployment, and is sent on to it.",
    ),
    CORRELATION_ID,
)
TOKEN: Final = parameter(
    *("query", "token", TEXT, "A control token."), required=True, example=CONTROL_TOKEN
)
KNOWN: Final = (ClientKeyMissing, ClientKeyInvalid, Unauthorized)
ISSUING: Final = (StepUpRequired, CardForbids, CardNotFound, EvidenceRefused, Invalid)
ISSUED: Final = {**page.NO_STORE, "X-Expires-At": "When the control token is over, RFC 3339."}


def _issuing(
    summary: str, purpose: Purpose, of: type[ImageToken | PageToken], *errors: type[DomainError]
) -> Operation:
    return Operation(
        summary=summary,
        tag="card",
        answers={200: Answered("A control token.", Content(of), ISSUED)},
        refusals=refusals(*KNOWN, *ISSUING, *errors, ServiceUnavailable),
        parameters=HEADERS,
        body=[Content(wish_schema(purpose))],
        body_required=False,
        security=CALLER,
    )


VIEW_TOKEN: Final = _issuing("Generate PIN View Token", Purpose.VIEW, ImageToken, PinUnavailable)
SET_TOKEN: Final = _issuing("Generate PIN Set Token", Purpose.SET, PageToken, ValueNotPossible)
STATUS: Final = Operation(
    summary="Get Card Status",
    tag="card",
    answers={200: Answered("The cardholder's card.", Content(Card), page.NO_STORE)},
    refusals=refusals(*KNOWN, CardNotFound, Invalid, ServiceUnavailable),
    parameters=HEADERS,
    security=CALLER,
)
PREFLIGHT: Final = Operation(
    summary="CORS preflight",
    description="Pages at the origins of apps may read the answers.",
    tag="card",
    answers={204: Answered("What may be sent from where.")},
)


def _image_refusals() -> Sequence[Refusal]:
    return [
        refusal_of(
            *(error, ENDS[error][0], f"an image: {kind}"),
            media_type=PNG,
        )
        for error, (kind, _) in KINDS.items()
    ]


IMAGE: Final = Operation(
    summary="Show the PIN as an image",
    description=(
        "Spends the control token, if somebody looks: not for a Range, a prefetch or a preview. An"
        " image that says why there is no PIN comes with the status that is given here, or with 200"
        " where the app wants that."
    ),
    tag=page.PAGE,
    answers={
        200: Answered(
            "The PIN.",
            Content(BINARY, PNG),
            {**page.NO_STORE, "X-Pin-Result": "`shown`, `ended` or `failed`."},
        ),
        204: Answered("Nobody looks yet: the control token stays."),
        416: Answered("There are no parts of an image."),
    },
    refusals=[*_image_refusals(), *refusals(BadRequest)],
    parameters=[TOKEN],
)
IMAGE_HEAD: Final = Operation(
    summary="Ask for the image's headers",
    tag=page.PAGE,
    answers={200: Answered("The control token stays.")},
)
IMAGE_OPTIONS: Final = Operation(
    summary="Ask for the image's methods",
    tag=page.PAGE,
    answers={204: Answered("They are in Allow.", headers={"Allow": "GET, HEAD, OPTIONS."})},
)
SET_PAGE: Final = Operation(
    summary="Open the page on which a PIN is set",
    description="The control token is consumed when the page's script runs.",
    tag=page.PAGE,
    answers={200: page.page_answer("The page.")},
    refusals=[
        *page.page_refusals(ControlEnded, TooManyFailures, ServiceUnavailable),
        *refusals(BadRequest),
    ],
    parameters=[TOKEN, page.LANGUAGE],
)
SESSION: Final = page.opening(refusals, HostedOpening, "token")
EXTEND: Final = page.extending(refusals)
SUBMIT: Final = page.submitting(refusals)
CANCEL: Final = page.cancelling(refusals)
ASSET: Final = Operation(
    summary="Get a file of a page",
    tag=page.PAGE,
    answers={
        200: Answered(
            "Never changes: its path has the hash of its bytes.",
            otherwise=[
                Content({"type": "object"} if media_type == JSON else TEXT, media_type)
                for media_type in MEDIA_TYPES.values()
            ],
        )
    },
    refusals=refusals(statuses=[404]),
    parameters=[
        parameter("path", "hash", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        parameter("path", "name", example="page.css"),
    ],
)
