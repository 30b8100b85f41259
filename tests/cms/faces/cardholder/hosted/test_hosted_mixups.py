"""What was made for one use is good for no other: purpose, face, session, key, verb."""

import asyncio
import itertools
from uuid import uuid4

import pytest
from jwcrypto.jwk import JWK

from cms.domain.control import Grant
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.services.cardholder.control_tokens import new_session
from hsm.port import Face, Purpose
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import CONTROL_TOKEN_KEY, HostedFace, opened
from tests.cms.faces.cardholder.hosted.jwes import page_jwe
from tests.cms.faces.d1_face import D1Face, put_body
from tests.cms.services.cardholder.provider import with_claims
from tests.issuer_records import change_client, run_sql

pytestmark = pytest.mark.anyio
#: What an app is called while it is out of service.
GONE = "testbank01-gone"


async def test_50_requests_at_once_open_one_page(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("set-pin", holder)
    answers = await asyncio.gather(
        *(hosted_face.post("session", token=control_token) for _ in range(50))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [410] * 49
    assert hosted_face.controls(card_id) == [(True, None)]


async def test_what_another_face_issued_is_worth_nothing_here(hosted_face: HostedFace) -> None:
    card_id, _ = await hosted_face.holder()
    store = hosted_face.d1_face.application.health.store
    control_store = ControlStore(store, CONTROL_TOKEN_KEY)
    before = hosted_face.d1_face.stored(card_id)
    issued = {}
    for purpose in Purpose:
        grant = Grant(
            *("testbank01", card_id, apps.KEY, Face.PINCONTROL, purpose), {}, None, embedded=False
        )
        issued[purpose] = str(uuid4())
        await control_store.issue(issued[purpose], grant, Actor(apps.KEY, "call"))
        for answer in (
            await hosted_face.image(issued[purpose]),
            await hosted_face.page(issued[purpose]),
            await hosted_face.post("session", token=issued[purpose]),
        ):
            assert answer.status_code == 410
    assert hosted_face.controls(card_id) == [(False, None), (False, None)]
    for purpose, control_token in issued.items():
        session = new_session()
        await control_store.open(control_token, session, purpose, Face.PINCONTROL)
        assert (await hosted_face.post("extend", session=session)).status_code == 410
        assert (
            await hosted_face.post("submit", session=session, jwe="a.b.c.d.e")
        ).status_code == 410
        assert (await hosted_face.post("cancel", session=session)).status_code == 204
    assert hosted_face.controls(card_id) == [(True, None), (True, None)]
    assert hosted_face.d1_face.stored(card_id) == before


async def test_a_jwe_of_any_other_key_sets_nothing(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    before = hosted_face.d1_face.stored(card_id)
    ours = (await hosted_face.session(holder))["key"]
    others = [
        *(JWK.generate(kty="EC", crv="P-256").export_public(as_dict=True) for _ in range(2)),
        *(hosted_face.d1_face.sample_issuer.d1_jwk, hosted_face.d1_face.sample_issuer.intake_jwk),
    ]
    for other, kid in itertools.product(others, (ours["kid"], "another", None)):
        # Every key under our kid, under one that nobody has, and those of other verbs as they are.
        named = {**other, "kid": other.get("kid", "") if kid is None else kid}
        opened = await hosted_face.session(holder)
        jwe = page_jwe(opened | {"key": named}, "5938")
        assert (
            await hosted_face.post("submit", session=opened["session"], jwe=jwe)
        ).status_code == 410
        assert hosted_face.d1_face.stored(card_id) == before


async def test_a_jwe_for_the_page_is_refused_as_d1s_is_by_the_page(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    sent = await hosted_face.d1_face.put(put_body(page_jwe(opened, "5938")), card_id)
    assert sent.status_code == 400
    assert hosted_face.d1_face.stored(card_id) == before


async def test_a_jwe_sets_a_pin_once_even_in_a_session_of_its_own(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    jwe = page_jwe(opened, "5938")
    assert (await hosted_face.post("submit", session=opened["session"], jwe=jwe)).status_code == 204
    before, again = hosted_face.d1_face.stored(card_id), await hosted_face.session(holder)
    assert (await hosted_face.post("submit", session=again["session"], jwe=jwe)).status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before


async def test_a_session_is_no_control_token_and_a_control_token_no_session(
    hosted_face: HostedFace,
) -> None:
    _, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("set-pin", holder)
    session = await hosted_face.session(holder)
    assert (await hosted_face.post("session", token=session["session"])).status_code == 410
    assert (await hosted_face.post("extend", session=control_token)).status_code == 410
    sent = await hosted_face.post("submit", session=control_token, jwe=page_jwe(session, "5938"))
    assert sent.status_code == 410


async def test_an_app_that_was_taken_out_of_service_shows_and_sets_nothing(
    with_apps: D1Face, hosted_face: HostedFace
) -> None:
    card_id, holder = await hosted_face.holder()
    view, set_ = await hosted_face.control_tokens(holder)
    opened_before, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    await with_apps.in_vault(
        lambda vault: change_client(vault, "testbank01", apps.KEY, client_id=GONE)
    )
    try:
        async with opened(with_apps) as later:
            assert (await later.ask("pin", holder)).status_code == 498
            assert (await later.image(view)).status_code == 410
            assert (await later.page(set_)).status_code == 410
            assert (await later.post("session", token=set_)).status_code == 410
            jwe = page_jwe(opened_before, "5938")
            sent = await later.post("submit", session=opened_before["session"], jwe=jwe)
            assert sent.status_code == 410
    finally:
        await with_apps.in_vault(
            lambda vault: change_client(vault, "testbank01", GONE, client_id=apps.KEY)
        )
    assert hosted_face.d1_face.stored(card_id) == before


# The published order: of two things that are wrong, the first is told.

KEYS = {None: 499, "nobody-app": 498, apps.KEY: 0}
STEPS = {"none": 401, "weak": 403, "strong": 0}
CARDS = {"nobody": 404, "blocked": 403, "good": 0}
BODIES = {b"[]": 422, b"{}": 0}


@pytest.mark.parametrize("purpose", ["pin", "set-pin"])
async def test_of_two_things_that_are_wrong_the_first_is_told(
    with_apps: D1Face, purpose: str
) -> None:
    async with opened(with_apps, step_up_acr="stronger") as hosted_face:
        card_id, good = await hosted_face.holder()
        blocked_id, blocked = await hosted_face.holder()
        run_sql(with_apps.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", blocked_id)
        holders = {"nobody": "nobody", "blocked": blocked, "good": good}
        for key, step, card, body in itertools.product(KEYS, STEPS, CARDS, BODIES):
            acr = "stronger" if step == "strong" else "weak"
            bearer = f"Bearer {with_claims(sub=holders[card], acr=acr)}"
            changed = {"x_client_key": key, "authorization": None if step == "none" else bearer}
            answer = await hosted_face.ask(purpose, holders[card], body, **changed)
            wrong = (KEYS[key], STEPS[step], CARDS[card], BODIES[body])
            assert answer.status_code == next(filter(None, wrong), 200), (key, step, card, body)
        assert hosted_face.controls(card_id) == [(False, None)]
