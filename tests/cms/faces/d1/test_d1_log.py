"""The line that each request to the D1 face leaves."""

import json
import logging
from collections.abc import Iterator, Mapping

import pytest

from cms.logs import JsonLines, refusals
from cms.sandbox.partners.jwe import encrypt
from cms.services.d1.pins import Pins
from crypto.jose import base64url
from tests.cms.faces.d1_face import PIN, D1Face, put_body
from tests.issuer_records import PAN

pytestmark = pytest.mark.anyio

MESSAGE = "what nobody foresaw"
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
        (line,) = (json.loads(line) for line in self.lines if '"event":"request"' in line)
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
    assert sum('"event":"request"' in line for line in log.lines) == 4
    assert canary not in "".join(log.lines)


async def test_a_refused_jwe_shows_its_alg_enc_kid_and_unknown_members(
    d1_face: D1Face, log: Lines
) -> None:
    protected = {
        "alg": "RSA-OAEP-256",
        "enc": "A128CBC-HS256",
        "kid": "bank-2025",
        "epk": {"canary": "the-canary"},
        "iat": "the-canary",
        "x5t": "the-canary",
    }
    answer = await d1_face.put(put_body(compact(protected)), "active")
    assert answer.json() == {"errorCode": "FIELD_INVALID_FORMAT", "error": "encryptedPinBlock"}
    line = log.request()
    assert {name: line[name] for name in line if name.startswith(("jwe", "reason"))} == {
        "reason": "JWE_ALG",
        "jwe_alg": "RSA-OAEP-256",
        "jwe_enc": "A128CBC-HS256",
        "jwe_kid": "bank-2025",
        "jwe_unknown": "iat x5t",
    }
    ((*_, reason, _counter),) = d1_face.audit(answer)
    assert reason == "JWE_ALG"
    assert "the-canary" not in "".join(log.lines)


async def test_a_jwe_to_a_key_that_is_not_ours_shows_its_kid(d1_face: D1Face, log: Lines) -> None:
    jwk = {**d1_face.sample_issuer.d1_jwk, "kid": "another-bank"}
    answer = await d1_face.put(put_body(encrypt({"pinBlock": PIN}, jwk)), "active")
    assert answer.json() == {"errorCode": "FIELD_INVALID_VALUE", "error": "encryptedPinBlock"}
    line = log.request()
    assert (line["jwe_kid"], line["reason"]) == ("another-bank", "PIN_REFUSED")
    assert "jwe_unknown" not in line


@pytest.mark.parametrize(
    ("kid", "shown"),
    [
        (PAN, "(like a PAN)"),
        (f"{PAN[:4]} {PAN[4:8]}-{PAN[8:12]}.{PAN[12:]}", "(like a PAN)"),
        (f"card/{PAN}", "(like a PAN)"),
        (f"{'k' * 120}/{PAN}", "(like a PAN)"),
        ("550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"),
        ("a\nb", "(not printable)"),
        ("\u0664" * 16, "(not printable)"),
        (4, "(no text)"),
        (["4"], "(no text)"),
        ("k" * 500, "k" * 128 + "..."),
        ("", ""),
    ],
)
async def test_what_a_refused_jwe_shows_is_printable_bounded_and_no_pan(
    d1_face: D1Face, log: Lines, kid: object, shown: str
) -> None:
    await d1_face.put(put_body(compact({"alg": kid, "enc": kid, "kid": kid})), "active")
    line = log.request()
    assert [line[name] for name in ("jwe_alg", "jwe_enc", "jwe_kid")] == [shown] * 3
    assert PAN not in "".join(log.lines)


async def test_a_pan_in_the_names_of_members_is_not_shown(d1_face: D1Face, log: Lines) -> None:
    await d1_face.put(put_body(compact({PAN[:8]: 1, PAN[8:]: 1})), "active")
    assert log.request()["jwe_unknown"] == "(like a PAN)"


async def test_a_jwe_that_was_taken_shows_nothing(d1_face: D1Face, log: Lines) -> None:
    assert (await d1_face.put_pin(PIN, "active")).status_code == 204
    assert not any(name.startswith("jwe") for name in log.request())


async def test_a_card_that_takes_no_pin_has_no_jwe_looked_at(d1_face: D1Face, log: Lines) -> None:
    for card_id in ("blocked", "nobody"):
        await d1_face.put(put_body(compact({"alg": "none"})), card_id)
    assert "jwe_alg" not in "".join(log.lines)


def compact(protected: Mapping[str, object]) -> str:
    return ".".join((base64url.encode(json.dumps(protected).encode()), "", "AA", "AA", "AA"))


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
    events = [json.loads(line) for line in log.lines if '"event":"unauthorized"' in line]
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
        raise ZeroDivisionError(MESSAGE)

    monkeypatch.setattr(Pins, "change_counter", broken)
    await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter"))
    (line,) = (json.loads(line) for line in log.lines if "ZeroDivisionError" in line)
    assert line["event"] == "internal"
    assert line["at"][-1].startswith("broken:")
    assert log.request()["status"] == 500
    assert MESSAGE not in "".join(log.lines)
