"""The line that each request to the D1 face leaves."""

import json
import logging
from collections.abc import Iterator

import pytest

from cms.logs import JsonLines, refusals
from cms.services.d1.pins import Pins
from tests.cms.faces.d1_face import PIN, D1Face, put_body
from tests.issuer_records import PAN

pytestmark = pytest.mark.anyio

CARD_PATH = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def request(self) -> dict[str, object]:
        """Return the one line of the one request so far, without time and duration."""
        (line,) = (json.loads(line) for line in self.lines if '"event": "request"' in line)
        assert line.pop("duration_ms") >= 0
        assert line.pop("time")
        assert line.pop("event") == "request"
        assert line.pop("level") == "info"
        return dict(line)


@pytest.fixture
def log() -> Iterator[Lines]:
    lines, level = Lines(), logging.root.level
    logging.root.addHandler(lines)
    logging.root.setLevel(logging.INFO)
    yield lines
    logging.root.removeHandler(lines)
    logging.root.setLevel(level)


async def test_a_call_names_route_issuer_client_card_and_correlation_id(
    d1_face: D1Face, log: Lines
) -> None:
    answer = await d1_face.send("GET", d1_face.d1.path("active"))
    assert log.request() == {
        "listener": "d1",
        "method": "GET",
        "route": f"{CARD_PATH}/pin",
        "status": 200,
        "correlation_id": answer.headers["x-correlation-id"],
        "issuer_id": d1_face.sample_issuer.issuer_id,
        "client_id": d1_face.sample_issuer.client_id,
        "card_id": "active",
    }


async def test_a_refusal_names_its_code_and_not_the_card(d1_face: D1Face, log: Lines) -> None:
    # Nobody knows what a caller sends as a card id: it is logged once the card is known.
    await d1_face.send("GET", d1_face.d1.path(PAN))
    line = log.request()
    assert (line["status"], line["error_code"]) == (404, "CARD_NOT_FOUND")
    assert "card_id" not in line
    assert PAN not in "".join(log.lines)


async def test_path_query_and_body_are_not_logged(d1_face: D1Face, log: Lines) -> None:
    canary = "the-canary"
    await d1_face.send("GET", f"/{canary}/{canary}?{canary}={canary}#{canary}")
    await d1_face.send("PUT", f"{d1_face.d1.path(canary)}?{canary}", put_body(canary, canary))
    await d1_face.send("POST", f"/authz/d1/v1/oauth2/token?{canary}", canary.encode())
    await d1_face.send("GET", d1_face.d1.path("active", f"/{canary}"), cookie=canary)
    assert sum('"event": "request"' in line for line in log.lines) == 4
    assert canary not in "".join(log.lines)


async def test_an_unknown_route_has_no_name(d1_face: D1Face, log: Lines) -> None:
    await d1_face.send("GET", f"/{PIN}")
    line = log.request()
    assert (line["route"], line["status"]) == (None, 404)


async def test_a_caller_that_is_not_known_leaves_a_line_and_a_count(
    d1_face: D1Face, log: Lines
) -> None:
    before = refusals["unauthorized"]
    await d1_face.send("GET", d1_face.d1.path("active"), Authorization="Bearer junk")
    await d1_face.d1.ask_token("testbank01:wrong")
    assert refusals["unauthorized"] == before + 2
    events = [json.loads(line) for line in log.lines if '"event": "unauthorized"' in line]
    assert [(line["reason"], line["count"]) for line in events] == [
        ("d1", before + 1),
        ("token endpoint", before + 2),
    ]
    assert "junk" not in "".join(log.lines)
    assert "wrong" not in "".join(log.lines)


async def test_an_unforeseen_exception_is_logged_once_without_its_message(
    d1_face: D1Face, log: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> int:
        raise ZeroDivisionError(PIN)

    monkeypatch.setattr(Pins, "change_counter", broken)
    await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter"))
    (line,) = (json.loads(line) for line in log.lines if "ZeroDivisionError" in line)
    assert line["event"] == "internal"
    assert line["at"][-1].startswith("broken:")
    assert log.request()["status"] == 500
    assert PIN not in "".join(log.lines)
