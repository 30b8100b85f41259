"""Token or database away: 503 with Retry-After and nothing changed; never another refusal."""

from collections.abc import Callable

import httpx
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cms.services import directory
from hsm.errors import LoginRefused, VaultUnavailable
from hsm.lane import Lane
from tests.cms.faces.scene import Scene, put_body, refusal

pytestmark = pytest.mark.anyio

TRY_LATER = (503, "SERVICE_UNAVAILABLE", "Try again later")


def vault_is_away(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def call(*_: object) -> None:
        raise error

    monkeypatch.setattr(Lane, "call", call)


def database_is_away(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def connection(*_: object) -> None:
        raise error

    monkeypatch.setattr(directory, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(AsyncConnectionPool, "connection", connection)


def assert_try_later(answer: httpx.Response) -> None:
    assert refusal(answer) == TRY_LATER
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [VaultUnavailable("busy"), LoginRefused("no")])
async def test_without_the_token_no_pin_moves_and_the_counter_is_still_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    body = put_body(scene.bank.pin_jwe("9382", "active"))
    await scene.send("GET", scene.d1.path("active"))
    before = scene.stored("active")
    with monkeypatch.context() as patch:
        vault_is_away(patch, error)
        put = await scene.put(body, "active")
        get = await scene.send("GET", scene.d1.path("active"))
        counter = await scene.send("GET", scene.d1.path("active", "/pin/changeCounter"))
    assert_try_later(put)
    assert_try_later(get)
    assert counter.json() == {"changeCounter": 1}
    assert scene.audit(put) == []
    assert scene.stored("active") == before
    assert (await scene.put(body, await scene.add_card())).status_code == 204


async def test_without_the_token_no_access_token_is_issued(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault_is_away(monkeypatch, VaultUnavailable("busy"))
    assert_token_try_later(await scene.d1.ask_token())


def assert_token_try_later(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {
        "error": "temporarily_unavailable",
        "errorCode": "SERVICE_UNAVAILABLE",
    }


ERRORS: dict[str, Callable[[], Exception]] = {
    "gone": lambda: psycopg.OperationalError("connection refused by 10.1.2.3"),
    "no connection free": lambda: PoolTimeout("no connection"),
    "shutting down": lambda: psycopg.errors.AdminShutdown("terminating"),
    "too slow": lambda: psycopg.errors.QueryCanceled("statement timeout"),
    "closed": lambda: psycopg.InterfaceError("the connection is closed"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_without_the_database_nothing_is_answered_but_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body = put_body(scene.bank.pin_jwe("9382", "active"))
    before = scene.stored("active")
    with monkeypatch.context() as patch:
        database_is_away(patch, ERRORS[name]())
        answers = [
            await scene.put(body, "active"),
            await scene.put(b"junk", "active"),
            await scene.send("GET", scene.d1.path("active")),
            await scene.send("GET", scene.d1.path("active", "/pin/changeCounter")),
            await scene.send("GET", scene.d1.path("unknown")),
        ]
    for answer in answers:
        assert_try_later(answer)
    assert scene.stored("active") == before


async def test_a_bug_in_a_statement_is_an_internal_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        database_is_away(patch, psycopg.errors.UndefinedTable("relation 4539578763621486"))
        patch.setattr(directory, "FRESH_SECONDS", 5.0)
        answer = await scene.send("GET", scene.d1.path("active"))
    assert refusal(answer) == (500, "INTERNAL_ERROR", "Internal error")
