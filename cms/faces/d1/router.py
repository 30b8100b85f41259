"""D1 face: the calls that Thales D1 makes on the issuer.

Source: Thales D1 "PIN Management API" and "Card Activation API" (D1-Public-OUT-v1). Answers come
in a fixed order: who calls, whose issuer, path, card, its state, and only then the body. FastAPI
reads bodies before anything of ours runs, so handlers take the request itself.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, status
from fastapi.responses import JSONResponse

from cms.domain.cards import Verb
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    DomainError,
    Field,
    IssuerNotFound,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ServiceUnavailable,
    TooManyFailures,
)
from cms.domain.records import Actor
from cms.faces.d1.auth import D1Auth
from cms.faces.d1.problems import documented, reason
from cms.faces.d1.schemas import (
    CARD_PATH,
    PUT_PIN_BODY,
    counter_answer,
    pin_answer,
    read_envelope,
)
from cms.faces.request import read_body
from cms.persistence.store import Store
from cms.services.d1.access import Caller
from cms.services.d1.pins import Pins
from hsm.port import CardRef

CARD = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}"
NO_STORE = {"Cache-Control": "no-store"}
PHYSICAL_CARD = "/cms/api/v1/issuers/{issuerId}/physicalCards/{cardId}"


def add_d1_routes(app: FastAPI, auth: D1Auth, pins: Pins, store: Store) -> None:
    """Add the routes of the D1 face to its listener's app.

    To the app itself: a router that is included costs each request a third of FastAPI's share.
    """

    @asynccontextmanager
    async def answered(request: Request, verb: Verb) -> AsyncIterator[tuple[Caller, Actor]]:
        """Name the caller; record the refusal when what follows fails."""
        caller = await auth.caller(request)
        actor = Actor(caller.client_id, request.scope["log"]["correlation_id"])
        try:
            if caller.issuer.issuer_id != request.path_params["issuerId"]:
                raise IssuerNotFound
            yield caller, actor
        except ServiceUnavailable:
            raise
        except DomainError as error:
            card_id = _own_card_id(request, caller)
            await store.refuse(caller.issuer.issuer_id, card_id, verb, reason(error), actor)
            raise

    @app.get(
        f"{CARD}/pin",
        summary="Get Card PIN",
        responses=documented(BadRequest, CardForbids, PinUnavailable, CardNotFound),
        openapi_extra={"parameters": CARD_PATH},
    )
    async def get_pin(request: Request) -> Response:
        async with answered(request, Verb.GET_PIN) as (caller, actor):
            card = _card(request)
            encrypted = await pins.get_pin(caller.issuer, card, actor)
            _note_card(request, card)
            return JSONResponse(pin_answer(encrypted, caller.issuer.wire), headers=NO_STORE)

    @app.put(
        f"{CARD}/pin",
        summary="Set Card PIN",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=documented(
            BadRequest, PinRefused, CardForbids, PinForbidden, CardNotFound, TooManyFailures
        ),
        openapi_extra={"parameters": CARD_PATH, "requestBody": PUT_PIN_BODY},
    )
    async def set_pin(request: Request) -> Response:
        async with answered(request, Verb.SET_PIN) as (caller, actor):
            card = _card(request)
            try:
                envelope = read_envelope(await read_body(request), caller.issuer.wire)
            except BadRequest as error:
                envelope = error
            await pins.set_pin(caller.issuer, card, envelope, actor)
            _note_card(request, card)
            return Response(status_code=status.HTTP_204_NO_CONTENT, headers=NO_STORE)

    @app.get(
        f"{CARD}/pin/changeCounter",
        summary="Get PIN Change Counter",
        responses=documented(BadRequest, CardForbids, CardNotFound),
        openapi_extra={"parameters": CARD_PATH},
    )
    async def change_counter(request: Request) -> Response:
        async with answered(request, Verb.READ_COUNTER) as (caller, _):
            card = _card(request)
            counter = await pins.change_counter(card)
            _note_card(request, card)
            return JSONResponse(counter_answer(counter, caller.issuer.wire), headers=NO_STORE)

    @app.post(
        f"{PHYSICAL_CARD}/activate",
        summary="Activate Card",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=documented(BadRequest, CardForbids, CardNotFound),
        openapi_extra={"parameters": CARD_PATH},
    )
    async def activate(request: Request) -> Response:
        async with answered(request, Verb.ACTIVATE) as (_, actor):
            card = _card(request)
            await pins.activate(card, actor)
            _note_card(request, card)
            return Response(status_code=status.HTTP_204_NO_CONTENT, headers=NO_STORE)


def _card(request: Request) -> CardRef:
    try:
        return CardRef(request.path_params["issuerId"], request.path_params["cardId"])
    except ValueError:
        raise BadRequest(Field.CARD_ID) from None


def _own_card_id(request: Request, caller: Caller) -> str | None:
    """Return the card id for the audit: another issuer may have a card of the same id."""
    try:
        card = _card(request)
    except BadRequest:
        return None
    return card.card_id if card.issuer_id == caller.issuer.issuer_id else None


def _note_card(request: Request, card: CardRef) -> None:
    """Log the card id, now that the card is known to exist: before, it may be anything."""
    request.scope["log"]["card_id"] = card.card_id
