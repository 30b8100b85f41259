"""The page in a webview and in a frame: who gets it, and that asking for it consumes nothing."""

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from cms.services import directory
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted import hosted_face as hosted
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import PUBLIC_URL, PinControlFace, opened
from tests.cms.faces.d1_face import PIN, D1Face
from tests.issuer_records import PAN

pytestmark = pytest.mark.anyio
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
NONCE = re.compile('(?<=nonce-)[^\']+|(?<=nonce=")[^"]+')


async def post_form(
    pincontrol_face: PinControlFace, body: bytes, content_type: str | None = FORM, **headers: str
) -> httpx.Response:
    named = {} if content_type is None else {"content-type": content_type}
    return await pincontrol_face.http.post(
        "/pincontrol/pin", content=body, headers={**named, **headers}
    )


def form(control_id: str) -> bytes:
    return urlencode({"controlId": control_id}).encode()


def frame_ancestors(answer: httpx.Response) -> str:
    policy = answer.headers["content-security-policy"].split(";")
    (found,) = (part.strip() for part in policy if part.strip().startswith("frame-ancestors"))
    return found.removeprefix("frame-ancestors ")


def same_for_all(answers: list[httpx.Response]) -> bool:
    """Tell whether nobody can tell these ended pages apart, but by their nonces."""
    told = [
        (
            NONCE.sub("", answer.text),
            {k: NONCE.sub("", v) for k, v in answer.headers.items() if k != "x-correlation-id"},
        )
        for answer in answers
    ]
    return all(each == told[0] for each in told)


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
async def test_a_form_from_anywhere_gets_the_page_at_once_and_consumes_nothing(
    pincontrol_face: PinControlFace, scope: str, headers: Mapping[str, str]
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id, scope)
    for _ in range(2):
        page = await post_form(pincontrol_face, form(control_id), **headers)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["cache-control"] == "no-store"
        assert "set-cookie" not in page.headers
        assert "access-control-allow-origin" not in page.headers
        assert frame_ancestors(page) == "'none'"
        assert control_id in page.text
    assert pincontrol_face.controls(card_id) == [(False, None)]
    assert pincontrol_face.audit(page) == []


async def test_the_page_has_the_id_and_nothing_of_the_card(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    for scope in ("VIEW_PIN", "SET_PIN"):
        control_id = await pincontrol_face.control_id(plastic_id, scope)
        page = (await pincontrol_face.webview(control_id)).text
        assert control_id in page
        # In the id, and in the hashes and nonces of scripts, any digits may stand.
        text = re.sub('(?:nonce|src|href|integrity)="[^"]*"', "", page.replace(control_id, ""))
        for of_card in (
            card_id,
            plastic_id,
            PAN,
            PAN[-4:],
            "1230",
            "12/30",
            backends.USER,
            "testbank01",
        ):
            assert of_card not in text
        assert f'"{PIN}"' not in text


@pytest.mark.parametrize(
    "content_type", [FORM.upper(), f"{FORM}; charset=UTF-8", f"{FORM};charset=utf-8", "", None]
)
async def test_the_content_type_may_be_written_otherwise_or_not_at_all(
    pincontrol_face: PinControlFace, content_type: str | None
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    body = form(await pincontrol_face.control_id(plastic_id))
    assert (await post_form(pincontrol_face, body, content_type)).status_code == 200
    body = b"other=1&" + body
    assert (await post_form(pincontrol_face, body, content_type)).status_code == 200


@pytest.mark.parametrize(
    "names", [("controlId",), ("pinControlId",), ("controlId", "pinControlId")]
)
@pytest.mark.parametrize("content_type", [FORM, JSON, f"{JSON}; charset=utf-8", JSON.upper()])
async def test_an_id_may_have_either_name_in_a_form_or_in_json(
    pincontrol_face: PinControlFace, names: tuple[str, ...], content_type: str
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    members = dict.fromkeys(names, control_id)
    body = urlencode(members) if content_type == FORM else json.dumps({**members, "other": 1})
    page = await post_form(pincontrol_face, body.encode(), content_type)
    assert page.status_code == 200
    assert control_id in page.text


async def test_what_is_not_such_a_body_is_told_to_the_app_and_its_developers(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    good = form(control_id)
    part = b'--x\r\nContent-Disposition: form-data; name="controlId"\r\n\r\n%b\r\n--x--\r\n'
    answers = [
        await post_form(pincontrol_face, body, content_type)
        for body, content_type in (
            (good, "multipart/form-data"),
            (part % control_id.encode(), "multipart/form-data; boundary=x"),
            (good, JSON),
            (good, "text/plain"),
            (good, "application/octet-stream"),
            (b"", FORM),
            (b"", None),
            (b"", JSON),
            (b"controlid=" + control_id.encode(), FORM),
            (good + b"&" + good, FORM),
            (good + b"&pinControlId=other", FORM),
            (b"\xff" + good, FORM),
            (good.upper(), FORM),
            (good + b"&x=" + b"x" * 1024, FORM),
            (good + b"".join(b"&p%d=" % n for n in range(16)), FORM),
            (b'{"controlId": "%b"}' % control_id.encode(), FORM),
            (b'{"controlId": "%b"}' % control_id.encode(), None),
            (b'{"controlId": ["%b"]}' % control_id.encode(), JSON),
            (b'["%b"]' % control_id.encode(), JSON),
            (b'{"controlId": "x", "controlId": "%b"}' % control_id.encode(), JSON),
            (b'{"controlId": "x", "pinControlId": "%b"}' % control_id.encode(), JSON),
            (b'{"controlId": 1}', JSON),
            (b"{", JSON),
        )
    ]
    assert all(outcomes.tells_app(answer, 400) for answer in answers)
    assert same_for_all(answers)
    answer = await pincontrol_face.http.post("/pincontrol/pin", params={"controlId": control_id})
    assert outcomes.tells_app(answer, 400)
    assert pincontrol_face.controls(card_id) == [(False, None)]


async def test_an_id_that_cannot_be_one_is_as_a_dead_one(pincontrol_face: PinControlFace) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    good = form(await pincontrol_face.control_id(plastic_id))
    bodies = (b"controlId=", good + b"%00", b"controlId=%FF%FE", b"controlId=1")
    answers = [await post_form(pincontrol_face, body) for body in bodies]
    assert all(map(outcomes.tells_app, answers))
    assert same_for_all(answers)


async def test_an_id_may_be_in_capitals_with_blanks_around_it(
    pincontrol_face: PinControlFace,
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    for written in (control_id.upper(), f" {control_id}\r\n"):
        assert (await pincontrol_face.webview(written)).status_code == 200
    assert (await pincontrol_face.view(control_id.upper())).status_code == 200
    assert outcomes.failure(await pincontrol_face.view(control_id))[0] == 410


async def test_a_form_has_at_most_1_kb(pincontrol_face: PinControlFace) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    body = form(await pincontrol_face.control_id(plastic_id)) + b"&x="
    assert (await post_form(pincontrol_face, body.ljust(1024, b"x"))).status_code == 200
    assert outcomes.tells_app(await post_form(pincontrol_face, body.ljust(1025, b"x")), 400)


async def test_who_opens_the_address_of_the_form_gets_the_ended_page(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    for params in ({}, {"controlId": control_id}, {"key": backends.FRAME_KEY}):
        get = await pincontrol_face.http.get("/pincontrol/pin", params=params)
        head = await pincontrol_face.http.head("/pincontrol/pin", params=params)
        assert outcomes.is_ended(get)
        assert (head.status_code, head.content) == (410, b"")
    assert pincontrol_face.controls(card_id) == [(False, None)]


async def test_consumed_expired_and_overtaken_ids_look_alike_and_so_do_those_that_never_were(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    consumed, consumed_set = await pincontrol_face.control_ids(plastic_id)
    assert (await pincontrol_face.view(consumed)).status_code == 200
    assert (await pincontrol_face.open(consumed_set)).status_code == 200
    expired = await pincontrol_face.control_id(plastic_id)
    pincontrol_face.age(card_id, 31)
    changed_card, changed_plastic = await pincontrol_face.plastic()
    changed = await pincontrol_face.control_id(changed_plastic)
    await pincontrol_face.d1_face.put_pin("8317", changed_card)
    ours = (consumed, consumed_set, expired, changed)
    dead = [await pincontrol_face.webview(control_id) for control_id in ours]
    none = [await pincontrol_face.webview(control_id) for control_id in (str(uuid4()), "x" * 900)]
    assert all(map(outcomes.tells_app, dead + none))
    assert same_for_all(dead)
    assert same_for_all(none)
    # Only that somebody's look is there tells them apart; see the tests of the page.
    assert not same_for_all([dead[0], none[0]])
    frames = [await pincontrol_face.frame(key) for key in ("", "nobody0001-key", consumed)]
    assert all(map(outcomes.is_ended, frames))
    assert same_for_all(frames)


async def test_a_page_speaks_the_language_of_its_address_else_of_the_client_else_of_the_browser(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    _, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id, user=backends.OTHER_USER)

    async def languages(query: str) -> list[str]:
        http, german = pincontrol_face.http, {"accept-language": "de"}
        pin = f"/pincontrol/pin?{query}"
        frame = f"/pincontrol/frame?key={backends.OTHER_FRAME_KEY}&{query}"
        live = await http.post(pin, data={"controlId": control_id}, headers=german)
        framed = await http.get(frame, headers=german)
        dead = await http.post(pin, headers=german)
        assert (live.status_code, framed.status_code, dead.status_code) == (200, 200, 400)
        return [answer.headers["content-language"] for answer in (live, framed, dead)]

    assert await languages("") == ["de", "de", "de"]
    await pincontrol_face.change(backends.OTHER_USER, language="sv")
    try:
        # The ended page does not tell whose it was.
        assert await languages("") == ["sv", "sv", "de"]
        for written in ("fi", "fi-FI", "FI", "fi_FI"):
            assert await languages(f"lang={written}") == ["fi", "fi", "fi"]
        for unknown in ("tlh", "", "fi&lang=fr", "f", "fi;q=1", "%00"):
            assert await languages(f"lang={unknown}") == ["sv", "sv", "de"]
        await pincontrol_face.change(backends.OTHER_USER, language="tlh")
        assert await languages("") == ["de", "de", "de"]
    finally:
        await pincontrol_face.change(backends.OTHER_USER, language=None)


async def test_the_ended_page_speaks_the_holders_language(pincontrol_face: PinControlFace) -> None:
    english = await pincontrol_face.webview(str(uuid4()), **{"accept-language": "en"})
    german = await pincontrol_face.webview(str(uuid4()), **{"accept-language": "de"})
    assert (english.headers["content-language"], german.headers["content-language"]) == ("en", "de")
    assert english.content != german.content
    assert english.headers["vary"] == "Accept-Language"


@pytest.mark.parametrize(
    ("key", "origins"),
    [(backends.FRAME_KEY, [backends.FRAME]), (backends.OTHER_FRAME_KEY, backends.OTHER_FRAMES)],
)
async def test_a_frames_key_says_who_may_frame_it(
    pincontrol_face: PinControlFace, key: str, origins: list[str]
) -> None:
    page = await pincontrol_face.frame(key)
    assert page.status_code == 200
    assert frame_ancestors(page) == " ".join(origins)
    assert all(origin in page.text for origin in origins)
    others = {backends.FRAME, *backends.OTHER_FRAMES} - {*origins}
    assert not any(f'"{other}"' in page.text for other in others)
    assert "set-cookie" not in page.headers


@pytest.mark.parametrize(
    "query",
    [
        "",
        "key=",
        f"key={backends.FRAME_KEY}x",
        f"key={backends.FRAME_KEY.upper()}",
        f"key={backends.FRAME_KEY}&key={backends.FRAME_KEY}",
        f"KEY={backends.FRAME_KEY}",
        f"key={backends.USER}",
        "key=testbank01",
        "key=testbank0%00-frame",
        "key=%FF",
        "key=" + "x" * 5000,
    ],
)
async def test_without_a_key_that_is_known_there_is_no_frame(
    pincontrol_face: PinControlFace, query: str
) -> None:
    assert outcomes.is_ended(await pincontrol_face.http.get(f"/pincontrol/frame?{query}"))


async def test_the_frame_of_a_server_that_was_removed_is_ended(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    card_id, plastic_id = await pincontrol_face.plastic()
    view, set_ = await pincontrol_face.control_ids(plastic_id, backends.OTHER_USER)
    await pincontrol_face.change(
        backends.OTHER_USER, client_id=backends.GONE, frame_key=backends.GONE
    )
    try:
        assert outcomes.is_ended(await pincontrol_face.frame(backends.OTHER_FRAME_KEY))
        assert outcomes.tells_app(await pincontrol_face.webview(view))
        assert (await pincontrol_face.view(view, backends.OTHER_FRAME_KEY)).status_code == 410
        assert (await pincontrol_face.open(set_, backends.OTHER_FRAME_KEY)).status_code == 410
    finally:
        await pincontrol_face.change(
            backends.GONE, client_id=backends.OTHER_USER, frame_key=backends.OTHER_FRAME_KEY
        )
    assert pincontrol_face.controls(card_id) == [(False, None), (False, None)]
    assert (await pincontrol_face.frame(backends.OTHER_FRAME_KEY)).status_code == 200


async def test_what_a_server_registered_shows_in_its_page(
    pincontrol_face: PinControlFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    _, plastic_id = await pincontrol_face.plastic()
    plain = (
        await pincontrol_face.webview(
            await pincontrol_face.control_id(plastic_id, user=backends.OTHER_USER)
        )
    ).text
    style = {"digitColor": "#123abc"}
    await pincontrol_face.change(
        backends.OTHER_USER, show_button=False, hide_seconds=77, view_style=style
    )
    try:
        styled = (
            await pincontrol_face.webview(
                await pincontrol_face.control_id(plastic_id, user=backends.OTHER_USER)
            )
        ).text
    finally:
        await pincontrol_face.change(
            backends.OTHER_USER, show_button=True, hide_seconds=30, view_style={}
        )
    for text in ("#123abc", '"hideSeconds":77', " hidden"):
        assert styled.replace(": ", ":").count(text.replace(": ", ":")) > plain.replace(
            ": ", ":"
        ).count(text)


async def test_a_hosted_control_token_is_worth_nothing_here(
    with_backends: D1Face, pincontrol_face: PinControlFace
) -> None:
    await apps.add_apps(with_backends)
    async with hosted.opened(with_backends) as hosted_face:
        card_id, holder = await hosted_face.holder()
        view, set_ = await hosted_face.control_tokens(holder)
        for control_token in (view, set_):
            assert outcomes.tells_app(await pincontrol_face.webview(control_token))
            assert (await pincontrol_face.view(control_token)).status_code == 410
            assert (await pincontrol_face.open(control_token)).status_code == 410
        assert hosted_face.controls(card_id) == [(False, None), (False, None)]
        session = (await hosted_face.post("session", token=set_)).json() | {"controlToken": set_}
        assert (await pincontrol_face.submit(session, "5938")).status_code == 410
        assert (await pincontrol_face.post("extend", session=session["session"])).status_code == 410
        assert (await pincontrol_face.post("cancel", session=session["session"])).status_code == 204
        # None of which ended it.
        jwe = page_jwe(session, "5938")
        sent = await hosted_face.post("submit", **submission(session, jwe))
        assert sent.status_code == 204


async def test_a_control_id_is_worth_nothing_at_the_hosted_face(
    with_backends: D1Face, pincontrol_face: PinControlFace
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    view, set_ = await pincontrol_face.control_ids(plastic_id)
    async with hosted.opened(with_backends) as hosted_face:
        for control_id in (view, set_):
            assert (await hosted_face.image(control_id)).status_code == 410
            assert (await hosted_face.page(control_id)).status_code == 410
            assert (await hosted_face.post("session", token=control_id)).status_code == 410
        assert pincontrol_face.controls(card_id) == [(False, None), (False, None)]
        session = (await pincontrol_face.open(set_)).json() | {"controlToken": set_}
        jwe = page_jwe(session, "5938")
        sent = await hosted_face.post("submit", **submission(session, jwe))
        assert sent.status_code == 410
    assert (await pincontrol_face.submit(session, "5938")).status_code == 204


async def test_after_ten_dead_ids_an_address_waits_and_a_live_id_does_not(
    with_backends: D1Face,
) -> None:
    async with opened(with_backends, proxy_peers=frozenset({"127.0.0.1"})) as pincontrol_face:
        _, plastic_id = await pincontrol_face.plastic()
        consumed, view = (
            await pincontrol_face.control_id(plastic_id),
            await pincontrol_face.control_id(plastic_id),
        )
        await pincontrol_face.view(consumed)
        makers: tuple[Callable[[], str], ...] = (lambda: consumed, lambda: str(uuid4()))
        for dead in makers:
            for _ in range(5):
                assert outcomes.tells_app(await pincontrol_face.webview(dead()))
                assert (await pincontrol_face.view(dead())).status_code == 410
            waits = await pincontrol_face.webview(dead())
            assert outcomes.tells_app(waits, 429)
            assert waits.headers["retry-after"] == "60"
            for answer in (await pincontrol_face.view(dead()), await pincontrol_face.open(dead())):
                assert (outcomes.failure(answer)[0], answer.headers["retry-after"]) == (429, "60")
            elsewhere = {"x-forwarded-for": "192.0.2.9"}
            assert outcomes.tells_app(await pincontrol_face.webview(dead(), **elsewhere))
        # Whoever has a live id at that address does not wait for others.
        assert (await pincontrol_face.webview(view)).status_code == 200
        assert (await pincontrol_face.view(view)).status_code == 200
