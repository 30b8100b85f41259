"""What was made for one use is good for no other: purpose, face, session, key, verb."""

import asyncio
import itertools

import pytest
from jwcrypto.jwk import JWK

from cms.domain.control import Face, Grant, Purpose
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Actor
from cms.services.control_tokens import ControlTokens
from crypto.secret import Secret
from tests.bank import run_sql
from tests.cms.faces.hosted.counter import KEY, Counter, opened, page_jwe
from tests.cms.faces.scene import Scene, put_body
from tests.cms.services.provider import with_claims

pytestmark = pytest.mark.anyio


async def test_50_requests_at_once_open_one_page(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    token = await counter.token("set-pin", holder)
    answers = await asyncio.gather(*(counter.post("session", token=token) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [410] * 49
    assert counter.controls(card_id) == [(True, None)]


async def test_what_another_face_issued_is_worth_nothing_here(counter: Counter) -> None:
    card_id, _ = await counter.holder()
    tokens = ControlTokens(ControlStore(counter.scene.application.health.store), Secret(b"k" * 32))
    before = counter.scene.stored(card_id)
    issued = {}
    for purpose in Purpose:
        grant = Grant(
            *("testbank01", card_id, KEY, Face.PINCONTROL, purpose), {}, None, embedded=False
        )
        issued[purpose] = (await tokens.issue(grant, Actor(KEY, "call"))).token
        for answer in (
            await counter.image(issued[purpose]),
            await counter.page(issued[purpose]),
            await counter.post("session", token=issued[purpose]),
        ):
            assert answer.status_code == 410
    assert counter.controls(card_id) == [(False, None), (False, None)]
    for purpose, token in issued.items():
        session = (await tokens.open(token, purpose, Face.PINCONTROL)).session
        assert (await counter.post("extend", session=session)).status_code == 410
        assert (await counter.post("submit", session=session, jwe="a.b.c.d.e")).status_code == 410
        assert (await counter.post("cancel", session=session)).status_code == 204
    assert counter.controls(card_id) == [(True, None), (True, None)]
    assert counter.scene.stored(card_id) == before


async def test_a_jwe_of_any_other_key_sets_nothing(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    before = counter.scene.stored(card_id)
    ours = (await counter.session(holder))["key"]
    others = [
        *(JWK.generate(kty="EC", crv="P-256").export_public(as_dict=True) for _ in range(2)),
        *(counter.scene.bank.d1_jwk, counter.scene.bank.intake_jwk),
    ]
    for other, kid in itertools.product(others, (ours["kid"], "another", None)):
        # Every key under our kid, under one that nobody has, and those of other verbs as they are.
        named = {**other, "kid": other.get("kid", "") if kid is None else kid}
        opened = await counter.session(holder)
        jwe = page_jwe(opened | {"key": named}, "5938")
        assert (await counter.post("submit", session=opened["session"], jwe=jwe)).status_code == 410
        assert counter.scene.stored(card_id) == before


async def test_a_jwe_for_the_page_is_refused_as_d1s_is_by_the_page(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    opened, before = await counter.session(holder), counter.scene.stored(card_id)
    sent = await counter.scene.put(put_body(page_jwe(opened, "5938")), card_id)
    assert sent.status_code == 400
    assert counter.scene.stored(card_id) == before


async def test_a_jwe_sets_a_pin_once_even_in_a_session_of_its_own(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    opened = await counter.session(holder)
    jwe = page_jwe(opened, "5938")
    assert (await counter.post("submit", session=opened["session"], jwe=jwe)).status_code == 204
    before, again = counter.scene.stored(card_id), await counter.session(holder)
    assert (await counter.post("submit", session=again["session"], jwe=jwe)).status_code == 410
    assert counter.scene.stored(card_id) == before


async def test_a_session_is_no_token_and_a_token_no_session(counter: Counter) -> None:
    _, holder = await counter.holder()
    token, session = await counter.token("set-pin", holder), await counter.session(holder)
    assert (await counter.post("session", token=session["session"])).status_code == 410
    assert (await counter.post("extend", session=token)).status_code == 410
    sent = await counter.post("submit", session=token, jwe=page_jwe(session, "5938"))
    assert sent.status_code == 410


async def test_an_app_that_was_taken_out_of_service_shows_and_sets_nothing(
    with_apps: Scene, counter: Counter
) -> None:
    card_id, holder = await counter.holder()
    view, set_ = await counter.token("pin", holder), await counter.token("set-pin", holder)
    opened_before, before = await counter.session(holder), counter.scene.stored(card_id)
    state = "UPDATE clients SET state = %s WHERE client_id = %s"
    run_sql(with_apps.url, state, "disabled", KEY)
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
        run_sql(with_apps.url, state, "active", KEY)
    assert counter.scene.stored(card_id) == before


# The published order: of two things that are wrong, the first is told.

KEYS = {None: 499, "nobody-app": 498, KEY: 0}
STEPS = {"none": 401, "weak": 403, "strong": 0}
CARDS = {"nobody": 404, "blocked": 403, "good": 0}
BODIES = {b"[]": 422, b"{}": 0}


@pytest.mark.parametrize("purpose", ["pin", "set-pin"])
async def test_of_two_things_that_are_wrong_the_first_is_told(
    with_apps: Scene, purpose: str
) -> None:
    async with opened(with_apps, step_up_acr="stronger") as counter:
        card_id, good = await counter.holder()
        blocked_id, blocked = await counter.holder()
        run_sql(with_apps.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", blocked_id)
        holders = {"nobody": "nobody", "blocked": blocked, "good": good}
        for key, step, card, body in itertools.product(KEYS, STEPS, CARDS, BODIES):
            acr = "stronger" if step == "strong" else "weak"
            bearer = f"Bearer {with_claims(sub=holders[card], acr=acr)}"
            changed = {"x_client_key": key, "authorization": None if step == "none" else bearer}
            answer = await counter.ask(purpose, holders[card], body, **changed)
            wrong = (KEYS[key], STEPS[step], CARDS[card], BODIES[body])
            assert answer.status_code == next(filter(None, wrong), 200), (key, step, card, body)
        assert counter.controls(card_id) == [(False, None)]
