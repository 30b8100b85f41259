"""A PIN as text: once, to a page that was shown its image, where its issuer allows it."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.domain.control import Face, Grant, Purpose
from cms.domain.errors import ControlEnded
from cms.domain.records import Actor
from cms.persistence import admin
from cms.persistence.control_store import ControlStore
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.control_tokens import ControlTokens, new_session, sid
from cms.services.cardholder.view_pin import PinView
from cms.services.directory import Directory
from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm.vault import Vault
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import open_issuer, run_sql

pytestmark = pytest.mark.anyio
USER, AUDIT_USER, PIN = "testbank01-server", "clerk 7", "5938"
ACTOR = Actor(USER, "call-1", AUDIT_USER)
STYLE = ImageStyle()
VIEW, SET = Purpose.VIEW, Purpose.SET


class Booth:
    """One bank with a card that has a PIN, and a face that shows it."""

    def __init__(self, pin_service: PinService) -> None:
        self.pin_service = pin_service
        self.tokens = ControlTokens(ControlStore(pin_service.store), Secret(b"k" * 32))
        self.key = JWK.generate(kty="EC", crv="P-256")
        self.public = self.key.export_public(as_dict=True)

    def at(self, face: Face) -> PinView:
        store = self.pin_service.store
        apps = Apps(Directory(store), ControlStore(store))
        return PinView(face, self.tokens, store, apps, self.pin_service.worker_thread)

    async def token(self, purpose: Purpose = VIEW) -> str:
        grant = Grant(
            *("testbank01", "card-1", USER, Face.PINCONTROL, purpose), {}, audit_user=AUDIT_USER
        )
        return (await self.tokens.issue(grant, ACTOR)).token

    async def session(self) -> str | None:
        reveal, token = self.at(Face.PINCONTROL), await self.token()
        return (await reveal.page_image(token, self.app(), STYLE, ACTOR)).session

    def app(self) -> App:
        return App(self.pin_service.issuer, self.pin_service.issuer.clients[USER])

    async def text(self, session: str, face: Face = Face.PINCONTROL) -> str:
        return await self.at(face).text(
            session, self.public, lambda grant: replace(ACTOR, client_id=grant.client_id)
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
async def booth(
    database_url: str, vault: Vault, request: pytest.FixtureRequest
) -> AsyncIterator[Booth]:
    """A bank that allows text unless the test's parameter says otherwise."""
    policy = getattr(request, "param", {"text_reveal": True})
    sample_issuer = open_issuer(database_url, vault, policy=policy)
    with admin.transaction(database_url) as database:
        admin.add_backend(
            database,
            *("testbank01", USER, "a hash"),
            frame_key=None,
            embed_origins=[],
            show_button=True,
            hide_seconds=30,
            view_style={},
        )
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        await pin_service.put(sample_issuer.pin_jwe(PIN))
        yield Booth(pin_service)


async def test_the_text_is_for_the_page_that_was_shown_the_image(booth: Booth) -> None:
    session = await booth.session()
    assert session is not None
    read = JWE(algs=["ECDH-ES", "A256GCM"])
    read.deserialize(await booth.text(session), booth.key)
    assert json.loads(read.payload) == {"sid": sid(session), "digits": PIN}
    who = (USER, AUDIT_USER)
    assert booth.seen() == [
        ("pin.get", "pincontrol", *who),
        ("pin.get", "pincontrol text", *who),
    ]
    with pytest.raises(ControlEnded):
        await booth.text(session)
    assert booth.ends() == [("shown",)]
    assert len(booth.seen()) == 2


@pytest.mark.parametrize("booth", [{}, {"text_reveal": False}], indirect=True)
async def test_an_issuer_that_does_not_allow_text_has_no_session(booth: Booth) -> None:
    assert await booth.session() is None
    assert booth.ends() == [("shown",)]
    # Nor does a session of some other making get it.
    secret = new_session()
    await booth.tokens.consume(await booth.token(), VIEW, Face.PINCONTROL, ACTOR, secret)
    with pytest.raises(ControlEnded):
        await booth.text(secret)
    assert booth.ends() == [("shown",), ("shown",)]


async def test_a_session_of_another_face_or_purpose_is_none(booth: Booth) -> None:
    session = await booth.session()
    assert session is not None
    with pytest.raises(ControlEnded):
        await booth.text(session, Face.HOSTED)
    setting = await booth.tokens.open(await booth.token(SET), SET, Face.PINCONTROL)
    token = await booth.token()
    for wrong in (setting.session, token, "", "\ud800"):
        with pytest.raises(ControlEnded):
            await booth.text(wrong)
    assert booth.ends() == [(None,), (None,), (None,)]
    assert await booth.text(session)


async def test_a_token_of_another_face_or_purpose_is_not_shown(booth: Booth) -> None:
    token, setting = await booth.token(), await booth.token(SET)
    with pytest.raises(ControlEnded):
        await booth.at(Face.HOSTED).image(token, STYLE, ACTOR)
    with pytest.raises(ControlEnded):
        await booth.at(Face.PINCONTROL).image(setting, STYLE, ACTOR)
    assert booth.ends() == [(None,), (None,)]
    assert booth.seen() == []


async def test_closing_ends_a_session_for_text_and_no_other(booth: Booth) -> None:
    reveal, session = booth.at(Face.PINCONTROL), await booth.session()
    assert session is not None
    setting = await booth.tokens.open(await booth.token(SET), SET, Face.PINCONTROL)
    for secret in (setting.session, "unknown"):
        await reveal.close(secret)
    assert booth.ends() == [(None,), (None,)]
    for _ in range(2):
        await reveal.close(session)
    assert booth.ends() == [("shown",), (None,)]
    with pytest.raises(ControlEnded):
        await booth.text(session)


async def test_a_client_out_of_service_gets_no_text(booth: Booth) -> None:
    session = await booth.session()
    assert session is not None
    run_sql(
        booth.pin_service.url, "UPDATE clients SET state = 'disabled' WHERE client_id = %s", USER
    )
    with pytest.raises(ControlEnded):
        await booth.text(session)
    assert booth.ends() == [(None,)]


async def test_without_a_policy_there_is_an_image_and_no_text(booth: Booth) -> None:
    reveal, token = booth.at(Face.PINCONTROL), await booth.token()
    app = booth.app()
    bare = App(replace(app.issuer, config={}), app.client)
    shown = await reveal.page_image(token, bare, STYLE, ACTOR)
    assert shown.png.startswith(b"\x89PNG")
    assert shown.session is None
    assert booth.ends() == [("shown",)]
