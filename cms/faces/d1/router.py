"""What Thales D1 calls on a card of the issuer.

Source: Thales D1 "PIN Management API" and "Card Activation API" (D1-Public-OUT-v1).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response

from cms.domain.cards import Verb
from cms.domain.errors import BadRequest, PinRefused
from cms.domain.records import Actor
from cms.faces.answer import encoded, json_answer, no_content
from cms.faces.d1.auth import D1Auth
from cms.faces.d1.described import ACTIVATE, COUNTER, GET_PIN, SET_PIN
from cms.faces.d1.schemas import counter_answer, loggable, parse_envelope, pin_answer
from cms.faces.request import read_body
from cms.faces.routes import Handler, Route
from cms.services.audit import reason_of
from cms.services.d1.access import Caller
from cms.services.d1.calls import CardCalls
from cms.services.d1.pins import PinEnvelope, Pins
from hsm.port import CardRef

PIN: Final = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}/pin"
PHYSICAL_CARD: Final = "/cms/api/v1/issuers/{issuerId}/physicalCards/{cardId}"
NO_STORE: Final = encoded({"Cache-Control": "no-store"})
NO_CONTENT: Final = no_content(NO_STORE)

CardHandler = Callable[[Caller, CardRef, Actor, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class CardRoutes:
    """The calls on a card; each is made by a client of the issuer that the path names."""

    auth: D1Auth
    calls: CardCalls
    pins: Pins

    def routes(self) -> tuple[Route, ...]:
        """Return the table: what is called, by whom and for what, and what is answered."""
        by_client = self._by_client
        counter = f"{PIN}/changeCounter"
        return (
            Route("GET", PIN, by_client(Verb.GET_PIN, self.get_pin), GET_PIN),
            Route("PUT", PIN, by_client(Verb.SET_PIN, self.set_pin), SET_PIN),
            Route("GET", counter, by_client(Verb.READ_COUNTER, self.change_counter), COUNTER),
            Route(
                "POST",
                f"{PHYSICAL_CARD}/activate",
                by_client(Verb.ACTIVATE, self.activate),
                ACTIVATE,
            ),
        )

    def _by_client(self, verb: Verb, answer: CardHandler) -> Handler:
        """Let a client of the card's issuer call *answer*; here stands the order of answers.

        What TLS refuses comes before all of them, at the listener.
        """

        async def handler(request: Request) -> Response:
            members, log = request.path_params, request.scope["log"]
            caller = await self.auth.caller(request)  # 401
            actor = Actor(caller.client_id, log["correlation_id"])

            async def call(card: CardRef) -> Response:
                response = await answer(caller, card, actor, request)
                # now that it is known to exist; before, it may be a PAN
                log["card_id"] = card.card_id
                return response

            return await self.calls.audited(
                *(verb, caller, members["issuerId"], members["cardId"], actor),
                call,  # another issuer 404, path 400; unknown card 404, its state 403, body 400
            )

        return handler

    async def get_pin(self, caller: Caller, card: CardRef, actor: Actor, *_: object) -> Response:
        """Hand out the PIN, encrypted to D1."""
        encrypted = await self.pins.get_pin(card, actor)
        return json_answer(pin_answer(encrypted, caller.manifest.wire), NO_STORE)

    async def set_pin(
        self, caller: Caller, card: CardRef, actor: Actor, request: Request
    ) -> Response:
        """Replace the PIN by the one in the body."""
        wire, body = caller.manifest.wire, b""
        envelope: PinEnvelope | BadRequest
        # What is wrong with the body is answered in its turn, after card and state.
        try:
            body = await read_body(request)
            envelope = parse_envelope(body, wire)
        except BadRequest as error:
            envelope = error
        try:
            await self.pins.set_pin(card, envelope, actor)
        except (BadRequest, PinRefused) as refused:
            request.scope["log"] |= {"reason": reason_of(refused), **loggable(body, wire)}
            raise
        return NO_CONTENT

    async def change_counter(self, caller: Caller, card: CardRef, *_: object) -> Response:
        """Count the changes of the PIN."""
        counter = await self.pins.change_counter(card)
        return json_answer(counter_answer(counter, caller.manifest.wire), NO_STORE)

    async def activate(self, _: Caller, card: CardRef, actor: Actor, *__: object) -> Response:
        """Make the card active; a body is ignored."""
        await self.pins.activate(card, actor)
        return NO_CONTENT
