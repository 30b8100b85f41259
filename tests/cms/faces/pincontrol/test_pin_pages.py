"""The page in a webview and in a frame: who gets it, and that asking for it spends nothing."""

from collections.abc import Callable, Mapping
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from cms.services import directory
from tests.bank import PAN
from tests.cms.faces.hosted import counter as hosted
from tests.cms.faces.pincontrol.teller import (
    FRAME,
    FRAME_KEY,
    OTHER_FRAME_KEY,
    OTHER_FRAMES,
    OTHER_USER,
    PUBLIC_URL,
    USER,
    Teller,
    failure,
    is_ended,
    opened,
)
from tests.cms.faces.scene import PIN, Scene

pytestmark = pytest.mark.anyio
FORM = "application/x-www-form-urlencoded"


async def post_form(
    teller: Teller, body: bytes, content_type: str = FORM, **headers: str
) -> httpx.Response:
    return await teller.http.post(
        "/pincontrol/pin", content=body, headers={"content-type": content_type, **headers}
    )


def form(control_id: str) -> bytes:
    return urlencode({"controlId": control_id}).encode()


def frame_ancestors(answer: httpx.Response) -> str:
    policy = answer.headers["content-security-policy"].split(";")
    (found,) = (part.strip() for part in policy if part.strip().startswith("frame-ancestors"))
    return found.removeprefix("frame-ancestors ")


def same_for_all(answers: list[httpx.Response]) -> bool:
    """Tell whether nobody can tell these ended pages apart."""
    told = [
        (answer.content, {k: v for k, v in answer.headers.items() if k != "x-correlation-id"})
        for answer in answers
    ]
    return all(map(is_ended, answers)) and all(each == told[0] for each in told)


@pytest.mark.parametrize("scope", ["VIEW_PIN", "SET_PIN"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"origin": "https://anywhere.example", "sec-fetch-site": "cross-site"},
        {"origin": PUBLIC_URL, "sec-fetch-site": "same-origin"},
    ],
)
async def test_a_form_from_anywhere_gets_the_page_at_once_and_spends_nothing(
    teller: Teller, scope: str, headers: Mapping[str, str]
) -> None:
    card_id, plastic_id = await teller.plastic()
    control_id = await teller.control_id(plastic_id, scope)
    for _ in range(2):
        page = await post_form(teller, form(control_id), **headers)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["cache-control"] == "no-store"
        assert "set-cookie" not in page.headers
        assert "access-control-allow-origin" not in page.headers
        assert frame_ancestors(page) == "'none'"
        assert control_id in page.text
    assert teller.controls(card_id) == [(False, None)]
    assert teller.audit(page) == []


async def test_the_page_has_the_id_and_nothing_of_the_card(teller: Teller) -> None:
    card_id, plastic_id = await teller.plastic()
    for scope in ("VIEW_PIN", "SET_PIN"):
        text = (await teller.webview(await teller.control_id(plastic_id, scope))).text
        for of_card in (card_id, plastic_id, PAN, PAN[-4:], "1230", "12/30", USER, "testbank01"):
            assert of_card not in text
        assert f'"{PIN}"' not in text


@pytest.mark.parametrize(
    "content_type", [FORM.upper(), f"{FORM}; charset=UTF-8", f"{FORM};charset=utf-8"]
)
async def test_the_content_type_may_be_written_otherwise(teller: Teller, content_type: str) -> None:
    _, plastic_id = await teller.plastic()
    body = form(await teller.control_id(plastic_id))
    assert (await post_form(teller, body, content_type)).status_code == 200
    assert (await post_form(teller, b"other=1&" + body)).status_code == 200


async def test_any_other_form_gets_the_ended_page(teller: Teller) -> None:
    card_id, plastic_id = await teller.plastic()
    control_id = await teller.control_id(plastic_id)
    good = form(control_id)
    answers = [
        await post_form(teller, body, content_type)
        for body, content_type in (
            (good, "multipart/form-data"),
            (good, "application/json"),
            (good, "text/plain"),
            (good, ""),
            (b"", FORM),
            (b"controlId=", FORM),
            (b"controlid=" + control_id.encode(), FORM),
            (good + b"&" + good, FORM),
            (good + b"%00", FORM),
            (b"controlId=%FF%FE", FORM),
            (b"\xff" + good, FORM),
            (good.upper(), FORM),
            (good + b"&x=" + b"x" * 1024, FORM),
            (good + b"".join(b"&p%d=" % n for n in range(16)), FORM),
            (b'{"controlId": "%b"}' % control_id.encode(), "application/json"),
        )
    ]
    assert same_for_all(answers)
    answer = await teller.http.post("/pincontrol/pin", params={"controlId": control_id})
    assert is_ended(answer)
    assert teller.controls(card_id) == [(False, None)]


async def test_an_id_may_be_in_capitals_with_blanks_around_it(teller: Teller) -> None:
    _, plastic_id = await teller.plastic()
    control_id = await teller.control_id(plastic_id)
    for written in (control_id.upper(), f" {control_id}\r\n"):
        assert (await teller.webview(written)).status_code == 200
    assert (await teller.view(control_id.upper())).status_code == 200
    assert failure(await teller.view(control_id))[0] == 410


async def test_a_form_has_at_most_1_kb(teller: Teller) -> None:
    _, plastic_id = await teller.plastic()
    body = form(await teller.control_id(plastic_id)) + b"&x="
    assert (await post_form(teller, body.ljust(1024, b"x"))).status_code == 200
    assert is_ended(await post_form(teller, body.ljust(1025, b"x")))


async def test_who_opens_the_address_of_the_form_gets_the_ended_page(teller: Teller) -> None:
    card_id, plastic_id = await teller.plastic()
    control_id = await teller.control_id(plastic_id)
    for params in ({}, {"controlId": control_id}, {"key": FRAME_KEY}):
        get = await teller.http.get("/pincontrol/pin", params=params)
        head = await teller.http.head("/pincontrol/pin", params=params)
        assert is_ended(get)
        assert (head.status_code, head.content) == (410, b"")
    assert teller.controls(card_id) == [(False, None)]


async def test_unknown_spent_expired_and_foreign_ids_look_alike(teller: Teller) -> None:
    card_id, plastic_id = await teller.plastic()
    spent, spent_set = (
        await teller.control_id(plastic_id),
        await teller.control_id(plastic_id, "SET_PIN"),
    )
    assert (await teller.view(spent)).status_code == 200
    assert (await teller.open(spent_set)).status_code == 200
    expired = await teller.control_id(plastic_id)
    teller.age(card_id, 31)
    changed_card, changed_plastic = await teller.plastic()
    changed = await teller.control_id(changed_plastic)
    await teller.scene.put_pin("8317", changed_card)
    ids = (spent, spent_set, expired, changed, str(uuid4()), "", "x" * 900)
    assert same_for_all([await teller.webview(control_id) for control_id in ids])
    assert same_for_all([await teller.frame(key) for key in ("", "nobody0001-key", spent)])


async def test_the_ended_page_speaks_the_holders_language(teller: Teller) -> None:
    english = await teller.webview(str(uuid4()), **{"accept-language": "en"})
    german = await teller.webview(str(uuid4()), **{"accept-language": "de"})
    assert (english.headers["content-language"], german.headers["content-language"]) == ("en", "de")
    assert english.content != german.content
    assert english.headers["vary"] == "Accept-Language"


@pytest.mark.parametrize(
    ("key", "origins"), [(FRAME_KEY, [FRAME]), (OTHER_FRAME_KEY, OTHER_FRAMES)]
)
async def test_a_frames_key_says_who_may_frame_it(
    teller: Teller, key: str, origins: list[str]
) -> None:
    page = await teller.frame(key)
    assert page.status_code == 200
    assert frame_ancestors(page) == " ".join(origins)
    assert all(origin in page.text for origin in origins)
    others = {FRAME, *OTHER_FRAMES} - {*origins}
    assert not any(f'"{other}"' in page.text for other in others)
    assert "set-cookie" not in page.headers


@pytest.mark.parametrize(
    "query",
    [
        "",
        "key=",
        f"key={FRAME_KEY}x",
        f"key={FRAME_KEY.upper()}",
        f"key={FRAME_KEY}&key={FRAME_KEY}",
        f"KEY={FRAME_KEY}",
        f"key={USER}",
        "key=testbank01",
        "key=testbank0%00-frame",
        "key=%FF",
        "key=" + "x" * 5000,
    ],
)
async def test_without_a_key_that_is_known_there_is_no_frame(teller: Teller, query: str) -> None:
    assert is_ended(await teller.http.get(f"/pincontrol/frame?{query}"))


async def test_the_frame_of_a_disabled_server_is_ended(
    teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "FRESH_SECONDS", 0.0)
    card_id, plastic_id = await teller.plastic()
    view = await teller.control_id(plastic_id, user=OTHER_USER)
    set_ = await teller.control_id(plastic_id, "SET_PIN", OTHER_USER)
    state = "UPDATE clients SET state = %s WHERE client_id = %s"
    teller.sql(state, "disabled", OTHER_USER)
    try:
        assert is_ended(await teller.frame(OTHER_FRAME_KEY))
        assert is_ended(await teller.webview(view))
        assert (await teller.view(view, OTHER_FRAME_KEY)).status_code == 410
        assert (await teller.open(set_, OTHER_FRAME_KEY)).status_code == 410
    finally:
        teller.sql(state, "active", OTHER_USER)
    assert teller.controls(card_id) == [(False, None), (False, None)]
    assert (await teller.frame(OTHER_FRAME_KEY)).status_code == 200


async def test_what_a_server_registered_shows_in_its_page(
    teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "FRESH_SECONDS", 0.0)
    _, plastic_id = await teller.plastic()
    plain = (await teller.webview(await teller.control_id(plastic_id, user=OTHER_USER))).text
    change = (
        "UPDATE clients SET show_button = %s, hide_seconds = %s, view_style = %s::jsonb"
        " WHERE client_id = %s"
    )
    teller.sql(change, False, 77, '{"digitColor": "#123abc"}', OTHER_USER)
    try:
        styled = (await teller.webview(await teller.control_id(plastic_id, user=OTHER_USER))).text
    finally:
        teller.sql(change, True, 30, "{}", OTHER_USER)
    for text in ("#123abc", '"hideSeconds":77', " hidden"):
        assert styled.replace(": ", ":").count(text.replace(": ", ":")) > plain.replace(
            ": ", ":"
        ).count(text)


async def test_a_hosted_token_is_worth_nothing_here(with_backends: Scene, teller: Teller) -> None:
    hosted.add_apps(with_backends)
    async with hosted.opened(with_backends) as counter:
        card_id, holder = await counter.holder()
        view, set_ = await counter.token("pin", holder), await counter.token("set-pin", holder)
        for token in (view, set_):
            assert is_ended(await teller.webview(token))
            assert (await teller.view(token)).status_code == 410
            assert (await teller.open(token)).status_code == 410
        assert counter.controls(card_id) == [(False, None), (False, None)]
        session = (await counter.post("session", token=set_)).json()
        assert (await teller.submit(session, "5938")).status_code == 410
        assert (await teller.post("extend", session=session["session"])).status_code == 410
        assert (await teller.post("cancel", session=session["session"])).status_code == 204
        # None of which ended it.
        jwe = hosted.page_jwe(session, "5938")
        sent = await counter.post("submit", session=session["session"], jwe=jwe)
        assert sent.status_code == 204


async def test_a_control_id_is_worth_nothing_at_the_hosted_face(
    with_backends: Scene, teller: Teller
) -> None:
    card_id, plastic_id = await teller.plastic()
    view, set_ = (
        await teller.control_id(plastic_id),
        await teller.control_id(plastic_id, "SET_PIN"),
    )
    async with hosted.opened(with_backends) as counter:
        for control_id in (view, set_):
            assert (await counter.image(control_id)).status_code == 410
            assert (await counter.page(control_id)).status_code == 410
            assert (await counter.post("session", token=control_id)).status_code == 410
        assert teller.controls(card_id) == [(False, None), (False, None)]
        session = (await teller.open(set_)).json()
        jwe = hosted.page_jwe(session, "5938")
        sent = await counter.post("submit", session=session["session"], jwe=jwe)
        assert sent.status_code == 410
    assert (await teller.submit(session, "5938")).status_code == 204


async def test_after_ten_dead_ids_an_address_waits_and_a_live_id_does_not(
    with_backends: Scene,
) -> None:
    async with opened(with_backends, proxy_peers=frozenset({"127.0.0.1"})) as teller:
        _, plastic_id = await teller.plastic()
        spent, view = await teller.control_id(plastic_id), await teller.control_id(plastic_id)
        await teller.view(spent)
        makers: tuple[Callable[[], str], ...] = (lambda: spent, lambda: str(uuid4()))
        for dead in makers:
            for _ in range(5):
                assert is_ended(await teller.webview(dead()))
                assert (await teller.view(dead())).status_code == 410
            waits = await teller.webview(dead())
            assert (waits.status_code, waits.headers["retry-after"]) == (429, "60")
            for answer in (await teller.view(dead()), await teller.open(dead())):
                assert (failure(answer)[0], answer.headers["retry-after"]) == (429, "60")
            elsewhere = {"x-forwarded-for": "192.0.2.9"}
            assert is_ended(await teller.webview(dead(), **elsewhere))
        # Whoever has a live id at that address does not wait for others.
        assert (await teller.webview(view)).status_code == 200
        assert (await teller.view(view)).status_code == 200
