"""What apps send and get.

Source: the published contract of control tokens to view and to set a PIN. Members that it does not
know are ignored; those it knows are strict: no text for a number, no null.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cms.domain.cards import CardState
from cms.domain.control import CardOfHolder, require_cardholder_may
from cms.domain.errors import CardForbids, Invalid
from cms.faces.cardholder.hosted.models import Card, CardPin, CardStatus
from cms.faces.cardholder.hosted.origins import leads_to
from cms.faces.cardholder.page.style import (
    PageStyle,
    StyleError,
    image_members,
    parse_image,
    parse_page,
    style_schema,
)
from cms.faces.operation import TEXT, Schema
from cms.services.cardholder.hosted import Wish
from cms.services.cardholder.permission import can_be_shown, takes_pins
from crypto.errors import JoseError
from crypto.jose import json_object
from crypto.pin_image import ImageStyle
from hsm.manifest.clients import AppClient
from hsm.manifest.model import Manifest
from hsm.port import Face, Purpose

STATUS: Final[Mapping[CardState, CardStatus]] = {
    CardState.INACTIVE: CardStatus.INACTIVE,
    CardState.ACTIVE: CardStatus.ACTIVE,
    CardState.BLOCKED: CardStatus.BLOCKED,
    # The contract has no word for the end.
    CardState.CLOSED: CardStatus.BLOCKED,
}


def wish_schema(purpose: Purpose) -> Schema:
    """Describe what :func:`read_wish` reads."""
    if purpose is Purpose.VIEW:
        style = style_schema(image_members(ImageStyle()))
        return {"type": "object", "properties": {"customCss": style}}
    redirect = {"description": "At an origin that is registered for the app.", "format": "uri"}
    return {
        "type": "object",
        "properties": {
            "redirectUrl": {**TEXT, **redirect, "examples": ["https://app.example/cards"]},
            "isEmbedded": {"type": "boolean", "default": False, "examples": [False]},
            "customCss": style_schema(PageStyle().members()),
        },
    }


def read_wish(body: bytes, purpose: Purpose, client: AppClient) -> Wish:
    """Read the body of a request for a control token; there need not be one.

    Raises:
        Invalid: it is not as published, or names an origin that the client did not register.
    """
    try:
        members = json_object.parse(body) if body.strip() else {}
    except JoseError:
        raise Invalid(("body", "Must be a JSON object")) from None
    errors: list[tuple[str, str]] = []
    style = _read_style(members.get("customCss", {}), purpose, errors)
    embedded = members.get("isEmbedded", False)
    if not isinstance(embedded, bool):
        errors.append(("isEmbedded", "Must be true or false"))
    elif embedded and not client.embed_origins:
        errors.append(("isEmbedded", "No origin is registered to embed the page"))
    redirect_url = members.get("redirectUrl")
    if "redirectUrl" in members and not isinstance(redirect_url, str):
        errors.append(("redirectUrl", "Must be text"))
    if embedded is True or not isinstance(redirect_url, str):
        redirect_url = None
    elif not leads_to(redirect_url, client.redirect_origins):
        errors.append(("redirectUrl", "Must be a URL at a registered origin"))
    if errors:
        raise Invalid(*errors)
    return Wish(style, redirect_url, embedded is True)


def _read_style(
    members: object, purpose: Purpose, errors: list[tuple[str, str]]
) -> Mapping[str, object]:
    if not isinstance(members, dict):
        errors.append(("customCss", "Must be an object"))
        return {}
    style = parse_image(members) if purpose is Purpose.VIEW else parse_page(members)
    if isinstance(style, ImageStyle):
        return image_members(style)
    if isinstance(style, PageStyle):
        return style.members()
    errors.extend((f"customCss.{error.member}", error.message) for error in style)
    return {}


def image_style(members: Mapping[str, object]) -> ImageStyle:
    """Return the style of a stored grant; of one for a page, its colours."""
    style: ImageStyle | list[StyleError] = parse_image(members)
    return style if isinstance(style, ImageStyle) else ImageStyle()


def page_style(members: Mapping[str, object]) -> PageStyle:
    """Return the style of a stored grant."""
    style = parse_page(members)
    return style if isinstance(style, PageStyle) else PageStyle()


def card_answer(card: CardOfHolder, manifest: Manifest) -> Card:
    """Build the answer to card status."""
    return Card(
        id=card.card_id,
        expiry_date=f"20{card.expiry[2:]}/{card.expiry[:2]}",
        pan_last4=card.last_four,
        status=STATUS[card.state],
        type=card.card_type,
        is_freezable=False,
        ordered_at=rfc3339(card.created_at),
        pin=CardPin(
            is_set=card.pin_is_set,
            changed_at=None if card.pin_changed_at is None else rfc3339(card.pin_changed_at),
            can_view=_allowed(Purpose.VIEW, card.state) and can_be_shown(card.pin_type),
            can_set=_allowed(Purpose.SET, card.state) and takes_pins(manifest),
        ),
    )


def rfc3339(time: datetime) -> str:
    """Write a time in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _allowed(purpose: Purpose, state: CardState) -> bool:
    try:
        require_cardholder_may(Face.HOSTED, purpose, state, personalised=True)
    except CardForbids:
        return False
    return True
