"""No PIN, PIN block or PAN in any answer, log line, database dump or database log."""

import base64
import itertools
import json
import logging
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg import sql

from cms.app import Application
from cms.faces.oauth import TOKEN_PATH
from cms.logs import JsonLines, RequestLog
from cms.sandbox.d1_client import encrypt, iso0_block
from cms.sandbox.postgres import Postgres, _binary
from cms.services.pins import Pins
from hsm.vault import Vault
from tests.bank import PANS, Bank, add_card, open_bank, run_sql
from tests.service import PUBLIC_URL, d1, running, with_certificate

pytestmark = pytest.mark.anyio

CARD = "canary-card"
PAN = "4539578763621486"
METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Canary:
    """A PIN that stands nowhere by chance, and everything that would betray it."""

    pin: str = field(default_factory=lambda: "7391" + f"{secrets.randbelow(10**8):08}")
    pan: str = PAN

    @property
    def block(self) -> str:
        return iso0_block(self.pin, self.pan)

    def found_in(self, text: str) -> bool:
        """Look for PIN, block and PAN, as they are and as hexadecimal of their characters."""
        plain = (self.pin, self.pan, self.block, self.block.lower())
        needles = {needle.lower() for needle in (*plain, *(x.encode().hex() for x in plain))}
        haystack = text.lower()
        return any(needle in haystack for needle in needles)


class LogLines(logging.Handler):
    """Keeps what the process would print."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@dataclass(frozen=True)
class House:
    """A running service with one card that has the canary as its PIN, and all it lets out."""

    url: str
    postgres: Postgres
    application: Application
    bank: Bank
    canary: Canary
    log: LogLines
    answers: list[str] = field(default_factory=list)

    async def keep(self, answer: httpx.Response) -> httpx.Response:
        self.answers.append(f"{answer.status_code} {answer.headers} {answer.text}")
        return answer

    def leaks(self) -> set[str]:
        """Name the places where the canary is."""
        places = {
            "answer": "\n".join(self.answers),
            "log": "\n".join(self.log.lines),
            "database": self.dump(),
            "log of the database": self.postgres_log(),
        }
        return {name for name, text in places.items() if self.canary.found_in(text)}

    def dump(self) -> str:
        command = [_binary("pg_dump"), f"--dbname={self.url}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def postgres_log(self) -> str:
        data = self.postgres._data
        return data.with_name(f"{data.name}.log").read_text(errors="replace")


@pytest.fixture
async def house(
    database_url: str, postgres: Postgres, tmp_path: Path, vault: Vault
) -> AsyncIterator[House]:
    canary, log = Canary(), LogLines()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    try:
        bank = open_bank(database_url, vault, policy={"length_max": 12})
        add_card(database_url, vault, bank, CARD, PAN)
        async with (
            running(database_url, tmp_path, vault) as application,
            d1(application, bank) as caller,
        ):
            assert (await caller.put_pin(canary.pin, CARD)).status_code == 204
            assert await caller.pin(CARD) == canary.pin
            yield House(database_url, postgres, application, bank, canary, log)
    finally:
        root.removeHandler(log)
        root.setLevel(level)


async def test_junk_on_every_route_of_every_listener_brings_nothing_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send_good_and_nearly_good_pins(house)
    await send_junk(house)
    await break_inside(house, monkeypatch)

    seen = {answer.split(" ")[0] for answer in house.answers}
    assert seen >= {"200", "204", "400", "401", "403", "404", "405", "500"}
    assert sum('"event": "request"' in line for line in house.log.lines) >= len(house.answers)
    assert CARD in house.dump()
    assert house.leaks() == set()


async def send_good_and_nearly_good_pins(house: House) -> None:
    """Send the canary as D1 would, and so that it is refused after it was decrypted."""
    key, block = house.bank.d1_jwk, house.canary.block
    plaintexts = (
        {"pinBlock": block},
        {"pinBlock": block.lower(), "pan": PAN},
        {"pinBlock": block, "pan": PANS[1]},
        {"pinBlock": block, "value": block},
        {"pinBlock": house.canary.pin},
        {block: house.canary.pin, PAN: PAN},
        {"pinBlock": iso0_block(house.canary.pin, PANS[1])},
    )
    async with d1(house.application, house.bank) as caller:
        for plaintext in plaintexts:
            for type_ in ("ISO0", "SECCOS"):
                await house.keep(await caller.put(encrypt(plaintext, key), CARD, type_))
        for tail in ("/pin", "/pin/changeCounter"):
            path, bearer = caller.path(CARD, tail), await caller.bearer()
            await house.keep(await caller.http.get(path, headers=bearer))
        await house.keep(await caller.ask_token(f"{caller.bank.client_id}:{house.canary.pin}"))
        await house.keep(await caller.ask_token(f"{house.canary.pin}:{PAN}"))
        await house.keep(await caller.ask_token(f"{PAN}:{house.canary.block}"))
        credentials = (caller.bank.client_id, caller.bank.secret)
        form = {"content-type": "application/x-www-form-urlencoded"}
        for body in itertools.chain(*map(bodies, secret_texts(house.canary))):
            await house.keep(
                await caller.http.post(TOKEN_PATH, content=body, auth=credentials, headers=form)
            )


async def send_junk(house: House) -> None:
    """Put the canary where it does not belong, on every route, as a stranger and as a client."""
    async with d1(house.application, house.bank) as caller:
        bearer = await caller.bearer()
    certificates = {"stranger": None, "client": house.bank.certificate}
    for (listener, path), (who, presented) in itertools.product(
        routes(house.application), certificates.items()
    ):
        app = with_certificate(house.application.listeners[listener], presented)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
            for secret in secret_texts(house.canary):
                for request in junk(path, house.bank.issuer_id, secret):
                    headers = {**request.headers, **(bearer if who == "client" else {})}
                    await house.keep(
                        await http.request(
                            request.method, request.path, headers=headers, content=request.body
                        )
                    )


def routes(application: Application) -> Iterator[tuple[str, str]]:
    """List the paths of every listener, and some that no listener has."""
    for name, listener in application.listeners.items():
        assert isinstance(listener, RequestLog)
        assert isinstance(listener._app, FastAPI)
        paths = set(listener._app.openapi()["paths"])
        assert paths
        for path in sorted(paths | {"/", "/unknown/{cardId}"}):
            yield name, path


def secret_texts(canary: Canary) -> list[str]:
    plaintext = json.dumps({"pinBlock": canary.block, "pan": canary.pan})
    return [canary.pin, canary.block, canary.block.lower(), canary.pan, plaintext]


@dataclass(frozen=True)
class Junk:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


def junk(path: str, issuer_id: str, secret: str) -> Iterator[Junk]:
    """Yield requests to *path* that carry *secret*, one place at a time."""
    good = path.format(issuerId=issuer_id, cardId=CARD)
    text = quote(secret, safe="")
    for method in METHODS:
        yield Junk(method, path.format(issuerId=issuer_id, cardId=text), {})
        yield Junk(method, path.format(issuerId=text[:10], cardId=text[:48]), {})
        yield Junk(method, f"{good}?pin={text}&{text}={text}#{text}", {})
        yield Junk(method, f"{good}/{text}", {})
    basic = base64.b64encode(f"{secret}:{secret}".encode()).decode()
    names = (
        "user-agent",
        "cookie",
        "referer",
        "content-type",
        "x-forwarded-for",
        "client-cert",
        "forwarded",
        "host",
        "accept",
        "traceparent",
        "x-pin",
        "range",
        "if-none-match",
    )
    for method in ("GET", "PUT", "POST"):
        yield Junk(method, good, dict.fromkeys(names, secret))
        for scheme in ("Bearer", "Bearer:", "Basic", "Digest"):
            yield Junk(method, good, {"authorization": f"{scheme} {secret}"})
        yield Junk(method, good, {"authorization": f"Basic {basic}"})
        # Any other correlation id is the caller's own choice, and is echoed.
        yield Junk(method, good, {"x-correlation-id": f"card {PAN}"})
        for body in bodies(secret):
            yield Junk(method, good, {}, body)
            form = {"content-type": "application/x-www-form-urlencoded"}
            yield Junk(method, good, form, body)


def bodies(secret: str) -> Iterator[bytes]:
    yield secret.encode()
    yield json.dumps(secret).encode()
    yield json.dumps([secret]).encode()
    yield json.dumps({secret: secret}).encode()
    yield json.dumps({"type": secret, "encryptedPinBlock": secret}).encode()
    yield json.dumps({"type": "ISO0", "encryptedPinBlock": secret}).encode()
    yield json.dumps({"type": "SECCOS", "encryptedPinBlock": secret, "pin": secret}).encode()
    yield f"grant_type={quote(secret)}&scope={quote(secret)}".encode()
    yield f"grant_type=client_credentials&{quote(secret)}={quote(secret)}".encode()


async def break_inside(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where nobody expects it, with the canary in the message and in its causes."""

    async def broken(*_: object) -> int:
        raise KeyError(house.canary.pin, PAN) from ValueError(house.canary.block)

    async with d1(house.application, house.bank) as caller:
        path, bearer = caller.path(CARD, "/pin/changeCounter"), await caller.bearer()
        with monkeypatch.context() as patch:
            patch.setattr(Pins, "change_counter", broken)
            await house.keep(await caller.http.get(path, headers=bearer))


async def leak_into_an_answer(house: House) -> None:
    async def careless() -> dict[str, str]:
        return {"pin": house.canary.pin}

    house.application.d1.add_api_route("/careless", careless)
    async with d1(house.application, house.bank) as caller:
        await house.keep(await caller.http.get("/careless"))


async def leak_into_the_log(house: House) -> None:
    logging.getLogger("cms.careless").debug("careless", extra={"reason": house.canary.block})


async def leak_into_the_database(house: House) -> None:
    statement = "INSERT INTO audit_events (issuer_id, event, actor) VALUES (%s, 'careless', %s)"
    run_sql(house.url, statement, house.bank.issuer_id, house.canary.pan)


async def leak_into_the_database_as_bytes(house: House) -> None:
    block = bytes.fromhex(house.canary.block)
    run_sql(house.url, "UPDATE cards SET sealed_pin = %s WHERE card_id = %s", block, CARD)


async def leak_into_the_log_of_the_database(house: House) -> None:
    careless = sql.SQL("DO $$ BEGIN RAISE LOG '%', {}; END $$").format(house.canary.pin)
    with psycopg.connect(house.url) as connection:
        connection.execute(careless)


@pytest.mark.parametrize(
    ("leak", "place"),
    [
        (leak_into_an_answer, "answer"),
        (leak_into_the_log, "log"),
        (leak_into_the_database, "database"),
        (leak_into_the_database_as_bytes, "database"),
        (leak_into_the_log_of_the_database, "log of the database"),
    ],
)
async def test_the_search_finds_a_leak(
    house: House, leak: Callable[[House], Awaitable[None]], place: str
) -> None:
    assert house.leaks() == set()
    await leak(house)
    assert house.leaks() == {place}
