"""Answers, and the bytes of their headers."""

import json

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from cms.faces.answer import encoded, json_answer, no_content

pytestmark = pytest.mark.anyio
HEADERS = {"Cache-Control": "no-store", "Vary": "Origin"}


async def messages(answer: Response) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    await answer({"type": "http", "method": "GET"}, receive, send)
    return sent


async def test_a_json_answer_is_that_of_starlette() -> None:
    members: dict[str, object] = {
        "a": 1,
        "b": None,
        "c": True,
        "d": 'é\u2028/\x7f\n"',
        "e": [{"f": "g"}],
        "h": {},
    }
    ours = await messages(json_answer(members, encoded(HEADERS), 201))
    theirs = await messages(JSONResponse(members, 201, HEADERS))
    for message in (ours[0], theirs[0]):
        message["headers"].sort()
    assert ours == theirs
    assert json.loads(ours[1]["body"]) == members


async def test_an_answer_without_content_can_be_given_twice() -> None:
    answer = no_content(encoded(HEADERS))
    first = await messages(answer)
    assert first == await messages(answer)
    assert first[0]["headers"] == [(b"cache-control", b"no-store"), (b"vary", b"Origin")]
    assert (first[0]["status"], first[1]["body"]) == (204, b"")
