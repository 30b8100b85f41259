"""A PIN as text: once, to a page that was shown its image, where its issuer allows it."""

import json
from collections.abc import AsyncIterator
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
from cms.services.cardholder.control_tokens import new_session, sid
from cms.services.cardholder.pin_view import PinView
from cms.services.directory import Directory
from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm.port import Face, Purpose
from hsm.vault import Vault
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import add_clients, open_issuer, remove_client, run_sql, server_client

pytestmark = pytest.mark.anyio
USER, AUDIT_USER, PIN = "testbank01-server", "clerk 7", "5938"
ACTOR = Actor(USER, "call-1", AUDIT_USER)
STYLE = ImageStyle()
VIEW, SET = Purpose.VIEW, Purpose.SET


class PinViews:
    """One issuer with a card that has a PIN, and a face that shows it."""

    def __init__(self, pin_service: PinService) -> None:
        self.pin_service = pin_service
        self.control_store = ControlStore(pin_service.store, Secret(b"k" * 32))
        self.key = JWK.generate(kty="EC", crv="P-256")
        self.public = self.key.export_public(as_dict=True)

    def at(self, face: Face) -> PinView:
        store, worker_thread = self.pin_service.store, self.pin_service.worker_thread
        directory = Directory(store, worker_thread)
        clients = Servers(directory) if face is Face.PINCONTROL else Apps(directory)
        return PinView(face, self.control_store, clients, worker_thread, Audit(store))

    async def control_token(self, purpose: Purpose = VIEW) -> str:
        grant = Grant(
            *("testbank01", "card-1", USER, Face.PINCONTROL, purpose), {}, audit_user=AUDIT_USER
        )
        control_token = str(uuid4())
        await self.control_store.issue(control_token, grant, ACTOR)
        return control_token

    async def setting_session(self) -> str:
        session, control_token = new_session(), await self.control_token(SET)
        await self.control_store.open(control_token, session, SET, Face.PINCONTROL)
        return session

    async def session(self) -> str | None:
        reveal, control_token = self.at(Face.PINCONTROL), await self.control_token()
        return (await reveal.page_image(control_token, await self.app(), STYLE, ACTOR)).session

    async def app(self) -> ServerApp:
        directory = Directory(self.pin_service.store, self.pin_service.worker_thread)
        app = await Servers(directory).find(USER)
        assert app is not None
        return app

    async def text(self, session: str, face: Face = Face.PINCONTROL) -> str:
        return await self.at(face).text(session, self.public, ACTOR.correlation_id)

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
    add_clients(vault, "testbank01", server_client(USER))
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        await pin_service.put(sample_issuer.pin_jwe(PIN))
        yield PinViews(pin_service)


async def test_the_text_is_for_the_page_that_was_shown_the_image(pin_views: PinViews) -> None:
    session = await pin_views.session()
    assert session is not None
    read = JWE(algs=["ECDH-ES", "A256GCM"])
    read.deserialize(await pin_views.text(session), pin_views.key)
    assert json.loads(read.payload) == {"sid": sid(session), "digits": PIN}
    who = (USER, AUDIT_USER)
    assert pin_views.seen() == [
        ("pin.get.attempted", "pincontrol", *who),
        ("pin.get.attempted", "pincontrol text", *who),
    ]
    with pytest.raises(ControlEnded):
        await pin_views.text(session)
    assert pin_views.ends() == [("shown",)]
    assert len(pin_views.seen()) == 2


@pytest.mark.parametrize("pin_views", [{}, {"text_reveal": False}], indirect=True)
async def test_an_issuer_that_does_not_allow_text_has_no_session(pin_views: PinViews) -> None:
    assert await pin_views.session() is None
    assert pin_views.ends() == [("shown",)]
    # Nor does a session of some other making get it.
    secret = new_session()
    await pin_views.control_store.consume(
        await pin_views.control_token(), VIEW, Face.PINCONTROL, ACTOR, secret
    )
    with pytest.raises(ControlEnded):
        await pin_views.text(secret)
    assert pin_views.ends() == [("shown",), ("shown",)]


async def test_a_session_of_another_face_or_purpose_is_none(pin_views: PinViews) -> None:
    session = await pin_views.session()
    assert session is not None
    with pytest.raises(ControlEnded):
        await pin_views.text(session, Face.HOSTED)
    setting = await pin_views.setting_session()
    control_token = await pin_views.control_token()
    for wrong in (setting, control_token, "", "\ud800"):
        with pytest.raises(ControlEnded):
            await pin_views.text(wrong)
    assert pin_views.ends() == [(None,), (None,), (None,)]
    assert await pin_views.text(session)


async def test_a_control_token_of_another_face_or_purpose_is_not_shown(pin_views: PinViews) -> None:
    control_token, setting = await pin_views.control_token(), await pin_views.control_token(SET)
    with pytest.raises(ControlEnded):
        await pin_views.at(Face.HOSTED).image(control_token, STYLE, ACTOR)
    with pytest.raises(ControlEnded):
        await pin_views.at(Face.PINCONTROL).image(setting, STYLE, ACTOR)
    assert pin_views.ends() == [(None,), (None,)]
    assert pin_views.seen() == []


async def test_closing_ends_a_session_for_text_and_no_other(pin_views: PinViews) -> None:
    reveal, session = pin_views.at(Face.PINCONTROL), await pin_views.session()
    assert session is not None
    setting = await pin_views.setting_session()
    for secret in (setting, "unknown"):
        await reveal.close(secret)
    assert pin_views.ends() == [(None,), (None,)]
    for _ in range(2):
        await reveal.close(session)
    assert pin_views.ends() == [("shown",), (None,)]
    with pytest.raises(ControlEnded):
        await pin_views.text(session)


async def test_a_client_out_of_service_gets_no_text(pin_views: PinViews) -> None:
    session = await pin_views.session()
    assert session is not None
    await pin_views.pin_service.worker_thread.call(
        lambda vault: remove_client(vault, "testbank01", USER)
    )
    with pytest.raises(ControlEnded):
        await pin_views.text(session)
    assert pin_views.ends() == [(None,)]
