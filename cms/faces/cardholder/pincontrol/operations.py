"""``/pin``: PINs as blocks, for an issuer's server or, through it, for a cardholder's device.

Answers come in a fixed order: 401, 400, 404, 403. What travels to and from a device nobody between
it and the vault can read.

Source: the published contract of the Card PIN API: v2 with pre-shared keys, v3 with PKI. What it
calls deprecated is not served.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from cms.domain.cards import Verb
from cms.domain.control import Grant
from cms.domain.errors import BadRequest, Invalid
from cms.domain.records import Actor
from cms.faces.answer import json_answer
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.cardholder.pincontrol import described as said
from cms.faces.cardholder.pincontrol.models import DeviceKey, DevicePin, Nothing, PinBlock
from cms.faces.cardholder.pincontrol.operation_requests import (
    read_device,
    read_key,
    read_set,
    read_view,
)
from cms.faces.cardholder.pincontrol.server import Callers, actor_of
from cms.faces.request import address, only, read_body
from cms.faces.routes import Route
from cms.services.cardholder.apps import ServerApp
from cms.services.cardholder.device_set import DeviceSet
from cms.services.cardholder.pin_view import PinView
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.cardholder.pre_shared import PreSharedKey, ServerAsking
from crypto.secret import Secret
from hsm.port import Purpose

PREFIX: Final = "/pin/"
PLASTIC_PATH: Final = "/pin/v2/{plasticId}"
#: Deprecated, and shaped as :data:`PLASTIC_PATH`; the others have no path of ours at all.
NOT_SERVED: Final = ("/pin/v2/view", "/pin/v2/set")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operations:
    """Answers an issuer's server."""

    control_ids: ControlIds
    pin_view: PinView
    pre_shared_key: PreSharedKey
    device_set: DeviceSet
    proxy_peers: frozenset[str]

    def routes(self, callers: Callers) -> Sequence[Route]:
        """Return the table of the operations; every path starts with :data:`PREFIX`."""
        by_password = callers.by_password
        return (
            *(Route("GET POST", path, not_served, said.NOT_SERVED) for path in NOT_SERVED),
            Route("GET", PLASTIC_PATH, by_password(self.view_by_server), said.VIEW_BY_SERVER),
            Route("POST", PLASTIC_PATH, by_password(self.set_by_server), said.SET_BY_SERVER),
            Route("POST", "/pin/v3/view", by_password(self.view_by_device), said.VIEW_BY_DEVICE),
            Route("POST", "/pin/v3/set/tzpk", by_password(self.make_key), said.MAKE_KEY),
            Route("POST", "/pin/v3/set", by_password(self.set_by_device), said.SET_BY_DEVICE),
        )

    async def view_by_server(
        self, app: ServerApp, password: Secret[str], request: Request
    ) -> Response:
        """Hand out a PIN under a pre-shared key."""
        actor = actor_of(app, request)
        plastic, index = request.path_params["plasticId"], only(request, "zpkIndex")
        asked = await self._read(
            app, Verb.GET_PIN, actor, lambda: read_view(plastic, index, actor.audit_user)
        )
        asking = ServerAsking(app, password, asked.plastic_id, asked.zpk_index, actor)
        block = await self.pre_shared_key.view(asking)
        return json_answer(PinBlock(block.hex().upper()), NO_STORE)

    async def set_by_server(
        self, app: ServerApp, password: Secret[str], request: Request
    ) -> Response:
        """Set a PIN that comes under a pre-shared key."""
        actor, plastic = actor_of(app, request), request.path_params["plasticId"]
        asked = await self._read_body(
            *(app, Verb.SET_PIN, actor, request),
            lambda body: read_set(plastic, actor.audit_user, body),
        )
        asking = ServerAsking(app, password, asked.plastic_id, asked.zpk_index, actor)
        await self.pre_shared_key.set_pin(asking, asked.block)
        return json_answer(Nothing(), NO_STORE)

    async def view_by_device(
        self, app: ServerApp, _password: Secret[str], request: Request
    ) -> Response:
        """Consume a control id for the PIN, enciphered to a device."""
        actor = actor_of(app, request)
        asked = await self._read_body(
            *(app, Verb.GET_PIN, actor, request), lambda body: read_key(actor.audit_user, body)
        )
        await self._grant(asked.control_id, Purpose.VIEW, app, actor, request)
        made = await self.pin_view.device_block(asked.control_id, asked.public_key, actor)
        return json_answer(DevicePin(_base64(made.tzpk), _base64(made.block)), NO_STORE)

    async def make_key(self, app: ServerApp, _password: Secret[str], request: Request) -> Response:
        """Make the key under which a device sends a PIN; the control id stays as it is."""
        actor = actor_of(app, request)
        asked = await self._read_body(
            *(app, Verb.SET_PIN, actor, request), lambda body: read_key(actor.audit_user, body)
        )
        grant = await self._grant(asked.control_id, Purpose.SET, app, actor, request)
        tzpk = await self.device_set.key(asked.control_id, grant, asked.public_key, actor)
        return json_answer(DeviceKey(_base64(tzpk)), NO_STORE)

    async def set_by_device(
        self, app: ServerApp, _password: Secret[str], request: Request
    ) -> Response:
        """Consume a control id for a PIN that a device sends."""
        actor = actor_of(app, request)
        asked = await self._read_body(
            *(app, Verb.SET_PIN, actor, request), lambda body: read_device(actor.audit_user, body)
        )
        grant = await self._grant(asked.control_id, Purpose.SET, app, actor, request)
        await self.device_set.set_pin(asked.control_id, grant, asked.block, actor)
        return json_answer(Nothing(), NO_STORE)

    async def _grant(
        self, control_id: str, purpose: Purpose, app: ServerApp, actor: Actor, request: Request
    ) -> Grant:
        grant = await self.control_ids.of_server(
            *(control_id, purpose, app, address(request, self.proxy_peers)), actor
        )
        request.scope["log"] |= {"card_id": grant.card_id}
        return grant

    async def _read_body(
        self,
        app: ServerApp,
        event: Verb,
        actor: Actor,
        request: Request,
        read: Callable[[bytes], T],
    ) -> T:
        """Read a request with a body; that it cannot be read is audited."""
        try:
            body = await read_body(request)
        except BadRequest as error:
            await self.control_ids.refused(app, None, event, error, actor)
            raise
        return await self._read(app, event, actor, lambda: read(body))

    async def _read(self, app: ServerApp, event: Verb, actor: Actor, read: Callable[[], T]) -> T:
        try:
            return read()
        except Invalid as error:
            await self.control_ids.refused(app, None, event, error, actor)
            raise


async def not_served(_request: Request) -> Response:
    """Answer as a path that is none."""
    raise HTTPException(404)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
