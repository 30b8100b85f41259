"""Status and body of every answer are those of the published contract, in its order."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cms.faces.cardholder.hosted import relay
from cms.faces.cardholder.hosted.app import hosted_app
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import (
    PUBLIC_URL,
    US_URL,
    HostedFace,
    opened,
    stepping_up,
)
from tests.cms.faces.d1_face import D1Face

pytestmark = pytest.mark.anyio
MISSING = (499, {"message": "Missing client key"})
INVALID = (498, {"message": "Invalid client key"})
UNAUTHORIZED = (401, {"message": "Not authenticated"})
FORBIDDEN = (403, {"message": "Not authorized"})
NO_CARD = (404, {"message": "Card not found"})
LATER = (503, {"message": "Internal server error"})
PURPOSES = ("pin", "set-pin")


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()


def fields(answer: httpx.Response) -> list[str]:
    """Name the members that a 422 speaks of."""
    status, body = refusal(answer)
    assert status == 422, body
    assert body.keys() == {"message", "errors"}
    assert body["message"] == "Validation error"
    assert all(error.keys() == {"field", "message"} for error in body["errors"])
    return [error["field"] for error in body["errors"]]


@pytest.mark.parametrize("purpose", PURPOSES)
async def test_answers_come_in_the_published_order(hosted_face: HostedFace, purpose: str) -> None:
    _, blocked = await hosted_face.holder()
    bad = b"not JSON"
    for headers, answer in (
        ({"x_client_key": None, "authorization": None}, MISSING),
        ({"x_client_key": "", "authorization": None}, MISSING),
        ({"x_client_key": "testbank01-none", "authorization": None}, INVALID),
        ({"x_client_key": "testbank01", "authorization": None}, INVALID),  # D1's client
        ({"x_client_key": "nobody"}, INVALID),
        ({"authorization": None}, UNAUTHORIZED),
        ({"authorization": "Bearer a.b.c"}, UNAUTHORIZED),
        ({"authorization": "Basic YTpi"}, UNAUTHORIZED),
    ):
        assert refusal(await hosted_face.ask(purpose, blocked, bad, **headers)) == answer
    assert refusal(await hosted_face.ask(purpose, "nobody", bad)) == NO_CARD
    assert fields(await hosted_face.ask(purpose, blocked, bad)) == ["body"]


async def test_a_weak_authentication_gets_no_control_token_but_the_status(
    with_apps: D1Face,
) -> None:
    async with stepping_up(with_apps, "stronger") as hosted_face:
        for purpose in PURPOSES:
            refused = await hosted_face.ask(purpose, "nobody")
            assert refusal(refused) == FORBIDDEN
            ((*_, reason, _),) = with_apps.audit(refused)
            assert reason == "STEP_UP_REQUIRED"
        status = await hosted_face.http.get(
            "/v1/card/status", headers=hosted_face.headers("nobody")
        )
        assert refusal(status) == NO_CARD


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"customCss":{}}', b'{"other":1}'])
async def test_a_body_is_optional(hosted_face: HostedFace, purpose: str, body: bytes) -> None:
    _, holder = await hosted_face.holder()
    assert (await hosted_face.ask(purpose, holder, body)).status_code == 200


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("[]", "body"),
        ("null", "body"),
        ('{"a":1,"a":2}', "body"),
        ("x" * 17_000, "body"),
        ('{"customCss":null}', "customCss"),
        ('{"customCss":[]}', "customCss"),
        ('{"customCss":{"backgroundColor":"white"}}', "customCss.backgroundColor"),
        ('{"customCss":{"backgroundColor":"#GGGGGG"}}', "customCss.backgroundColor"),
        ('{"customCss":{"backgroundColor":"#12345678"}}', "customCss.backgroundColor"),
        ('{"customCss":{"textColor":"rgb(0,0,0)"}}', "customCss.textColor"),
        ('{"customCss":{"textColor":"#000;}"}}', "customCss.textColor"),
        ('{"customCss":{"textColor":0}}', "customCss.textColor"),
        ('{"customCss":{"textColor":"#efefef"}}', "customCss.textColor"),
        ('{"customCss":{"backgroundColor":"#000"}}', "customCss.backgroundColor"),
        ('{"isEmbedded":"yes"}', "isEmbedded"),
        ('{"isEmbedded":1}', "isEmbedded"),
        ('{"isEmbedded":null}', "isEmbedded"),
        ('{"redirectUrl":null}', "redirectUrl"),
        ('{"redirectUrl":7}', "redirectUrl"),
        ('{"redirectUrl":"https://other.example/"}', "redirectUrl"),
    ],
)
async def test_a_member_that_is_not_as_published_is_named(
    hosted_face: HostedFace, purpose: str, body: str, named: str
) -> None:
    card_id, holder = await hosted_face.holder()
    assert fields(await hosted_face.ask(purpose, holder, body.encode())) == [named]
    assert hosted_face.controls(card_id) == []


async def test_an_invalid_colour_is_described_as_in_the_contract(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    answer = await hosted_face.ask("pin", holder, {"customCss": {"backgroundColor": "white"}})
    assert answer.json()["errors"] == [
        {"field": "customCss.backgroundColor", "message": "Invalid hex color format"}
    ]


@pytest.mark.parametrize("value", ["8", True, None, -1])
async def test_a_radius_is_a_number_from_0(hosted_face: HostedFace, value: object) -> None:
    _, holder = await hosted_face.holder()
    answer = await hosted_face.ask("set-pin", holder, {"customCss": {"pinBorderRadius": value}})
    assert fields(answer) == ["customCss.pinBorderRadius"]


@pytest.mark.parametrize("purpose", PURPOSES)
async def test_an_app_without_origins_has_no_embedding_and_no_redirect(
    hosted_face: HostedFace, purpose: str
) -> None:
    _, holder = await hosted_face.holder()
    wishes: dict[str, object] = {"isEmbedded": True, "redirectUrl": apps.ORIGIN}
    for name, value in wishes.items():
        answer = await hosted_face.ask(purpose, holder, {name: value}, x_client_key=apps.OTHER_KEY)
        assert fields(answer) == [name]


# The shapes that public clients send.


@pytest.mark.parametrize("colours", [("#121314", "#FFF"), ("#FFF", "#000")])
async def test_a_wallet_that_sends_short_colours_and_false_as_text(
    hosted_face: HostedFace, colours: tuple[str, str]
) -> None:
    _, holder = await hosted_face.holder()
    css = {"backgroundColor": colours[0], "textColor": colours[1], "somethingElse": "x"}
    headers = {"content_type": "application/json", "x_us_env": "false"}
    answer = await hosted_face.ask("pin", holder, {"customCss": css}, **headers)
    assert answer.status_code == 200
    assert answer.json()["imageUrl"].startswith("https://")
    shown = await hosted_face.image(answer.json()["token"])
    assert shown.headers["content-type"] == "image/png"
    width, height = (int.from_bytes(shown.content[at : at + 4]) for at in (16, 20))
    assert width == 3 * height


async def test_a_wallet_that_reads_messages_and_sends_any_case(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    css = {"backgroundColor": "#AbCdEf", "textColor": "#000", "pinBorderRadius": 500}
    body = {"redirectUrl": f"{apps.ORIGIN}/x", "isEmbedded": True, "customCss": css}
    answer = await hosted_face.ask("set-pin", holder, body, content_type="application/json")
    assert answer.json()["hostedPageUrl"].startswith("https://")
    page = await hosted_face.page(answer.json()["token"])
    assert "--pin-radius:64.00px;" in page.text
    assert "--background:#abcdef;" in page.text


@pytest.mark.parametrize("purpose", PURPOSES)
async def test_a_wallet_that_sends_no_body(hosted_face: HostedFace, purpose: str) -> None:
    _, holder = await hosted_face.holder()
    path = f"/v1/card/{purpose}/token"
    answer = await hosted_face.http.post(path, headers=hosted_face.headers(holder))
    assert answer.status_code == 200


# The second deployment.


@pytest.mark.parametrize("value", ["true", "TRUE", "True"])
async def test_without_a_second_deployment_none_can_be_asked(
    hosted_face: HostedFace, value: str
) -> None:
    card_id, holder = await hosted_face.holder()
    for purpose in PURPOSES:
        assert fields(await hosted_face.ask(purpose, holder, x_us_env=value)) == ["x-us-env"]
    assert fields(await hosted_face.ask("pin", holder, x_us_env="yes")) == ["x-us-env"]
    assert hosted_face.controls(card_id) == []


async def test_the_second_deployment_gets_the_request_and_its_answer_is_handed_back(
    with_apps: D1Face,
) -> None:
    async with opened(with_apps, us=True) as hosted_face:
        for status in (200, 401, 422):
            hosted_face.us_answer = httpx.Response(
                status, json={"of": "us"}, headers={"X-Expires-At": "then", "Set-Cookie": "a=b"}
            )
            answer = await hosted_face.ask(
                "pin", "anybody", {"a": 1}, x_us_env="True", origin=apps.ORIGIN
            )
            assert (answer.status_code, answer.json()) == (status, {"of": "us"})
            assert answer.headers["x-expires-at"] == "then"
            assert answer.headers["access-control-allow-origin"] == apps.ORIGIN
            assert "set-cookie" not in answer.headers
            sent = hosted_face.us.pop()
            assert str(sent.url) == f"{US_URL}/v1/card/pin/token"
            assert json.loads(sent.content) == {"a": 1}
            assert sent.headers["x-client-key"] == apps.KEY
            assert sent.headers["authorization"].startswith("Bearer ")
            assert "x-us-env" not in sent.headers
        assert (
            refusal(await hosted_face.ask("pin", "h", x_us_env="true", x_client_key="x")) == INVALID
        )
        assert hosted_face.us == []
        broken = httpx.Response(302), httpx.Response(200, content=b"x" * 70_000)
        for answered in (httpx.ConnectError("unavailable"), *broken):
            hosted_face.us_answer = answered
            unavailable = await hosted_face.ask("pin", "anybody", x_us_env="true")
            assert refusal(unavailable) == LATER
            assert unavailable.headers["retry-after"]


async def test_a_second_deployment_that_answers_without_end_is_unavailable(
    with_apps: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

    monkeypatch.setattr(relay, "TIMEOUT_SECONDS", 0.05)
    async with opened(with_apps, us=True) as hosted_face:
        hosted_face.us_answer = httpx.Response(200, stream=Dripping())
        assert refusal(await hosted_face.ask("pin", "anybody", x_us_env="true")) == LATER
        hosted_face.us.clear()
        assert refusal(await hosted_face.ask("pin", "nobody", x_us_env="false")) == NO_CARD
        assert hosted_face.us == []


# Web pages of apps.


async def test_only_registered_origins_read_answers(hosted_face: HostedFace) -> None:
    _, holder = await hosted_face.holder()
    for origin in (apps.ORIGIN, apps.FRAME, apps.APP_FRAME):
        for answer in (
            await hosted_face.ask("pin", holder, origin=origin),
            await hosted_face.ask("pin", holder, b"bad", origin=origin),
            await hosted_face.ask("pin", holder, origin=origin, authorization=None),
            await hosted_face.ask("pin", holder, origin=origin, x_client_key=None),
            await hosted_face.http.options("/v1/card/pin/token", headers={"origin": origin}),
        ):
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in answer.headers
    evil = ("https://evil.example", "null", f"{apps.ORIGIN}.evil.example", "ionic://localhost")
    for origin in evil:
        for answer in (
            await hosted_face.ask("pin", holder, origin=origin),
            await hosted_face.http.options("/v1/card/pin/token", headers={"origin": origin}),
        ):
            assert "access-control-allow-origin" not in answer.headers
    other = await hosted_face.ask("pin", holder, origin=apps.ORIGIN, x_client_key=apps.OTHER_KEY)
    assert "access-control-allow-origin" not in other.headers


async def test_a_preflight_allows_what_the_contract_sends(hosted_face: HostedFace) -> None:
    answer = await hosted_face.http.options("/v1/card/pin/token", headers={"origin": apps.ORIGIN})
    assert answer.status_code == 204
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "x-client-key", "x-us-env"} <= set(allowed)


@pytest.mark.parametrize("path", ["/", "/v1/card", "/v1/card/other", "/pin-assets/0/x.js", "/docs"])
async def test_what_is_no_route_is_not_found(hosted_face: HostedFace, path: str) -> None:
    answer = await hosted_face.http.get(path)
    assert refusal(answer) == (404, {"message": "Not found"})
    assert str(answer.url).startswith(PUBLIC_URL)


async def test_addresses_in_answers_are_of_the_settings_whatever_a_request_says(
    hosted_face: HostedFace,
) -> None:
    _, holder = await hosted_face.holder()
    lies = {"host": "evil.example", "x_forwarded_host": "evil.example", "x_forwarded_proto": "http"}
    for purpose, member in (("pin", "imageUrl"), ("set-pin", "hostedPageUrl")):
        url = (await hosted_face.ask(purpose, holder, **lies)).json()[member]
        assert url.startswith(f"{PUBLIC_URL}/")


@pytest.mark.parametrize("url", ["http://cards.test", "cards.test", "", "HTTPS://cards.test"])
def test_a_cardholder_address_is_https(url: str) -> None:
    with pytest.raises(ValueError, match="not https"):
        hosted_app(None, url)  # type: ignore[arg-type] # refused before any is called
