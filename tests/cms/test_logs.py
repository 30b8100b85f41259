"""What a log line may hold: listed fields, and never a value by accident."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from cms import logs
from crypto.secret import Secret

PIN = "739105"
pytestmark = pytest.mark.anyio


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Set logging up as the service does, and catch what it prints."""
    printed = io.StringIO()
    names = ("uvicorn", "uvicorn.error", "uvicorn.access")
    before = {
        logger: (logger.handlers, logger.level, logger.propagate)
        for logger in (logging.root, *map(logging.getLogger, names))
    }
    monkeypatch.setattr(sys, "stdout", printed)
    logs.set_up()
    yield printed
    for logger, (handlers, level, propagate) in before.items():
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_and_event(output: io.StringIO) -> None:
    logging.getLogger("cms").warning("vault.unavailable", extra={"reason": "busy"})
    (line,) = lines(output)
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "warning", "event": "vault.unavailable", "reason": "busy"}


def test_a_field_that_is_not_listed_is_dropped(output: io.StringIO) -> None:
    extra = {"pin": PIN, "pan": PIN, "body": PIN, "headers": {"x": PIN}, "card_id": "card-1"}
    logging.getLogger("cms").info("request", extra=extra)
    (line,) = lines(output)
    assert line.keys() == {"time", "level", "event", "card_id"}
    assert PIN not in output.getvalue()


def test_arguments_of_a_message_are_not_printed(output: io.StringIO) -> None:
    logging.getLogger("library").warning("bad value %r at %s", PIN, PIN)
    logging.getLogger("library").warning("bad values %(pin)s", {"pin": PIN})
    assert [line["event"] for line in lines(output)] == [
        "bad value %r at %s",
        "bad values %(pin)s",
    ]
    assert PIN not in output.getvalue()


def test_an_exception_is_its_class_and_its_places(output: io.StringIO) -> None:
    def fail() -> None:
        local = {PIN: PIN}
        raise KeyError(local) from ValueError(PIN)

    try:
        fail()
    except KeyError:
        logging.getLogger("library").exception("failed", stack_info=True)
    (line,) = lines(output)
    assert line["exception"] == "KeyError"
    assert [place.rpartition(":")[0] for place in line["at"]] == [
        "test_an_exception_is_its_class_and_its_places",
        "fail",
    ]
    assert PIN not in output.getvalue()


def test_a_value_that_is_no_json_is_printed_as_it_shows_itself(output: io.StringIO) -> None:
    logging.getLogger("cms").info("request", extra={"reason": Secret(PIN), "count": {1, 2}})
    assert lines(output)[0]["count"] == "{1, 2}"
    assert PIN not in output.getvalue()


def test_what_an_object_hides_from_its_text_is_not_printed(output: io.StringIO) -> None:
    @dataclass
    class Issued:
        control_token: str = field(repr=False)

    hiding = {"reason": Issued(PIN), "count": [Secret(PIN)]}
    logging.getLogger("cms").info("request", extra=hiding)
    assert PIN not in output.getvalue()
    # The encoder of plain lines would print it.
    assert PIN in msgspec.json.encode(Issued(PIN)).decode()


@pytest.mark.parametrize("text", ["é", "\u2028", "\ud800", "\x85", "\x1c", "\x7f"])
def test_a_line_is_ascii_whatever_is_in_it(output: io.StringIO, text: str) -> None:
    logging.getLogger("cms").info("request", extra={"reason": text})
    assert output.getvalue().isascii()
    assert len(output.getvalue().splitlines()) == 1
    assert lines(output)[0]["reason"] == text


def test_a_time_is_written_to_the_millisecond() -> None:
    moments = (1764266400.0, 1764266400.9994, 1764266399.25, 1764266401.5)
    written = []
    formatter = logs.JsonLines()
    for moment in moments:
        record = logging.makeLogRecord({"created": moment, "msg": "request"})
        written.append(json.loads(formatter.format(record))["time"])
    assert written == [
        "2025-11-27T18:00:00.000+00:00",
        "2025-11-27T18:00:00.999+00:00",
        "2025-11-27T17:59:59.250+00:00",
        "2025-11-27T18:00:01.500+00:00",
    ]


def test_an_exception_as_the_message_is_its_class(output: io.StringIO) -> None:
    logging.getLogger("library").error(ValueError(PIN))
    assert [line["event"] for line in lines(output)] == ["ValueError"]


def test_a_line_stays_one_line(output: io.StringIO) -> None:
    logging.getLogger("cms").info("two\nlines", extra={"reason": 'a\r\n{"event": "forged"}\u2028'})
    assert len(output.getvalue().splitlines()) == 1
    assert lines(output)[0]["event"] == "two"


def test_other_libraries_print_through_it_and_the_access_log_not_at_all(
    output: io.StringIO,
) -> None:
    for name in ("uvicorn", "uvicorn.error", "asyncio", "psycopg", "sqlalchemy.engine"):
        logging.getLogger(name).error("from %s", name)
    logging.getLogger("uvicorn.access").error("GET /?pin=%s", PIN)
    logging.getLogger("httpx").debug("request with %s", PIN)
    assert [line["event"] for line in lines(output)] == ["from %s"] * 5


def test_an_exception_nobody_awaited_is_its_class_too(output: io.StringIO) -> None:
    async def fail() -> None:
        raise ValueError(PIN)

    async def forget() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait((task,))
        del task

    asyncio.run(forget())
    (line,) = lines(output)
    # asyncio writes the task, and so the message of its exception, on a second line.
    assert line["event"] == "Task exception was never retrieved"
    assert line["exception"] == "ValueError"
    assert PIN not in output.getvalue()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_callback_that_fails_shows_nothing_that_it_was_called_with(
    output: io.StringIO, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    def fail(_: str) -> None:
        raise ValueError(PIN)

    async def call() -> None:
        asyncio.get_running_loop().call_soon(partial(fail, PIN))
        await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(call())
    (line,) = lines(output)
    assert line["event"] == "Exception in callback"
    assert PIN not in output.getvalue()


def test_a_caller_turned_away_is_counted(output: io.StringIO) -> None:
    before = logs.refusals["handshake"]
    logs.refused("handshake", "CERTIFICATE_EXPIRED")
    logs.refused("handshake", "CERTIFICATE_EXPIRED")
    assert [(line["event"], line["reason"], line["count"]) for line in lines(output)] == [
        ("handshake", "CERTIFICATE_EXPIRED", before + 1),
        ("handshake", "CERTIFICATE_EXPIRED", before + 2),
    ]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    scope["log"]["card_id"] = "card-1"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def fail_early(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError(PIN)


async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(scope, receive, send)
    raise ValueError(PIN)


async def get(app: Any, path: str = "/") -> httpx.Response:  # noqa: ANN401 - an ASGI app
    transport = httpx.ASGITransport(logs.RequestLog(app, "d1"))
    async with httpx.AsyncClient(transport=transport, base_url="https://pins.test") as http:
        return await http.get(path, headers={"x-correlation-id": "call-1"})


def requests(output: io.StringIO) -> list[dict[str, Any]]:
    return [line for line in lines(output) if line["event"] == "request"]


async def test_a_request_is_one_line_without_path_or_query(output: io.StringIO) -> None:
    assert (await get(answer, f"/{PIN}?pin={PIN}")).headers["x-correlation-id"] == "call-1"
    (line,) = requests(output)
    assert line.keys() == {
        "time", "level", "event", "listener", "method", "route", "status", "duration_ms",
        "correlation_id", "card_id",
    }  # fmt: skip
    assert (line["listener"], line["method"], line["status"]) == ("d1", "GET", 204)
    assert line["correlation_id"] == "call-1"
    assert line["route"] is None
    assert PIN not in output.getvalue()


async def test_levels_and_handlers_hold_for_the_line_of_a_request(
    output: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await get(answer)
    (record,) = [record for record in caplog.records if record.name == "cms.request"]
    assert (record.getMessage(), record.levelno) == ("request", logging.INFO)
    assert "cms.request" in caplog.text
    seen = len(requests(output))
    with caplog.at_level(logging.WARNING, "cms.request"):
        await get(answer)
    assert len(requests(output)) == seen == 1


async def test_a_request_that_fails_is_logged_too(output: io.StringIO) -> None:
    with pytest.raises(ValueError, match=PIN):
        await get(fail_early)
    (line,) = requests(output)
    assert "status" not in line


async def test_a_failure_after_the_answer_goes_no_further(output: io.StringIO) -> None:
    # No face can answer any more; the server would log it with its message.
    assert (await get(fail_late)).status_code == 204
    assert PIN not in output.getvalue()
    (internal,) = [line for line in lines(output) if line["event"] == "internal"]
    assert internal["exception"] == "ValueError"


async def test_what_is_no_request_passes_without_a_line(output: io.StringIO) -> None:
    seen: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> Any:  # noqa: ANN401 - ASGI's
        raise AssertionError

    await logs.RequestLog(lifespan, "d1")({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
    assert lines(output) == []
