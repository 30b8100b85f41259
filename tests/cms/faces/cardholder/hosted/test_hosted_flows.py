"""A cardholder sees its PIN, and sets one on the page, without the app ever holding it."""

import asyncio
from datetime import datetime

import pytest

from cms.domain.cards import CardState
from cms.services import directory
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import PUBLIC_URL, HostedFace
from tests.cms.faces.cardholder.hosted.jwes import (
    MakeJwe,
    encrypt,
    hostile_jwes,
    page_jwe,
    submission,
)
from tests.issuer_records import change_client, run_sql

pytestmark = pytest.mark.anyio


async def test_a_control_token_shows_the_pin_once(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    asked = await hosted_face.ask("pin", holder)
    assert asked.status_code == 200
    answer = asked.json()
    assert answer.keys() == {"token", "imageUrl"}
    assert answer["imageUrl"] == f"{PUBLIC_URL}/details-image?token={answer['token']}"
    assert datetime.fromisoformat(asked.headers["x-expires-at"])
    shown = await hosted_face.image(answer["token"])
    assert (shown.status_code, shown.headers["x-pin-result"]) == (200, "shown")
    assert shown.content.startswith(b"\x89PNG")
    again = await hosted_face.image(answer["token"])
    assert (again.status_code, again.headers["x-pin-result"]) == (410, "ended")
    assert len(again.content) < len(shown.content) // 4
    assert hosted_face.controls(card_id) == [(True, "shown")]


async def test_a_pin_set_on_the_page_is_what_d1_reads(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder(pin=None)
    body = {"redirectUrl": f"{apps.ORIGIN}/done?a=1#b"}
    asked = (await hosted_face.ask("set-pin", holder, body)).json()
    assert asked["hostedPageUrl"] == f"{PUBLIC_URL}/pin-direct/set?token={asked['token']}"
    page = await hosted_face.page(asked["token"])
    assert page.status_code == 200
    assert asked["token"] not in page.text
    assert hosted_face.controls(card_id) == [(False, None)]
    opened = (await hosted_face.post("session", token=asked["token"])).json()
    assert opened.pop("key").keys() >= {"kty", "crv", "x", "y", "kid"}
    assert opened.pop("session")
    assert opened.pop("grantId")
    assert "lastFour" in opened
    assert opened.pop("lastFour") not in page.text
    assert opened == {
        "expiresInSeconds": opened["expiresInSeconds"],
        "warnSeconds": 20,
        "digitsMin": 4,
        "digitsMax": 4,
        "refuseRepeated": True,
        "refuseRuns": True,
        "embedded": False,
        "targetOrigins": [],
        "redirectUrl": body["redirectUrl"],
    }
    assert (await hosted_face.page(asked["token"])).status_code == 410

    opened = await hosted_face.session(holder)
    sent = await hosted_face.submit(opened, "5938")
    assert sent.status_code == 204, sent.text
    assert await hosted_face.d1_face.d1.pin(card_id) == "5938"
    once_more = await hosted_face.submit(opened, "7261")
    assert once_more.status_code == 410
    assert await hosted_face.d1_face.d1.pin(card_id) == "5938"


async def test_an_embedded_page_names_its_parents_and_leads_nowhere(
    hosted_face: HostedFace,
) -> None:
    _, holder = await hosted_face.holder()
    body = {"isEmbedded": True, "redirectUrl": "https://evil.example/"}
    control_token = await hosted_face.control_token("set-pin", holder, body)
    page = await hosted_face.page(control_token)
    assert (
        f"frame-ancestors {apps.FRAME} {apps.APP_FRAME};" in page.headers["content-security-policy"]
    )
    opened = (await hosted_face.post("session", token=control_token)).json()
    assert opened["embedded"] is True
    assert opened["targetOrigins"] == [apps.FRAME, apps.APP_FRAME]
    assert opened["redirectUrl"] is None


async def test_a_page_speaks_the_language_of_its_address_else_of_the_app_else_of_the_browser(
    hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    _, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("set-pin", holder)

    async def languages(**query: str) -> list[str]:
        german = {"accept-language": "de"}
        pages = [
            await hosted_face.http.get("/pin-direct/set", params=params, headers=german)
            for params in ({"token": control_token, **query}, query)
        ]
        assert [page.status_code for page in pages] == [200, 410]
        return [page.headers["content-language"] for page in pages]

    async def set_language(language: str | None) -> None:
        await hosted_face.d1_face.in_vault(
            lambda vault: change_client(vault, "testbank01", apps.KEY, language=language)
        )

    assert await languages() == ["de", "de"]
    await set_language("sv")
    try:
        assert await languages() == ["sv", "de"]
        assert await languages(lang="fi") == ["fi", "fi"]
        assert await languages(lang="tlh") == ["sv", "de"]
    finally:
        await set_language(None)


async def test_50_requests_at_once_show_one_image(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("pin", holder)
    answers = await asyncio.gather(*(hosted_face.image(control_token) for _ in range(50)))
    results = sorted(answer.headers["x-pin-result"] for answer in answers)
    assert results == ["ended"] * 49 + ["shown"]
    assert hosted_face.controls(card_id) == [(True, "shown")]


async def test_of_two_pins_sent_at_once_one_is_stored(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    before = hosted_face.d1_face.counter(card_id)
    answers = await asyncio.gather(*(hosted_face.submit(opened, pin) for pin in ("5938", "7261")))
    assert sorted(answer.status_code for answer in answers) == [204, 410]
    assert hosted_face.d1_face.counter(card_id) == before + 1


async def test_a_view_control_token_opens_no_page_and_a_set_control_token_no_image(
    hosted_face: HostedFace,
) -> None:
    card_id, holder = await hosted_face.holder()
    view, set_ = await hosted_face.control_tokens(holder)
    assert (await hosted_face.page(view)).status_code == 410
    assert (await hosted_face.post("session", token=view)).status_code == 410
    assert (await hosted_face.image(set_)).status_code == 410
    assert hosted_face.controls(card_id) == [(False, None), (False, None)]


async def test_a_committed_change_ends_what_was_issued_before(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    view, opened = await hosted_face.control_token("pin", holder), await hosted_face.session(holder)
    await hosted_face.d1_face.put_pin("8317", card_id)
    assert (await hosted_face.image(view)).status_code == 410
    sent = await hosted_face.submit(opened, "5938")
    assert (sent.status_code, sent.json()) == (410, {"message": "Gone", "reason": "changed"})
    assert await hosted_face.d1_face.d1.pin(card_id) == "8317"


async def test_a_card_that_was_blocked_meanwhile_shows_and_takes_nothing(
    hosted_face: HostedFace,
) -> None:
    card_id, holder = await hosted_face.holder()
    view, opened = await hosted_face.control_token("pin", holder), await hosted_face.session(holder)
    run_sql(
        hosted_face.d1_face.url, "UPDATE cards SET state = 'blocked' WHERE card_id = %s", card_id
    )
    before = hosted_face.d1_face.stored(card_id)
    shown = await hosted_face.image(view)
    assert (shown.status_code, shown.headers["x-pin-result"]) == (410, "ended")
    sent = await hosted_face.submit(opened, "5938")
    assert sent.status_code == 403
    assert hosted_face.d1_face.stored(card_id) == before
    assert hosted_face.controls(card_id) == [(True, "shown"), (True, "failed")]


async def test_a_weak_pin_may_be_replaced_five_times(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    before = hosted_face.d1_face.stored(card_id)
    for _ in range(4):
        sent = await hosted_face.submit(opened, "1111")
        assert (sent.status_code, sent.json()) == (422, {"reason": "weak"})
    for pin in ("1111", "5938"):
        sent = await hosted_face.submit(opened, pin)
        assert sent.status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before


async def test_a_session_is_extended_cancelled_and_then_over(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened = await hosted_face.session(holder)
    hosted_face.age(card_id, 500)
    extended = await hosted_face.post("extend", session=opened["session"])
    assert extended.json()["expiresInSeconds"] > 590
    for _ in range(2):
        assert (await hosted_face.post("cancel", session=opened["session"])).status_code == 204
    assert (await hosted_face.post("extend", session=opened["session"])).status_code == 410
    assert (await hosted_face.post("cancel", session="unknown")).status_code == 204
    assert hosted_face.controls(card_id) == [(True, "cancelled")]


async def test_a_submit_after_the_session_expired_stores_nothing(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    opened, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    hosted_face.age(card_id, 600)
    sent = await hosted_face.submit(opened, "5938")
    assert sent.status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before


async def test_a_hostile_jwe_ends_the_session_and_stores_nothing(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    before = hosted_face.d1_face.stored(card_id)
    other = await hosted_face.session((await hosted_face.holder())[1])
    d1_key = hosted_face.d1_face.sample_issuer.d1_jwk
    makers: tuple[MakeJwe, ...] = (
        *hostile_jwes(hosted_face.d1_face, card_id, other),
        lambda opened: page_jwe(opened | {"key": d1_key}, "5938"),
        lambda opened: encrypt({"block": "1459387777777777"}, opened["key"]),
        lambda opened: page_jwe(opened, "5938593859385"),
        lambda opened: page_jwe(opened, "5938", block="14ABCD7777777777"),
        lambda opened: page_jwe(opened, "5938", block=1459387777777777),
    )
    for make in makers:
        opened = await hosted_face.session(holder)
        sent = await hosted_face.post("submit", **submission(opened, make(opened)))
        assert sent.status_code == 410
        good = await hosted_face.submit(opened, "5938")
        assert good.status_code == 410
        assert hosted_face.d1_face.stored(card_id) == before


@pytest.mark.parametrize("key", [None, apps.OTHER_KEY])
async def test_a_card_status_says_what_may_be_done(
    hosted_face: HostedFace, key: str | None
) -> None:
    card_id, holder = await hosted_face.holder()
    changed = {} if key is None else {"x_client_key": key}
    answer = await hosted_face.http.get(
        "/v1/card/status", headers=hosted_face.headers(holder, **changed)
    )
    body = answer.json()
    assert datetime.fromisoformat(body.pop("orderedAt"))
    assert datetime.fromisoformat(body["pin"].pop("changedAt"))
    assert body == {
        "id": card_id,
        "expiryDate": "2030/12",
        "panLast4": "1111",
        "status": "ACTIVE",
        "type": "PHYSICAL",
        "isFreezable": False,
        "pin": {"isSet": True, "canView": True, "canSet": True},
    }


@pytest.mark.parametrize(
    ("state", "status"), [("inactive", "INACTIVE"), ("blocked", "BLOCKED"), ("closed", "BLOCKED")]
)
async def test_only_an_active_card_gets_control_tokens(
    hosted_face: HostedFace, state: str, status: str
) -> None:
    card_id, holder = await hosted_face.holder(CardState(state))
    answer = await hosted_face.http.get("/v1/card/status", headers=hosted_face.headers(holder))
    assert answer.json()["status"] == status
    assert answer.json()["pin"]["canView"] is answer.json()["pin"]["canSet"] is False
    for purpose in ("pin", "set-pin"):
        refused = await hosted_face.ask(purpose, holder)
        assert (refused.status_code, refused.json()) == (403, {"message": "Not authorized"})
    assert hosted_face.controls(card_id) == []


async def test_a_card_without_a_pin_can_get_one_and_shows_none(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder(pin=None)
    status = await hosted_face.http.get("/v1/card/status", headers=hosted_face.headers(holder))
    assert status.json()["pin"] == {
        "isSet": False,
        "changedAt": None,
        "canView": False,
        "canSet": True,
    }
    assert (await hosted_face.ask("pin", holder)).status_code == 403
    assert (await hosted_face.ask("set-pin", holder)).status_code == 200
