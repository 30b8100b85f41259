"""A face's table of routes, as FastAPI gets it."""

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from cms.faces.routes import Route, add_routes

pytestmark = pytest.mark.anyio


async def echo(request: Request) -> Response:
    return Response(f"{request.method} {request.path_params['name']}")


async def test_a_line_answers_its_methods_and_no_other() -> None:
    app = FastAPI()
    add_routes(app, (Route("PUT", "/one/{name}", echo), Route("GET POST", "/two/{name}", echo)))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://pins.test") as http:
        assert (await http.put("/one/a")).text == "PUT a"
        assert (await http.get("/two/b")).text == "GET b"
        assert (await http.post("/two/b")).text == "POST b"
        refused = await http.put("/two/b")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == {"GET", "POST"}


async def test_a_line_is_described_as_it_says() -> None:
    app = FastAPI()
    add_routes(
        app, [Route("PUT", "/one/{name}", echo, "Set One", 204, {404: {"description": "None"}})]
    )
    operation = app.openapi()["paths"]["/one/{name}"]["put"]
    assert operation["summary"] == "Set One"
    assert operation["responses"].keys() == {"204", "404"}
