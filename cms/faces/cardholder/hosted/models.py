"""What apps and the scripts of pages get, as typed members; the contract's where it names them."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cms.domain.cards import CardType
from cms.faces.cardholder.page.models import CONTROL_TOKEN, HOST, Hidden, PageOpening

Moment = Annotated[
    str, Meta(examples=["2026-01-31T12:00:00Z"], extra_json_schema={"format": "date-time"})
]
ControlToken = Annotated[
    str,
    Meta(
        description="Lives for 10 minutes, and is good once.",
        examples=[CONTROL_TOKEN],
        extra_json_schema={"format": "uuid"},
    ),
]


class CardStatus(StrEnum):
    """The contract's words for the state of a card."""

    INACTIVE = "INACTIVE"
    ACTIVE = "ACTIVE"
    BLOCKED = "BLOCKED"


class ImageToken(Hidden, rename="camel"):
    """A control token for an image of the PIN."""

    token: ControlToken
    image_url: Annotated[
        str,
        Meta(
            description="For the `src` of an image. Never log it.",
            examples=[f"{HOST}/details-image?token={CONTROL_TOKEN}"],
            extra_json_schema={"format": "uri"},
        ),
    ]


class PageToken(Hidden, rename="camel"):
    """A control token for the page on which the PIN is set."""

    token: ControlToken
    hosted_page_url: Annotated[
        str,
        Meta(
            description="To be redirected to, or framed.",
            examples=[f"{HOST}/pin-direct/set?token={CONTROL_TOKEN}"],
            extra_json_schema={"format": "uri"},
        ),
    ]


class CardPin(msgspec.Struct, rename="camel"):
    """What an app may know of the PIN."""

    is_set: Annotated[bool, Meta(examples=[True])]
    changed_at: Moment | None
    can_view: Annotated[bool, Meta(examples=[True])]
    can_set: Annotated[bool, Meta(examples=[True])]


class Card(msgspec.Struct, rename="camel"):
    """The cardholder's card."""

    id: Annotated[str, Meta(examples=["card-0001"])]
    expiry_date: Annotated[str, Meta(pattern="^20[0-9]{2}/[0-9]{2}$", examples=["2029/12"])]
    pan_last4: Annotated[str, Meta(pattern="^[0-9]{4}$", examples=["1111"])]
    status: CardStatus
    type: CardType
    is_freezable: Annotated[bool, Meta(examples=[False])]
    ordered_at: Moment
    pin: CardPin


class HostedOpening(PageOpening, rename="camel", kw_only=True):
    """What the set page must know, and where it leads."""

    embedded: Annotated[bool, Meta(examples=[False])]
    target_origins: Annotated[
        Sequence[str], Meta(description="Of the frame's parents, which hear of the end.")
    ]
    redirect_url: Annotated[str, Meta(examples=["https://app.example/cards"])] | None


class FieldError(msgspec.Struct):
    """What is wrong with a member."""

    field: Annotated[str, Meta(examples=["customCss.backgroundColor"])]
    message: Annotated[str, Meta(examples=["Invalid hex color format"])]


class HostedError(msgspec.Struct):
    """Every answer that is not 2xx, but for images and pages."""

    message: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET
