"""What is not a route, in the shape of every refusal; and the correlation id on every answer."""

import hashlib
import uuid

import httpx
import pytest

from cms.services.d1.pins import Pins
from tests.cms.faces.d1_face import PIN, D1Face, put_body, refusal
from tests.issuer_records import PAN
from tests.service import PUBLIC_URL, d1

pytestmark = pytest.mark.anyio

NOT_FOUND = (404, "RESOURCE_NOT_FOUND", "Unknown resource")
NOT_ALLOWED = (405, "METHOD_NOT_ALLOWED", "Method not allowed")
ISSUER = "/cms/api/v1/issuers/testbank01"
CARD = f"{ISSUER}/cards/active"

NOT_ROUTES = [
    "/",
    "//",
    "/favicon.ico",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/cms/api/v1/issuers/testbank01",
    CARD,
    f"{CARD}/pin/",
    f"{CARD}//pin",
    f"{CARD}/pin/changeCounter/",
    f"{CARD}/pin/changecounter",
    f"{CARD}/PIN",
    f"{CARD}/pin/history",
    f"{ISSUER}/physicalCards/active/pin",
    f"{ISSUER}/cards/active/activate",
    f"{ISSUER}/cards//pin",
    f"{ISSUER}/cards/act%2Five/pin",
    f"{ISSUER}/cards/%2e%2e%2f%2e%2e%2fpin",
    "/cms/api/v2/issuers/testbank01/cards/active/pin",
    "/authz/d1/v1/oauth2/token/",
    "/oauth2/token",
]


@pytest.mark.parametrize("path", NOT_ROUTES)
async def test_an_unknown_route_is_refused_in_the_documented_shape(
    d1_face: D1Face, path: str
) -> None:
    for method in ("GET", "PUT", "POST"):
        answer = await d1_face.send(method, f"{PUBLIC_URL}{path}", put_body("a.b.c.d.e"))
        assert refusal(answer) == NOT_FOUND
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"{CARD}/pin", {"GET", "PUT"}),
        (f"{CARD}/pin/changeCounter", {"GET"}),
        (f"{ISSUER}/physicalCards/active/activate", {"POST"}),
        ("/authz/d1/v1/oauth2/token", {"POST"}),
        ("/.well-known/jwks.json", {"GET"}),
    ],
)
async def test_a_wrong_method_is_refused_in_the_documented_shape(
    d1_face: D1Face, path: str, allowed: set[str]
) -> None:
    methods = {"GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "JUNK"}
    for method in methods - allowed:
        answer = await d1_face.send(method, path)
        assert answer.status_code == NOT_ALLOWED[0]
        if method != "HEAD":  # its answer has no body
            assert refusal(answer) == NOT_ALLOWED, method
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    "card_id",
    [
        "%00",
        "a%00b",
        "%0d%0aSet-Cookie:%20a=b",
        "%20active",
        "active%20",
        "activ%C3%A9",
        "%FF",
        "%F0%9F%92%B3",
        "a.b",
        "a+b",
        "a;b",
        "a:b",
        "%25",
        "a" * 49,
        "a" * 5000,
        "'%20OR%201=1--",
        "active%0A",
        "%E2%80%A8",
    ],
)
async def test_a_card_id_of_another_syntax_is_refused(d1_face: D1Face, card_id: str) -> None:
    for method, path in {
        "GET": f"{ISSUER}/cards/{card_id}/pin",
        "PUT": f"{ISSUER}/cards/{card_id}/pin",
        "POST": f"{ISSUER}/physicalCards/{card_id}/activate",
    }.items():
        answer = await d1_face.send(method, path, put_body("junk"))
        assert refusal(answer) == (400, "FIELD_INVALID_FORMAT", "cardId")
        ((_, *rest),) = d1_face.audit(answer)
        assert rest == [None, d1_face.sample_issuer.client_id, "REQUEST_INVALID", None]


@pytest.mark.parametrize("card_id", ["a", "A_-9", "-", "_", "a" * 48, PAN])
async def test_a_card_id_at_the_edge_of_the_syntax_is_only_unknown(
    d1_face: D1Face, card_id: str
) -> None:
    answer = await d1_face.send("GET", d1_face.d1.path(card_id))
    assert refusal(answer) == (404, "CARD_NOT_FOUND", "Unknown card")


@pytest.mark.parametrize(
    "issuer_id", ["testbank0", "testbank011", "TESTBANK01", "testbank0%00", "%00" * 10, "é" * 10]
)
async def test_another_issuer_id_is_not_ours(d1_face: D1Face, issuer_id: str) -> None:
    path = f"/cms/api/v1/issuers/{issuer_id}/cards/active/pin"
    assert refusal(await d1_face.send("GET", path)) == (404, "ISSUER_NOT_FOUND", "Unknown issuer")
    without_bearer = await d1_face.d1.http.get(path)
    assert refusal(without_bearer) == (401, "AUTHORIZER_UNAUTHORIZED", "Unauthorized")


async def test_a_query_is_ignored(d1_face: D1Face) -> None:
    path = d1_face.d1.path("active", "/pin/changeCounter")
    answer = await d1_face.send("GET", f"{path}?cardId=blocked&type=SECCOS&type=x")
    assert answer.json() == {"changeCounter": 1}


async def test_operations_are_another_listener(d1_face: D1Face) -> None:
    transport = httpx.ASGITransport(d1_face.application.listeners["ops"])
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as ops:
        assert (await ops.get("/healthz")).status_code == 200
        assert (await ops.get("/readyz")).status_code == 200
        for path in (f"{CARD}/pin", "/authz/d1/v1/oauth2/token", "/docs", "/openapi.json", "/"):
            assert (await ops.get(path)).status_code == 404
            assert (await ops.post(path)).status_code == 404


FIT = [
    "a",
    "0",
    "A-b_c. d",
    "x" * 64,
    str(uuid.UUID(int=2**127 + 7)),
    "123456789012",
    "x" * 128,
    "<script>/{}",
]
#: Too long, or not visible ASCII.
HASHED = ["x" * 129, "a\tb", "ä", "a\xa0b", "à", "123456789012/" + "x" * 128]
#: None, or one that could hold a PAN: those that a hash would stand for could be tried one by one.
REPLACED = [
    "",
    " ",
    PAN,
    f"card {PAN}.",
    "4111-1111-1111-1111",
    "4111_1111.1111 1111",
    f"{PAN} 12/30",
    PAN * 9,
    f"{PAN}ä",
    f"{PAN[:8]}\t{PAN[8:]}",
    f"{'x' * 128}{PAN[:8]}-{PAN[8:]}",
    "".join(chr(0xFF10 + int(digit)) for digit in PAN),
]


@pytest.mark.parametrize("given", FIT)
async def test_a_fit_correlation_id_is_echoed(d1_face: D1Face, given: str) -> None:
    answer = await d1_face.d1.http.get("/", headers={"X-Correlation-ID": given})
    assert answer.headers.get_list("x-correlation-id") == [given]


async def echoed(d1_face: D1Face, given: str) -> str:
    headers = [(b"x-correlation-id", given.encode())]
    path = d1_face.d1.path("active", "/pin/changeCounter")
    authorization = (b"authorization", d1_face.bearer["Authorization"].encode())
    answer = await d1_face.d1.http.get(path, headers=[*headers, authorization])
    assert answer.status_code == 200
    return answer.headers["x-correlation-id"]


@pytest.mark.parametrize("given", HASHED)
async def test_an_unfit_correlation_id_is_hashed_and_no_reason_to_refuse(
    d1_face: D1Face, given: str
) -> None:
    digest = hashlib.sha256(given.encode()).hexdigest()
    assert await echoed(d1_face, given) == f"sha256:{digest[:32]}"


@pytest.mark.parametrize("given", REPLACED)
async def test_a_correlation_id_that_could_hold_a_pan_is_replaced(
    d1_face: D1Face, given: str
) -> None:
    assert uuid.UUID(await echoed(d1_face, given)).version == 4


async def test_every_answer_has_the_correlation_id_and_is_not_to_be_stored(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> int:
        raise ZeroDivisionError(PIN)

    async with d1(d1_face.application, d1_face.sample_issuer) as stranger:
        answers = [
            await d1_face.send("GET", d1_face.d1.path("active")),
            await d1_face.put_pin("9382", await d1_face.add_card()),
            await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter")),
            await d1_face.put(b"junk", "active"),
            await stranger.http.get(
                d1_face.d1.path("active"), headers={"x-correlation-id": "call-401"}
            ),
            await d1_face.send("GET", d1_face.d1.path("blocked")),
            await d1_face.send("GET", "/"),
            await d1_face.send("DELETE", d1_face.d1.path("active")),
        ]
        monkeypatch.setattr(Pins, "change_counter", broken)
        answers.append(await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter")))
    assert [answer.status_code for answer in answers] == [
        200, 204, 200, 400, 401, 403, 404, 405, 500,
    ]  # fmt: skip
    for answer in answers:
        assert answer.headers["x-correlation-id"].startswith("call-")
        assert answer.headers["cache-control"] == "no-store"
    assert refusal(answers[-1]) == (500, "INTERNAL_ERROR", "Internal error")
