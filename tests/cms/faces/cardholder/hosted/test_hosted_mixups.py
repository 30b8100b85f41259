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
from hsm.port import Face, Purpose, SealedGrant
from tests.bearers import bearer
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import (
    CONTROL_TOKEN_KEY,
    ISSUER_ID,
    HostedFace,
    opened,
    stepping_up,
)
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.d1_face import D1Face, put_body
from tests.cms.persistence.stored_tokens import new_control_token
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
    store = hosted_face.d1_face.application.store
    control_store = ControlStore(store, CONTROL_TOKEN_KEY)
    before = hosted_face.d1_face.stored(card_id)
    issued = {}
    for purpose in Purpose:
        grant = Grant(
            *(ISSUER_ID, card_id, apps.KEY, Face.PINCONTROL, purpose),
            *("a grant", SealedGrant(b"of the vault"), {}),
        )
        issued[purpose] = new_control_token(ISSUER_ID)
        await control_store.issue(issued[purpose], grant, 1, Actor(apps.KEY, "call"))
        for answer in (
            await hosted_face.image(issued[purpose]),
            await hosted_face.page(issued[purpose]),
            await hosted_face.post("session", token=issued[purpose]),
        ):
            assert answer.status_code == 410
    assert hosted_face.controls(card_id) == [(False, None), (False, None)]
    for purpose, control_token in issued.items():
        session = new_session(control_token)
        await control_store.open(control_token, session, purpose, Face.PINCONTROL)
        assert (await hosted_face.post("extend", session=session)).status_code == 410
        assert (
            await hosted_face.post(
                "submit", session=session, controlToken=control_token, jwe="a.b.c.d.e"
            )
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
        assert (await hosted_face.post("submit", **submission(opened, jwe))).status_code == 410
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
    assert (await hosted_face.post("submit", **submission(opened, jwe))).status_code == 204
    before, again = hosted_face.d1_face.stored(card_id), await hosted_face.session(holder)
    assert (await hosted_face.post("submit", **submission(again, jwe))).status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before


@pytest.mark.parametrize("purpose", ["pin", "set-pin"])
async def test_a_card_that_only_the_database_gives_to_a_cardholder_is_none(
    hosted_face: HostedFace, purpose: str
) -> None:
    card_id, holder = await hosted_face.holder()
    thief = f"thief-of-{card_id}"
    name = "UPDATE cards SET cardholder_id = %s WHERE card_id = %s"
    run_sql(hosted_face.d1_face.url, name, thief, card_id)
    refused = await hosted_face.ask(purpose, thief)
    assert (refused.status_code, refused.json()) == (404, {"message": "Card not found"})
    ((event, *_, reason, _),) = hosted_face.d1_face.audit(refused)
    assert (event[-8:], reason) == (".refused", "EVIDENCE_REFUSED")
    assert hosted_face.controls(card_id) == []
    run_sql(hosted_face.d1_face.url, name, holder, card_id)
    assert (await hosted_face.ask(purpose, holder)).status_code == 200


@pytest.mark.parametrize("purpose", ["pin", "set-pin"])
async def test_a_control_token_that_the_database_points_at_another_card_is_of_none(
    hosted_face: HostedFace, purpose: str
) -> None:
    card_id, _ = await hosted_face.holder()
    mine, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token(purpose, holder)
    before = hosted_face.d1_face.stored(card_id)
    run_sql(
        hosted_face.d1_face.url,
        "UPDATE control_tokens SET card_id = %s WHERE card_id = %s",
        *(card_id, mine),
    )
    if purpose == "pin":
        shown = await hosted_face.image(control_token)
        assert shown.headers["x-pin-result"] != "shown"
    else:
        answer = await hosted_face.post("session", token=control_token)
        opened = answer.json() | {"controlToken": control_token}
        assert not (await hosted_face.submit(opened, "5938")).is_success
    assert hosted_face.d1_face.stored(card_id) == before


async def test_a_session_without_its_control_token_sets_no_pin(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    before = hosted_face.d1_face.stored(card_id)
    for other in (str(uuid4()), await hosted_face.control_token("pin", holder), ""):
        opened = await hosted_face.session(holder)
        sent = await hosted_face.submit(opened | {"controlToken": other}, "5938")
        assert sent.status_code == 410
        assert hosted_face.d1_face.audit(sent)[0][0] == "pin.set.refused"
        # Nor is it tried again.
        assert (await hosted_face.submit(opened, "5938")).status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before
    opened = await hosted_face.session(holder)
    written = opened | {"controlToken": opened["controlToken"].upper()}
    members = submission(written, page_jwe(opened, "5938"))
    assert (await hosted_face.post("submit", **members)).status_code == 204


async def test_a_session_is_no_control_token_and_a_control_token_no_session(
    hosted_face: HostedFace,
) -> None:
    _, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("set-pin", holder)
    session = await hosted_face.session(holder)
    assert (await hosted_face.post("session", token=session["session"])).status_code == 410
    assert (await hosted_face.post("extend", session=control_token)).status_code == 410
    sent = await hosted_face.submit(session | {"session": control_token}, "5938")
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
            sent = await later.post("submit", **submission(opened_before, jwe))
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
    async with stepping_up(with_apps, "stronger") as hosted_face:
        card_id, good = await hosted_face.holder()
        blocked_id, blocked = await hosted_face.holder()
        run_sql(with_apps.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", blocked_id)
        holders = {"nobody": "nobody", "blocked": blocked, "good": good}
        for key, step, card, body in itertools.product(KEYS, STEPS, CARDS, BODIES):
            acr = "stronger" if step == "strong" else "weak"
            shown = f"Bearer {bearer(holders[card], ISSUER_ID, acr=acr)}"
            changed = {"x_client_key": key, "authorization": None if step == "none" else shown}
            answer = await hosted_face.ask(purpose, holders[card], body, **changed)
            wrong = (KEYS[key], STEPS[step], CARDS[card], BODIES[body])
            assert answer.status_code == next(filter(None, wrong), 200), (key, step, card, body)
        assert hosted_face.controls(card_id) == [(False, None)]
