"""HSM token or database unavailable: 503 with Retry-After, nothing changed, no other refusal."""

from collections.abc import Callable

import httpx
import psycopg
import pytest
from psycopg.abc import Buffer

from cms.persistence.causes import Cause, DatabaseFailed
from cms.persistence.connection import Connection, Row
from cms.persistence.statements import Statement
from cms.persistence.statements.server import LIMIT_CONNECTION, READ_CONNECTION
from cms.services import directory
from hsm.errors import LoginRefused, VaultUnavailable
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import D1Face, put_body, refusal
from tests.in_process_vault import InProcessVault

pytestmark = pytest.mark.anyio


def vault_is_unavailable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def call(*_: object) -> None:
        raise error

    monkeypatch.setattr(InProcessVault, "call", call)


def database_is_unavailable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    connect = Connection._run

    async def run(
        connection: Connection, statement: Statement, values: list[Buffer | None]
    ) -> list[Row]:
        if statement in (READ_CONNECTION, LIMIT_CONNECTION):
            return await connect(connection, statement, values)
        raise error

    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    monkeypatch.setattr(Connection, "_run", run)


def assert_try_later(answer: httpx.Response) -> None:
    assert refusal(answer) == refusals.TRY_LATER
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [VaultUnavailable("busy"), LoginRefused("no")])
async def test_without_the_token_no_pin_moves_and_the_counter_is_still_read(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    body = put_body(d1_face.sample_issuer.pin_jwe("9382", "active"))
    await d1_face.send("GET", d1_face.d1.path("active"))
    before = d1_face.stored("active")
    with monkeypatch.context() as patch:
        vault_is_unavailable(patch, error)
        put = await d1_face.put(body, "active")
        get = await d1_face.send("GET", d1_face.d1.path("active"))
        counter = await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter"))
    assert_try_later(put)
    assert_try_later(get)
    assert counter.json() == {"changeCounter": 1}
    assert d1_face.audit(put) == []
    assert d1_face.stored("active") == before
    assert (await d1_face.put(body, await d1_face.add_card())).status_code == 204


async def test_without_the_token_no_access_token_is_issued(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault_is_unavailable(monkeypatch, VaultUnavailable("busy"))
    assert_token_try_later(await d1_face.d1.ask_token())


def assert_token_try_later(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {
        "error": "temporarily_unavailable",
        "errorCode": "SERVICE_UNAVAILABLE",
    }


ERRORS: dict[str, Callable[[], Exception]] = {
    "gone": lambda: psycopg.OperationalError("connection refused by 10.1.2.3"),
    "no connection free": lambda: DatabaseFailed(Cause.NO_CONNECTION),
    "shutting down": lambda: psycopg.errors.AdminShutdown("terminating"),
    "too slow": lambda: psycopg.errors.QueryCanceled("statement timeout"),
    "closed": lambda: psycopg.InterfaceError("the connection is closed"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_without_the_database_nothing_is_answered_but_later(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body = put_body(d1_face.sample_issuer.pin_jwe("9382", "active"))
    before = d1_face.stored("active")
    with monkeypatch.context() as patch:
        database_is_unavailable(patch, ERRORS[name]())
        answers = [
            await d1_face.put(body, "active"),
            await d1_face.put(b"junk", "active"),
            await d1_face.send("GET", d1_face.d1.path("active")),
            await d1_face.send("GET", d1_face.d1.path("active", "/pin/changeCounter")),
            await d1_face.send("GET", d1_face.d1.path("unknown")),
        ]
    for answer in answers:
        assert_try_later(answer)
    assert d1_face.stored("active") == before


async def test_a_bug_in_a_statement_is_an_internal_error(
    d1_face: D1Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        database_is_unavailable(patch, psycopg.errors.UndefinedTable("relation 4539578763621486"))
        patch.setattr(directory, "TTL_SECONDS", 5.0)
        answer = await d1_face.send("GET", d1_face.d1.path("active"))
    assert refusal(answer) == (500, "INTERNAL_ERROR", "Internal error")
