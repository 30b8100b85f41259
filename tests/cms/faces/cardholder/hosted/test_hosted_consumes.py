"""What consumes a control token, what each answer carries, and what is never logged."""

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from cms.domain.errors import ServiceUnavailable
from cms.logs import JsonLines
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from hsm.errors import VaultUnavailable
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace, opened
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.d1_face import D1Face
from tests.in_process_vault import NoVault
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
NONCE = re.compile('(?<=nonce=")[^"]+')
PAGE_VERBS = ("session", "extend", "submit", "cancel")


def result(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers["x-pin-result"]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("OPTIONS", {}),
        ("POST", {}),
        ("GET", {"range": "bytes=0-"}),
        ("GET", {"sec-purpose": "prefetch"}),
        ("GET", {"sec-purpose": "prefetch;prerender"}),
        ("GET", {"purpose": "prefetch"}),
        ("GET", {"x-purpose": "preview"}),
        ("GET", {"x-moz": "prefetch"}),
        ("GET", {"user-agent": "WhatsApp/2.23.20.0"}),
        ("GET", {"user-agent": "facebookexternalhit/1.1"}),
        ("GET", {"user-agent": "Slackbot-LinkExpanding 1.0"}),
        ("GET", {"user-agent": "TelegramBot (like TwitterBot)"}),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; Discordbot/2.0)"}),
    ],
)
async def test_who_only_looks_ahead_consumes_nothing(
    hosted_face: HostedFace, method: str, headers: dict[str, str]
) -> None:
    card_id, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("pin", holder)
    params = {"token": control_token}
    answer = await hosted_face.http.request(
        method, "/details-image", params=params, headers=headers
    )
    assert not answer.content.startswith(b"\x89PNG")
    assert hosted_face.controls(card_id) == [(False, None)]
    assert result(await hosted_face.image(control_token)) == (200, "shown")


async def test_a_phone_and_a_browser_are_shown_the_pin(hosted_face: HostedFace) -> None:
    for agent in (
        "okhttp/4.9.2",
        "CFNetwork/1490 Darwin/23",
        "Mozilla/5.0 Chrome/126 Safari/537",
        # A brand of phones, and browsers inside the apps of chats.
        "Mozilla/5.0 (Linux; Android 10; CUBOT X30 Build/QP1A; wv) Chrome/96 Mobile Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) Mobile/15E148 Snapchat/12.38.0.38",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X) Mobile/15E148 [Pinterest/iOS]",
    ):
        _, holder = await hosted_face.holder()
        control_token = await hosted_face.control_token("pin", holder)
        assert result(await hosted_face.image(control_token, user_agent=agent)) == (200, "shown")


async def test_no_look_at_the_page_consumes_its_control_token(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("set-pin", holder)
    for _ in range(3):
        assert (await hosted_face.page(control_token)).status_code == 200
    assert hosted_face.controls(card_id) == [(False, None)]


async def test_consumed_and_expired_look_alike_and_unknown_too_but_for_the_clients_look(
    hosted_face: HostedFace,
) -> None:
    card_id, holder = await hosted_face.holder()
    consumed = await hosted_face.control_token("pin", holder)
    await hosted_face.image(consumed)
    consumed_page = await hosted_face.control_token("set-pin", holder)
    await hosted_face.post("session", token=consumed_page)
    expired, expired_page = await hosted_face.control_tokens(holder)
    hosted_face.age(card_id, 600)
    images = [
        await hosted_face.image(control_token)
        for control_token in (consumed, expired, str(uuid4()), "", "x" * 500)
    ]
    assert {result(image) for image in images} == {(410, "ended")}
    assert len({len(image.content) for image in images}) == 1
    cached = [
        {k: v for k, v in image.headers.items() if k != "x-correlation-id"} for image in images
    ]
    assert all(headers == cached[0] for headers in cached)
    dead = [await hosted_face.page(token) for token in (consumed_page, expired_page)]
    none = [await hosted_face.page(token) for token in (str(uuid4()), "")]
    for page in dead + none:
        assert page.status_code == 410
        assert "frame-ancestors https:" in page.headers["content-security-policy"]
    # One that is over has its client's look; why it is over shows in none.
    assert len({page.content for page in none}) == 1
    assert len({NONCE.sub("", page.text) for page in dead}) == 1
    assert "<style" in dead[0].text
    assert "<style" not in none[0].text
    posts = [await hosted_face.post("session", token=t) for t in (consumed_page, expired_page, "x")]
    assert {(post.status_code, post.content) for post in posts} == {(410, b'{"message":"Gone"}')}


async def test_a_control_token_lives_600_seconds(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    answer = await hosted_face.ask("pin", holder)
    expires = datetime.fromisoformat(answer.headers["x-expires-at"])
    assert timedelta(0) < expires - datetime.now(UTC) <= timedelta(seconds=600)
    hosted_face.age(card_id, 595)
    assert result(await hosted_face.image(answer.json()["token"])) == (200, "shown")


async def test_an_app_may_have_failures_with_status_200(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("pin", holder, x_client_key=apps.OTHER_KEY)
    assert result(await hosted_face.image(control_token)) == (200, "shown")
    assert result(await hosted_face.image(control_token)) == (200, "ended")


async def test_after_ten_rate_limiter_an_address_waits_unless_it_has_a_control_token(
    hosted_face: HostedFace,
) -> None:
    _, holder = await hosted_face.holder()
    good, page = await hosted_face.control_tokens(holder)
    for _ in range(5):
        assert (await hosted_face.image(str(uuid4()))).status_code == 410
        assert (await hosted_face.post("session", token=str(uuid4()))).status_code == 410
    for limited in (
        await hosted_face.image(str(uuid4())),
        await hosted_face.page(str(uuid4())),
        await hosted_face.post("session", token=str(uuid4())),
    ):
        assert limited.status_code == 429
        assert limited.headers["retry-after"] == "60"
    assert result(await hosted_face.image(str(uuid4()))) == (429, "failed")
    # Many people share an address: one of them must not shut the others out.
    assert result(await hosted_face.image(good)) == (200, "shown")
    assert (await hosted_face.page(page)).status_code == 200
    assert (await hosted_face.post("session", token=page)).status_code == 200


async def test_of_50_rate_limiter_at_once_ten_are_answered(hosted_face: HostedFace) -> None:
    answers = await asyncio.gather(*(hosted_face.image(str(uuid4())) for _ in range(50)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(410), statuses.count(429)) == (10, 40)


async def test_a_page_that_cannot_be_looked_at_says_why(hosted_face: HostedFace) -> None:
    for _ in range(10):
        await hosted_face.page(str(uuid4()))
    assert "Too many attempts" in (await hosted_face.page(str(uuid4()))).text


async def test_behind_a_proxy_of_ours_each_client_has_its_own_limit(with_apps: D1Face) -> None:
    async with opened(with_apps, proxy_peers=frozenset({"127.0.0.1"})) as hosted_face:
        for _ in range(10):
            guess = await hosted_face.image(str(uuid4()), x_forwarded_for="192.0.2.9, 192.0.2.1")
            assert guess.status_code == 410
        for address, status in (("192.0.2.1", 429), ("192.0.2.9", 410), ("192.0.2.1, ::1", 410)):
            answer = await hosted_face.image(str(uuid4()), x_forwarded_for=address)
            assert answer.status_code == status


async def test_nobody_else_says_who_calls_and_a_proxy_says_it_once(with_apps: D1Face) -> None:
    """Otherwise a caller evades the limit, or has another caller shut out."""
    peers: tuple[frozenset[str], ...] = (frozenset(), frozenset({"10.0.0.7"}))
    for proxy_peers in peers:
        async with opened(with_apps, proxy_peers=proxy_peers) as hosted_face:
            for number in range(11):
                guess = await hosted_face.image(str(uuid4()), x_forwarded_for=f"192.0.2.{number}")
                assert guess.status_code == 400
            assert (await hosted_face.image(str(uuid4()))).status_code == 410
    async with opened(with_apps, proxy_peers=frozenset({"127.0.0.1"})) as hosted_face:
        card_id, holder = await hosted_face.holder()
        params = {"token": await hosted_face.control_token("pin", holder)}
        twice = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2")]
        answer = await hosted_face.http.get("/details-image", params=params, headers=twice)
        assert answer.status_code == 400
        assert hosted_face.controls(card_id) == [(False, None)]
        assert result(await hosted_face.image(params["token"])) == (200, "shown")


async def test_every_answer_has_its_headers(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    control_token, set_token = await hosted_face.control_tokens(holder)
    page = await hosted_face.page(set_token)
    ended = await hosted_face.page("")
    images = [await hosted_face.image(control_token), await hosted_face.image(control_token)]
    posted = await hosted_face.post("session", token=set_token)
    for answer in (page, ended, *images, posted, await hosted_face.ask("pin", holder)):
        assert "no-store" in answer.headers["cache-control"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
    for answer in (page, ended, *images, posted):
        assert "access-control-allow-origin" not in answer.headers
    for image in images:
        assert image.headers["cross-origin-resource-policy"] == "cross-origin"
        assert "no-transform" in image.headers["cache-control"]
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    nonces = {
        p.headers["content-security-policy"] for p in [await hosted_face.page(set_token), page]
    }
    assert len(nonces) == 2


async def test_what_the_page_loads_is_served_and_kept(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    page = await hosted_face.page(await hosted_face.control_token("set-pin", holder))
    paths = [part.split('"')[0] for part in page.text.split('"/pin-assets/')[1:]]
    assert len(paths) >= 5
    for path in paths:
        asset = await hosted_face.http.get(f"/pin-assets/{path}")
        assert asset.status_code == 200
        assert "immutable" in asset.headers["cache-control"]
        assert asset.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("verb", PAGE_VERBS)
async def test_only_our_own_page_may_post(hosted_face: HostedFace, verb: str) -> None:
    url, good = f"/pin-direct/{verb}", {"token": "t", "session": "s", "jwe": "j"}
    for site in ("cross-site", "same-site", "none"):
        answer = await hosted_face.http.post(url, json=good, headers={"sec-fetch-site": site})
        assert answer.status_code == 403
    for content, media_type, status in (
        (b"token=t&session=s", "application/x-www-form-urlencoded", 415),
        (b'{"token":"t","session":"s"}', "text/plain", 415),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"token":1,"session":1,"jwe":1}', "application/json", 400),
        (b'{"a":"' + b"x" * 17_000 + b'"}', "application/json", 400),
    ):
        answer = await hosted_face.http.post(
            url, content=content, headers={"content-type": media_type}
        )
        assert answer.status_code == status


async def test_no_control_token_and_no_session_is_logged(
    hosted_face: HostedFace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, holder = await hosted_face.holder()
    caplog.clear()
    control_token, set_token = await hosted_face.control_tokens(holder)
    await hosted_face.image(control_token)
    await hosted_face.image(control_token)
    await hosted_face.page(set_token)
    session = (await hosted_face.post("session", token=set_token)).json()
    session["controlToken"] = set_token
    jwe = page_jwe(session, "5938")
    await hosted_face.post("submit", **submission(session, jwe))
    ours = [record for record in caplog.records if record.name.startswith("cms")]
    lines = "\n".join(JsonLines().format(record) + str(record.__dict__) for record in ours)
    assert "/details-image" in lines
    for secret in (control_token, set_token, session["session"], jwe):
        assert secret not in lines
    # By chance the PIN's digits stand within a time or an id.
    assert re.search(r"(?<![\w.-])5938(?![\w.-])", lines) is None


# Vault or database unavailable.


NO_VAULT = NoVault(VaultUnavailable("a test has no vault"))


async def test_without_a_vault_an_image_fails_and_a_page_keeps_its_control_token(
    with_apps: D1Face, hosted_face: HostedFace
) -> None:
    card_id, holder = await hosted_face.holder()
    control_token, set_token = await hosted_face.control_tokens(holder)
    async with opened(with_apps, vault=NO_VAULT) as without:
        failed = await without.image(control_token)
        assert result(failed) == (503, "failed")
        assert failed.headers["retry-after"]
        assert result(await without.image(control_token)) == (410, "ended")
        answer = await without.post("session", token=set_token)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        for purpose in ("pin", "set-pin"):
            answer = await without.ask(purpose, holder)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert hosted_face.controls(card_id) == [(True, "shown"), (False, None)]


async def test_a_vault_that_goes_away_ends_the_session_and_stores_nothing(
    with_apps: D1Face, hosted_face: HostedFace
) -> None:
    card_id, holder = await hosted_face.holder()
    session, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    members = submission(session, page_jwe(session, "5938"))
    async with opened(with_apps, vault=NO_VAULT) as without:
        assert (await without.post("submit", **members)).status_code == 503
    assert (await hosted_face.post("submit", **members)).status_code == 410
    assert hosted_face.d1_face.stored(card_id) == before
    assert hosted_face.controls(card_id) == [(True, "failed")]


async def test_without_a_database_nothing_is_consumed(
    with_apps: D1Face, hosted_face: HostedFace
) -> None:
    card_id, holder = await hosted_face.holder()
    control_token, set_token = await hosted_face.control_tokens(holder)
    before = hosted_face.controls(card_id)
    store = Store.connect("postgresql://nobody@127.0.0.1:1/none")
    await store.open()
    try:
        async with opened(with_apps, store=store) as unavailable:
            answers = await asyncio.gather(
                unavailable.ask("pin", holder),
                unavailable.http.get("/v1/card/status", headers=unavailable.headers(holder)),
                unavailable.image(control_token),
                unavailable.page(set_token),
                unavailable.post("session", token=set_token),
                unavailable.post("submit", session=set_token, controlToken=set_token, jwe="j"),
            )
    finally:
        await store.close()
    assert {answer.status_code for answer in answers} == {503}
    assert all(answer.headers["retry-after"] == "1" for answer in answers)
    assert answers[0].json() == {"message": "Internal server error"}
    assert result(answers[2]) == (503, "failed")
    assert hosted_face.controls(card_id) == before
    assert result(await hosted_face.image(control_token)) == (200, "shown")


@pytest.mark.parametrize("stored", [ServiceUnavailable(), False])
async def test_a_pin_that_cannot_be_stored_ends_the_session(
    hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch, stored: Exception | bool
) -> None:
    async def change_pin(*_: object) -> bool:
        if isinstance(stored, Exception):
            raise stored
        return stored

    card_id, holder = await hosted_face.holder()
    session, before = await hosted_face.session(holder), hosted_face.d1_face.stored(card_id)
    monkeypatch.setattr(ControlStore, "change_pin", change_pin)
    jwe = page_jwe(session, "5938")
    assert (await hosted_face.post("submit", **submission(session, jwe))).status_code == 503
    assert hosted_face.d1_face.stored(card_id) == before
    assert hosted_face.controls(card_id) == [(True, "failed")]


async def test_a_stored_pin_that_was_tampered_with_is_not_shown(
    hosted_face: HostedFace, caplog: pytest.LogCaptureFixture
) -> None:
    card_id, holder = await hosted_face.holder()
    control_token = await hosted_face.control_token("pin", holder)
    run_sql(
        hosted_face.d1_face.url,
        "UPDATE cards SET sealed_pin = set_byte(sealed_pin, 20, 255 - get_byte(sealed_pin, 20))"
        " WHERE card_id = %s",
        card_id,
    )
    assert result(await hosted_face.image(control_token)) == (500, "failed")
    assert "alarm.seal_broken" in [record.message for record in caplog.records]
    assert run_sql(
        hosted_face.d1_face.url,
        "SELECT event, reason FROM audit_events WHERE card_id = %s AND event LIKE 'pin.get%%'"
        " ORDER BY event_id",
        card_id,
    ) == [("pin.get.failed", "SEAL_BROKEN")]


@pytest.mark.parametrize("purpose", ["pin", "set-pin"])
async def test_a_record_that_was_tampered_with_gets_no_control_token(
    hosted_face: HostedFace, purpose: str, caplog: pytest.LogCaptureFixture
) -> None:
    card_id, holder = await hosted_face.holder()
    run_sql(
        hosted_face.d1_face.url,
        "UPDATE cards SET sealed_record = set_byte(sealed_record, 40,"
        " 255 - get_byte(sealed_record, 40)) WHERE card_id = %s",
        card_id,
    )
    answer = await hosted_face.ask(purpose, holder)
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal server error"})
    assert "alarm.seal_broken" in [record.message for record in caplog.records]
    assert hosted_face.controls(card_id) == []
