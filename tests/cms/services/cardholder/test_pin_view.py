"""A PIN as text: once, to a page that was shown its image, where its issuer allows it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.domain.control import Grant
from cms.domain.errors import ControlEnded
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.services.audit import Audit
from cms.services.cardholder.apps import Apps, ServerApp, Servers
from cms.services.cardholder.control_tokens import new_session
from cms.services.cardholder.pin_view import PinView
from cms.services.directory import Directory
from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm.port import CardRef, Face, Purpose
from hsm.vault import Vault
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import (
    SECRET,
    add_clients,
    name_card,
    open_issuer,
    remove_client,
    run_sql,
    server_client,
)

pytestmark = pytest.mark.anyio
ISSUER_ID, USER, AUDIT_USER = "testbank01", "testbank01-server", "clerk 7"
PLASTIC_ID, PIN = "7001", "5938"
ACTOR = Actor(USER, "call-1", AUDIT_USER)
STYLE = ImageStyle()
VIEW, SET = Purpose.VIEW, Purpose.SET


@dataclass(frozen=True)
class ShownPage:
    """What a page knows that was shown an image."""

    control_token: str
    session: str
    """Empty: the issuer does not allow text."""
    grant_id: str = ""


class PinViews:
    """One issuer with a card that has a PIN, and a face that shows it."""

    def __init__(self, pin_service: PinService) -> None:
        self.pin_service = pin_service
        self.control_store = ControlStore(pin_service.store, Secret(b"k" * 32))
        self.key = JWK.generate(kty="EC", crv="P-256")
        self.public = self.key.export_public(as_dict=True)

    def at(self, face: Face) -> PinView:
        store, vault = self.pin_service.store, self.pin_service.vault
        directory = Directory(store, vault)
        clients = Servers(directory) if face is Face.PINCONTROL else Apps(directory)
        return PinView(face, self.control_store, clients, vault, Audit(store))

    async def control_token(self, purpose: Purpose = VIEW) -> str:
        plastic = await self.control_store.plastic(ISSUER_ID, PLASTIC_ID)
        granted = await self.pin_service.vault.run(
            lambda vault: vault.grant_server(
                *(USER, Secret(SECRET), PLASTIC_ID, purpose),
                *(CardRef(ISSUER_ID, "card-1"), plastic.sealed_record, plastic.counter),
            )
        )
        grant = Grant(
            *(ISSUER_ID, "card-1", USER, Face.PINCONTROL, purpose),
            *(granted.grant_id, granted.grant, {}),
            audit_user=AUDIT_USER,
        )
        await self.control_store.issue(granted.control_token, grant, plastic.counter, ACTOR)
        return granted.control_token

    async def setting_session(self) -> str:
        control_token = await self.control_token(SET)
        session = new_session(control_token)
        await self.control_store.open(control_token, session, SET, Face.PINCONTROL)
        return session

    async def shown(self) -> "ShownPage":
        reveal, control_token = self.at(Face.PINCONTROL), await self.control_token()
        shown = await reveal.page_image(control_token, await self.app(), STYLE, ACTOR)
        return ShownPage(control_token, shown.session or "", shown.grant_id)

    async def app(self) -> ServerApp:
        directory = Directory(self.pin_service.store, self.pin_service.vault)
        app = await Servers(directory).find(USER)
        assert app is not None
        return app

    async def text(self, page: "ShownPage", face: Face = Face.PINCONTROL) -> str:
        return await self.at(face).text(
            page.session, page.control_token, self.public, ACTOR.correlation_id
        )

    def seen(self) -> list[tuple[object, ...]]:
        return run_sql(
            self.pin_service.url,
            "SELECT event, reason, actor, audit_user FROM audit_events"
            " WHERE event LIKE 'pin.get%%' ORDER BY event_id",
            *(),
        )

    def ends(self) -> list[tuple[object, ...]]:
        return run_sql(
            self.pin_service.url, "SELECT end_reason FROM control_tokens ORDER BY issued_at"
        )


@pytest.fixture
async def pin_views(
    database_url: str, vault: Vault, request: pytest.FixtureRequest
) -> AsyncIterator[PinViews]:
    """An issuer that allows text unless the test's parameter says otherwise."""
    policy = getattr(request, "param", {"text_reveal": True})
    sample_issuer = open_issuer(database_url, vault, policy=policy)
    add_clients(vault, ISSUER_ID, server_client(USER))
    name_card(database_url, vault, sample_issuer, "card-1", plastic_id=PLASTIC_ID)
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        await pin_service.put(sample_issuer.pin_jwe(PIN))
        yield PinViews(pin_service)


async def test_the_text_is_for_the_page_that_was_shown_the_image(pin_views: PinViews) -> None:
    page = await pin_views.shown()
    read = JWE(algs=["ECDH-ES", "A256GCM"])
    read.deserialize(await pin_views.text(page), pin_views.key)
    assert json.loads(read.payload) == {"grantId": page.grant_id, "digits": PIN}
    who = (USER, AUDIT_USER)
    assert pin_views.seen() == [
        ("pin.get", "pincontrol", *who),
        ("pin.get", "pincontrol text", *who),
    ]
    with pytest.raises(ControlEnded):
        await pin_views.text(page)
    assert pin_views.ends() == [("shown",)]
    assert len(pin_views.seen()) == 2


@pytest.mark.parametrize("pin_views", [{}, {"text_reveal": False}], indirect=True)
async def test_an_issuer_that_does_not_allow_text_has_no_session(pin_views: PinViews) -> None:
    assert (await pin_views.shown()).session == ""
    assert pin_views.ends() == [("shown",)]
    # Nor does a session of some other making get it.
    control_token = await pin_views.control_token()
    page = ShownPage(control_token, new_session(control_token))
    await pin_views.control_store.consume(page.control_token, VIEW, Face.PINCONTROL, page.session)
    with pytest.raises(ControlEnded):
        await pin_views.text(page)
    assert pin_views.ends() == [("shown",), ("shown",)]


async def test_a_session_of_another_face_or_purpose_is_none(pin_views: PinViews) -> None:
    page = await pin_views.shown()
    with pytest.raises(ControlEnded):
        await pin_views.text(page, Face.HOSTED)
    setting = await pin_views.setting_session()
    control_token = await pin_views.control_token()
    for wrong in (setting, control_token, "", "\ud800"):
        with pytest.raises(ControlEnded):
            await pin_views.text(replace(page, session=wrong))
    assert pin_views.ends() == [(None,), (None,), (None,)]
    assert await pin_views.text(page)


async def test_a_session_without_its_control_token_gets_no_text(pin_views: PinViews) -> None:
    for other in (str(uuid4()), await pin_views.control_token(), ""):
        page = await pin_views.shown()
        with pytest.raises(ControlEnded):
            await pin_views.text(replace(page, control_token=other))
        assert pin_views.seen()[-1][:2] == ("pin.get.failed", "CONTROL_ENDED")
        # Nor is it tried again.
        with pytest.raises(ControlEnded):
            await pin_views.text(page)
    page = await pin_views.shown()
    assert await pin_views.text(replace(page, control_token=page.control_token.upper()))


async def test_a_control_token_of_another_face_or_purpose_is_not_shown(pin_views: PinViews) -> None:
    control_token, setting = await pin_views.control_token(), await pin_views.control_token(SET)
    with pytest.raises(ControlEnded):
        await pin_views.at(Face.HOSTED).image(control_token, STYLE, ACTOR)
    with pytest.raises(ControlEnded):
        await pin_views.at(Face.PINCONTROL).image(setting, STYLE, ACTOR)
    assert pin_views.ends() == [(None,), (None,)]
    assert pin_views.seen() == []


async def test_closing_ends_a_session_for_text_and_no_other(pin_views: PinViews) -> None:
    reveal, page = pin_views.at(Face.PINCONTROL), await pin_views.shown()
    setting = await pin_views.setting_session()
    for secret in (setting, "unknown"):
        await reveal.close(secret)
    assert pin_views.ends() == [(None,), (None,)]
    for _ in range(2):
        await reveal.close(page.session)
    assert pin_views.ends() == [("shown",), (None,)]
    with pytest.raises(ControlEnded):
        await pin_views.text(page)


async def test_a_client_out_of_service_gets_no_text(pin_views: PinViews) -> None:
    page = await pin_views.shown()
    await pin_views.pin_service.vault.run(lambda vault: remove_client(vault, ISSUER_ID, USER))
    with pytest.raises(ControlEnded):
        await pin_views.text(page)
    assert pin_views.ends() == [(None,)]
