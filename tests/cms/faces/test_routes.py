"""A face's table of routes."""

from unittest.mock import MagicMock

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from opentelemetry import trace
from starlette.types import Receive, Scope, Send

from cms.faces.openapi import document
from cms.faces.operation import About, Answered, Operation
from cms.faces.refusals import Refusal
from cms.faces.routes import Face, Route

pytestmark = pytest.mark.anyio
SAID = Operation("", {})


async def echo(request: Request) -> Response:
    return Response(f"{request.method} {request.path_params['name']}")


def calling(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://pins.test")


async def test_a_line_answers_its_methods_and_no_other() -> None:
    app = Face()
    app.add((Route("PUT", "/one/{name}", echo, SAID), Route("GET POST", "/two/{name}", echo, SAID)))
    async with calling(app) as http:
        assert (await http.put("/one/a")).text == "PUT a"
        assert (await http.get("/two/b")).text == "GET b"
        assert (await http.post("/two/b")).text == "POST b"
        refused = await http.put("/two/b")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == {"GET", "POST"}


async def test_what_is_answered_nowhere_goes_to_the_server() -> None:
    async def fail(request: Request) -> Response:
        raise LookupError

    app = Face()
    app.add([Route("GET", "/one", fail, SAID)])
    async with calling(app) as http:
        with pytest.raises(LookupError):
            await http.get("/one")


async def test_two_lines_of_one_path_are_one_path_of_two_methods() -> None:
    app = Face()
    app.add((Route("PUT", "/one/{name}", echo, SAID), Route("GET", "/one/{name}", echo, SAID)))
    app.add((Route("GET", "/one/{name}/two/{other}", echo, SAID),))
    async with calling(app) as http:
        assert (await http.put("/one/a")).text == "PUT a"
        assert (await http.get("/one/a%20b")).text == "GET a b"
        assert (await http.get("/one/a/two/b")).text == "GET a"
        refused = await http.delete("/one/a")
        unknown = [await http.get(path) for path in ("/", "/one", "/one/", "/one/a/", "/ONE/a")]
    assert (refused.status_code, refused.headers["allow"]) == (405, "PUT, GET")
    assert {answered.status_code for answered in unknown} == {404}


async def test_a_path_is_a_line_s_as_a_whole() -> None:
    app = Face()
    app.add([Route("GET", "/one/{name}/two", echo, SAID)])
    async with calling(app) as http:
        assert (await http.get("/one/a/two")).status_code == 200
        for other in (
            "/one/a/two%0A",
            "/one/a/two/",
            "/one/a/two.",
            "/one/a%2Fb/two",
            "//one/a/two",
        ):
            assert (await http.get(other)).status_code == 404, other


async def test_a_request_notes_its_route_for_the_log() -> None:
    noted = []
    app = Face()
    app.add((Route("PUT", "/one/{name}", echo, SAID), Route("GET", "/two", echo, SAID)))

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        noted.append(getattr(scope.get("route"), "path", None))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(note)) as http:
        for method, path in (("PUT", "/one/a"), ("GET", "/one/a"), ("PUT", "/two"), ("GET", "/3")):
            await http.request(method, f"https://pins.test{path}")
    assert noted == ["/one/{name}", "/one/{name}", "/two", None]


async def test_a_line_is_described_as_it_says() -> None:
    gone = Refusal(410, {"code": "GONE"}, "It is gone.", "Ask anew.", None, "code")
    said = Operation("Set One", {204: Answered("It is set.")}, [gone])
    described = document(About("one", "One", ""), [Route("PUT HEAD", "/one/{name}", echo, said)])
    operation, head = (described["paths"]["/one/{name}"][method] for method in ("put", "head"))
    assert operation["summary"] == "Set One"
    assert operation["responses"].keys() == {"204", "410"}
    (example,) = operation["responses"]["410"]["content"]["application/json"]["examples"].values()
    assert example == {"summary": "It is gone.", "value": {"code": "GONE"}}
    assert "content" not in head["responses"]["410"]


async def test_what_a_handler_raises_the_app_answers() -> None:
    async def fail(request: Request) -> Response:
        raise KeyError

    async def answer(request: Request, error: Exception) -> Response:
        return JSONResponse({"name": request.path_params["name"]}, 409)

    app = Face()
    app.add_exception_handler(LookupError, answer)
    app.add([Route("GET", "/one/{name}", fail, SAID)])
    async with calling(app) as http:
        answered = await http.get("/one/a")
    assert (answered.status_code, answered.json()) == (409, {"name": "a"})


@pytest.mark.parametrize(("app", "traced"), [(Face(), False), (FastAPI(), True)])
async def test_no_path_or_query_goes_to_telemetry(
    app: FastAPI, traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = MagicMock(spec=trace.TracerProvider)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    if isinstance(app, Face):
        app.add([Route("GET", "/one/{name}", echo, SAID)])
    else:
        app.add_api_route("/one/{name}", echo)
    async with calling(app) as http:
        await http.get("/one/a?token=b")
    assert ("token=b" in str(provider.mock_calls)) is traced
