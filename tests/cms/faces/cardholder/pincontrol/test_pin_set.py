"""A PIN is set on the page while the card is not personalised, and is then what D1 reads."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest

from cms.domain.cards import CardState
from hsm.messages import Verb
from tests.cms.faces.cardholder.hosted.jwes import hostile_jwes, page_jwe, submission
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import AUDIT_USER, PinControlFace
from tests.cms.faces.d1_face import D1Face

pytestmark = pytest.mark.anyio
ENDED = (410, "CONTROL_ENDED", outcomes.DYNAMIC)
CHANGED = (410, "PIN_CHANGED", outcomes.DYNAMIC)
WEAK = (422, "PIN_FORBIDDEN", outcomes.DYNAMIC)
FORBIDDEN = (403, "CARD_STATE_FORBIDDEN", outcomes.DYNAMIC)


@pytest.mark.parametrize("state", ["inactive", "active"])
@pytest.mark.parametrize("key", [None, backends.FRAME_KEY])
async def test_a_pin_set_on_the_page_is_what_d1_reads_and_can_be_seen(
    pincontrol_face: PinControlFace, key: str | None, state: str
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic(CardState(state), pin=None)
    assert outcomes.failure(await pincontrol_face.ask(plastic_id))[1] == "PIN_NOT_AVAILABLE"
    control_id = await pincontrol_face.control_id(plastic_id, "SET_PIN")
    opening = await pincontrol_face.open(control_id, key)
    assert opening.status_code == 200
    assert opening.headers["cache-control"] == "no-store"
    opened = opening.json()
    assert opened.keys() == {
        *("session", "grantId", "expiresInSeconds", "warnSeconds", "digitsMin", "digitsMax"),
        *("lastFour", "refuseRepeated", "refuseRuns", "key"),
    }
    assert 295 < opened["expiresInSeconds"] <= 300
    assert opened["warnSeconds"] == 20
    sent = await pincontrol_face.submit(opened | {"controlToken": control_id}, "5938")
    assert (sent.status_code, sent.content) == (204, b"")
    assert pincontrol_face.audit(sent) == [
        ("pin.set", card_id, backends.USER, "pincontrol", AUDIT_USER, None)
    ]
    assert pincontrol_face.controls(card_id) == [(True, "set")]
    assert (
        await pincontrol_face.view(await pincontrol_face.control_id(plastic_id))
    ).status_code == 200
    # It may be set again, until the card is personalised.
    assert (
        await pincontrol_face.submit(await pincontrol_face.session(plastic_id), "7261")
    ).status_code == 204
    pincontrol_face.produce(card_id)
    assert outcomes.failure(await pincontrol_face.ask(plastic_id, "SET_PIN")) == FORBIDDEN
    pincontrol_face.sql("UPDATE cards SET state = 'active' WHERE card_id = %s", card_id)
    assert await pincontrol_face.d1_face.d1.pin(card_id) == "7261"


async def test_a_session_takes_one_pin(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    jwe = page_jwe(opened, "5938")
    assert (await pincontrol_face.post("submit", **submission(opened, jwe))).status_code == 204
    before = pincontrol_face.d1_face.stored(card_id)
    assert (
        outcomes.failure(await pincontrol_face.post("submit", **submission(opened, jwe))) == ENDED
    )
    assert outcomes.failure(await pincontrol_face.submit(opened, "7261")) == ENDED
    again = await pincontrol_face.session(plastic_id)
    assert outcomes.failure(await pincontrol_face.post("submit", **submission(again, jwe))) == ENDED
    assert pincontrol_face.d1_face.stored(card_id) == before


async def test_of_two_pins_sent_at_once_one_is_stored(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    before = pincontrol_face.d1_face.counter(card_id)
    answers = await asyncio.gather(
        *(pincontrol_face.submit(opened, pin) for pin in ("5938", "7261"))
    )
    assert sorted(answer.status_code for answer in answers) == [204, 410]
    assert pincontrol_face.d1_face.counter(card_id) == before + 1


async def test_50_requests_at_once_open_one_session(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id, "SET_PIN")
    answers = await asyncio.gather(*(pincontrol_face.open(control_id) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 49}
    assert pincontrol_face.controls(card_id) == [(True, None)]


async def test_a_weak_pin_may_be_replaced_five_times(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    before = pincontrol_face.d1_face.stored(card_id)
    for _ in range(4):
        answer = await pincontrol_face.submit(opened, "1111")
        assert outcomes.failure(answer) == WEAK
        refused = ("pin.set.refused", card_id, backends.USER, "PIN_CHANGE_FORBIDDEN", AUDIT_USER)
        assert pincontrol_face.audit(answer) == [(*refused, answer.json()["id"])]
    for pin in ("1111", "5938"):
        assert outcomes.failure(await pincontrol_face.submit(opened, pin)) == ENDED
    assert pincontrol_face.d1_face.stored(card_id) == before
    assert pincontrol_face.controls(card_id) == [(True, "tries")]


async def test_after_a_weak_pin_a_good_one_is_stored(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    assert outcomes.failure(await pincontrol_face.submit(opened, "1111")) == WEAK
    assert (await pincontrol_face.submit(opened, "5938")).status_code == 204
    assert await pincontrol_face.d1_face.d1.pin(card_id) == "5938"


@pytest.mark.parametrize("meanwhile", ["personalised", "blocked", "closed"])
async def test_a_card_that_takes_no_pin_any_more_is_found_at_submit(
    pincontrol_face: PinControlFace, meanwhile: str
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    if meanwhile == "personalised":
        pincontrol_face.produce(card_id)
    else:
        pincontrol_face.sql("UPDATE cards SET state = %s WHERE card_id = %s", meanwhile, card_id)
    before = pincontrol_face.d1_face.stored(card_id)
    answer = await pincontrol_face.submit(opened, "5938")
    assert outcomes.failure(answer) == FORBIDDEN
    refused = ("pin.set.refused", card_id, backends.USER, "CARD_STATE_FORBIDDEN", AUDIT_USER)
    assert pincontrol_face.audit(answer) == [(*refused, answer.json()["id"])]
    assert pincontrol_face.controls(card_id) == [(True, "failed")]
    assert outcomes.failure(await pincontrol_face.submit(opened, "5938")) == ENDED
    assert pincontrol_face.d1_face.stored(card_id) == before


async def test_a_card_that_is_personalised_while_the_vault_works_keeps_its_pin(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    vault = pincontrol_face.d1_face.application.vault
    call = vault.call

    async def personalised_meanwhile(message: Verb[Any]) -> Any:  # noqa: ANN401 - the verb's
        done = await call(message)
        pincontrol_face.produce(card_id)
        return done

    monkeypatch.setattr(vault, "call", personalised_meanwhile)
    counter = pincontrol_face.d1_face.counter(card_id)
    assert outcomes.failure(await pincontrol_face.submit(opened, "5938")) == FORBIDDEN
    assert pincontrol_face.d1_face.counter(card_id) == counter
    assert pincontrol_face.controls(card_id) == [(True, "failed")]


async def test_a_change_by_d1_ends_ids_and_sessions(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    control_id = await pincontrol_face.control_id(plastic_id, "SET_PIN")
    await pincontrol_face.d1_face.put_pin("8317", card_id)
    assert outcomes.failure(await pincontrol_face.submit(opened, "5938")) == CHANGED
    assert outcomes.tells_app(await pincontrol_face.webview(control_id))
    assert await pincontrol_face.d1_face.d1.pin(card_id) == "8317"


async def test_a_session_is_extended_cancelled_and_then_over(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    pincontrol_face.age(card_id, 250)
    extended = await pincontrol_face.post("extend", session=opened["session"])
    assert extended.json().keys() == {"expiresInSeconds"}
    assert 295 < extended.json()["expiresInSeconds"] <= 300
    for _ in range(2):
        assert (await pincontrol_face.post("cancel", session=opened["session"])).status_code == 204
    assert (
        outcomes.failure(await pincontrol_face.post("extend", session=opened["session"])) == ENDED
    )
    assert outcomes.failure(await pincontrol_face.submit(opened, "5938")) == ENDED
    assert pincontrol_face.controls(card_id) == [(True, "cancelled")]
    assert (await pincontrol_face.post("cancel", session="unknown")).status_code == 204


async def test_a_session_lasts_300_seconds(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    before = pincontrol_face.d1_face.stored(card_id)
    pincontrol_face.age(card_id, 300)
    assert (
        outcomes.failure(await pincontrol_face.post("extend", session=opened["session"])) == ENDED
    )
    assert outcomes.failure(await pincontrol_face.submit(opened, "5938")) == ENDED
    assert pincontrol_face.d1_face.stored(card_id) == before


async def test_a_hostile_jwe_ends_the_session_and_stores_nothing(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    before = pincontrol_face.d1_face.stored(card_id)
    other = await pincontrol_face.session(plastic_id)
    for make in hostile_jwes(pincontrol_face.d1_face, card_id, other):
        opened = await pincontrol_face.session(plastic_id)
        sent = await pincontrol_face.post("submit", **submission(opened, make(opened)))
        assert outcomes.failure(sent) == ENDED
        refused = ("pin.set.refused", card_id, backends.USER, "PIN_REFUSED", AUDIT_USER)
        assert pincontrol_face.audit(sent) == [(*refused, sent.json()["id"])]
        assert outcomes.failure(await pincontrol_face.submit(opened, "5938")) == ENDED
    assert pincontrol_face.d1_face.stored(card_id) == before


async def test_pages_of_other_sites_and_other_media_types_are_turned_away(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    opened = await pincontrol_face.session(plastic_id)
    before = pincontrol_face.d1_face.stored(card_id)
    bodies = {
        "view": {"controlId": control_id, "key": None},
        "session": {"controlId": control_id, "key": None},
        "submit": submission(opened, page_jwe(opened, "5938")),
        "extend": {"session": opened["session"]},
        "cancel": {"session": opened["session"]},
        "digits": {"session": opened["session"], "controlToken": control_id, "key": {}},
    }

    async def post(verb: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await pincontrol_face.http.post(
            f"/pincontrol/page/{verb}", json=bodies[verb], headers=named
        )

    for verb in bodies:
        for site in ("cross-site", "same-site", "none"):
            answer = await post(verb, sec_fetch_site=site)
            assert outcomes.failure(answer) == (403, "FOREIGN_PAGE", "SECURITY_ERROR")
        for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = await post(verb, content_type=media_type)
            assert outcomes.failure(answer) == (415, "MEDIA_TYPE", outcomes.STATIC)
    assert pincontrol_face.controls(card_id) == [(False, None), (True, None)]
    assert pincontrol_face.d1_face.stored(card_id) == before
    assert (await post("submit", sec_fetch_site="same-origin")).status_code == 204


async def test_the_rules_of_an_issuer_are_told_and_kept(
    with_backends: D1Face, pincontrol_face: PinControlFace
) -> None:
    sample_issuer = await backends.add_text_issuer(with_backends)
    _, plastic_id = await pincontrol_face.text_plastic(sample_issuer, "5938")
    opened = await pincontrol_face.session(plastic_id, backends.TEXT_USER)
    assert (opened["digitsMin"], opened["digitsMax"]) == (4, 4)
    assert (opened["refuseRepeated"], opened["refuseRuns"]) == (True, True)
    assert outcomes.failure(await pincontrol_face.submit(opened, "1234")) == WEAK


async def test_what_happens_at_once_with_a_submit_leaves_one_outcome(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    opened = await pincontrol_face.session(plastic_id)
    before = pincontrol_face.d1_face.counter(card_id)
    calls: list[Awaitable[httpx.Response]] = [
        pincontrol_face.submit(opened, "5938"),
        pincontrol_face.post("cancel", session=opened["session"]),
    ]
    sent, cancelled = await asyncio.gather(*calls)
    assert cancelled.status_code == 204
    stored = pincontrol_face.d1_face.counter(card_id) - before
    assert (sent.status_code, stored) in {(204, 1), (410, 0)}
