"""No PIN, PIN block or PAN in an answer, a log, a span, a database dump or the process list.

What stands for a person or a client, such as a token or a secret, is in none of them either, but
for the one answer that hands it out.
"""

import base64
import itertools
import json
import logging
import os
import re
import secrets
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi import Request, Response
from jwcrypto.jwk import JWK
from opentelemetry import trace
from psycopg import sql

from cms.app import Application, ByPath
from cms.faces.d1.oauth import TOKEN_PATH
from cms.faces.operation import Operation
from cms.faces.routes import Face, Route
from cms.logs import JsonLines
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres, _binary
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.services.cardholder import set_page
from cms.services.cardholder.device_set import DeviceSet
from cms.services.cardholder.pin_view import PinView
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.d1.pins import Pins
from cms.tracing import export
from crypto.jose import base64url
from hsm.client import VaultClient
from hsm.log.files import FILES
from hsm.messages import SocketName
from hsm.vault import Vault
from tests.bearers import bearer
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.collector import Collector, Received, collecting
from tests.devices import PythonDevice
from tests.issuer_records import (
    PANS,
    SECRET,
    SampleIssuer,
    add_card,
    add_clients,
    app_client,
    open_issuer,
    run_sql,
    server_client,
)
from tests.processes import command_line, family
from tests.service import PUBLIC_URL, d1, d1_app, running_over, served_by, with_certificate
from tests.vault_process import VaultProcess, serving

pytestmark = pytest.mark.anyio

CARD = "canary-card"
PAN = "4539578763621486"
ISSUER_ID = "testbank01"
APP, HOLDER = "testbank01-app", "canary-holder"
SERVER, PLASTIC = "testbank01-server", "90000000000077"
CARDHOLDER_URL = "https://cards.test"
POLICY: dict[str, object] = {"length_max": 12, "page_length_max": 12, "text_reveal": True}
PAGE = "/pincontrol/page"
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


def vault_log() -> Path:
    """Where the vault of this process, or its host, keeps its own log."""
    return Path(os.environ["HSM_STATE_DIRECTORY"]) / "log"


def hashes(credential: str) -> tuple[str, str]:
    digest = sha256(credential.encode())
    return digest.hexdigest(), base64url.encode(digest.digest()).lower()


@dataclass(frozen=True)
class House:
    """A running service with one card that has the canary as its PIN, and all it lets out."""

    url: str
    postgres: Postgres
    application: Application
    sample_issuer: SampleIssuer
    canary: Canary
    bearer: str
    log: LogLines
    collector: Collector
    vault_output: Path
    vault_output_before: int
    """So many characters were written for tests before this one."""
    answers: list[str] = field(default_factory=list)
    credentials: set[str] = field(default_factory=set)
    """Good for something in somebody's hands: tokens, sessions, secrets."""
    control_tokens: set[str] = field(default_factory=set)
    """Those of them that are control tokens."""

    def note_control_tokens(self, *tokens: str) -> None:
        self.control_tokens.update(tokens)
        self.credentials.update((*tokens, *(UUID(token).hex for token in tokens)))

    async def leaks_of_metrics(self) -> set[str]:
        """Name what the metrics show of a card or a person, with all that was done so far."""
        transport = httpx.ASGITransport(self.application.listeners["ops"])
        async with httpx.AsyncClient(transport=transport, base_url="http://ops") as http:
            shown = (await http.get("/metrics")).text
        assert "cms_request_seconds_count" in shown
        assert "hsm_call_seconds_count" in shown
        self.answers.append(shown)
        return names_in(shown)

    def request_spans(self) -> list[Received]:
        """The spans of requests that the collector has, when it has all."""
        assert self.application.tracing is not None
        self.application.tracing.export.flush()
        return [span for span in self.collector.spans if "http.route" in span.attributes]

    async def keep(self, answer: httpx.Response) -> httpx.Response:
        self.answers.append(f"{answer.status_code} {answer.headers} {answer.text}")
        return answer

    def leaks(self) -> set[str]:
        """Name the places where the canary or a credential is; a span names no card either."""
        assert self.request_spans()
        places = {
            "answer": "\n".join(self.answers),
            "log": "\n".join(self.log.lines),
            "database": self.dump(),
            "log of the database": self.postgres_log(),
            "log of the vault": "".join(path.read_text() for path in vault_log().rglob(FILES)),
            "output of the vault": self.vault_output.read_text()[self.vault_output_before :],
            "process list": "\n".join(map(command_line, (os.getpid(), *family(os.getpid())))),
            "spans": "\n".join(self.collector.texts),
        }
        return {
            name
            for name, text in places.items()
            if self.canary.found_in(text)
            or self.credential_in(text.lower(), name)
            or (name == "spans" and names_in(text))
        }

    def credential_in(self, text: str, place: str) -> bool:
        """Look for credentials as they are, as hexadecimal, and unsalted.

        The database holds SHA-256 of a client's secret (256 random bits), in a manifest, and of a
        control token (106), in the vault's grant for it.
        """
        hashed = {SECRET, *self.control_tokens} if place == "database" else set()
        return any(
            form in text
            for credential in self.credentials
            for form in (
                credential.lower(),
                credential.encode().hex(),
                *(() if credential in hashed else hashes(credential)),
            )
        )

    def dump(self) -> str:
        command = [_binary("pg_dump"), f"--dbname={self.url}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def postgres_log(self) -> str:
        data = self.postgres._data
        return data.with_name(f"{data.name}.log").read_text(errors="replace")


def names_in(text: str) -> set[str]:
    """Find what names a card, a cardholder or a client."""
    names = {CARD, HOLDER, PLASTIC, APP, SERVER}
    # A word's boundary is looked for slowly, in megabytes.
    return {name for name in names if name in text and re.search(rf"\b{name}\b", text)}


@pytest.fixture(scope="module")
def served(vault: Vault) -> Iterator[VaultProcess]:
    """The vault as a program; tests here change its host through the one in this process."""
    with serving(Path(os.environ["HSM_STATE_DIRECTORY"])) as served:
        yield served


@pytest.fixture
async def house(
    database_url: str,
    postgres: Postgres,
    tmp_path: Path,
    vault: Vault,
    served: VaultProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    canary, log = Canary(), LogLines()
    output = served.output, len(served.output.read_text())
    client = VaultClient(
        served.sockets,
        [SocketName.D1, SocketName.CARDHOLDER],
        silence_seconds=HANG_SECONDS,
        wait_seconds_max=HANG_SECONDS,
    )
    key = tmp_path / "control-token.key"
    key.write_bytes(secrets.token_bytes(32))
    monkeypatch.setattr(export, "QUEUE_SPANS_MAX", 1_000_000)
    key.chmod(0o600)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    try:
        sample_issuer = open_issuer(
            database_url, vault, policy=POLICY, pin_operations={"pki": True}
        )
        add_card(
            *(database_url, vault, sample_issuer, CARD, PAN),
            plastic_id=PLASTIC,
            cardholder_id=HOLDER,
        )
        open_app(vault)
        open_server(vault)
        with collecting() as collector:
            async with (
                running_over(
                    client,
                    database_url,
                    tmp_path,
                    cardholder_url=CARDHOLDER_URL,
                    control_token_key_file=key,
                    traces_url=collector.url,
                    traces_ratio=1,
                ) as application,
                d1(application, sample_issuer) as caller,
            ):
                assert application.tracing is not None
                application.tracing._choice._per_second_max = 1_000_000
                assert (await caller.put_pin(canary.pin, CARD)).status_code == 204
                assert await caller.pin(CARD) == canary.pin
                shown = bearer(HOLDER, ISSUER_ID)
                house = House(
                    *(database_url, postgres, application, sample_issuer, canary, shown, log),
                    *(collector, *output),
                )
                house.credentials.update((shown, shown.rpartition(".")[2], sample_issuer.secret))
                yield house
    finally:
        root.removeHandler(log)
        root.setLevel(level)


def open_app(vault: Vault) -> None:
    """Register an app."""
    app = app_client(APP, redirect_origins=["https://app.example"])
    add_clients(vault, ISSUER_ID, app)


def open_server(vault: Vault) -> None:
    """Register a server."""
    server = server_client(
        SERVER, frame_key="testbank01-frame", frame_origins=["https://app.example"]
    )
    add_clients(vault, ISSUER_ID, server)


async def test_junk_on_every_route_of_every_listener_brings_nothing_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send_good_and_nearly_good_pins(house)
    await send_junk(house)
    await break_inside(house, monkeypatch)

    seen = {answer.split(" ")[0] for answer in house.answers}
    assert seen >= {"200", "204", "400", "401", "403", "404", "405", "500"}
    assert sum('"event":"request"' in line for line in house.log.lines) >= len(house.answers)
    assert len(house.request_spans()) >= len(house.answers)
    assert CARD in house.dump()
    assert await house.leaks_of_metrics() == set()
    assert house.leaks() == set()


async def send_good_and_nearly_good_pins(house: House) -> None:
    """Send the canary as D1 would, and so that it is refused after it was decrypted."""
    key, block = house.sample_issuer.d1_jwk, house.canary.block
    plaintexts = (
        {"pinBlock": block},
        {"pinBlock": block.lower(), "pan": PAN},
        {"pinBlock": block, "pan": PANS[1]},
        {"pinBlock": block, "value": block},
        {"pinBlock": house.canary.pin},
        {block: house.canary.pin, PAN: PAN},
        {"pinBlock": iso0_block(house.canary.pin, PANS[1])},
    )
    async with d1(house.application, house.sample_issuer) as caller:
        for plaintext in plaintexts:
            for type_ in ("ISO0", "SECCOS"):
                await house.keep(await caller.put(encrypt(plaintext, key), CARD, type_))
        for tail in ("/pin", "/pin/changeCounter"):
            path, bearer = caller.path(CARD, tail), await caller.bearer()
            await house.keep(await caller.http.get(path, headers=bearer))
        await house.keep(
            await caller.ask_token(f"{caller.sample_issuer.client_id}:{house.canary.pin}")
        )
        await house.keep(await caller.ask_token(f"{house.canary.pin}:{PAN}"))
        await house.keep(await caller.ask_token(f"{PAN}:{house.canary.block}"))
        credentials = (caller.sample_issuer.client_id, caller.sample_issuer.secret)
        form = {"content-type": "application/x-www-form-urlencoded"}
        for body in itertools.chain(*map(bodies, secret_texts(house.canary))):
            await house.keep(
                await caller.http.post(TOKEN_PATH, content=body, auth=credentials, headers=form)
            )


async def test_a_pin_that_is_shown_and_set_leaves_nothing_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cardholder(house) as http:
        view, session = await open_all(house, http)
        for _ in range(2):
            await house.keep(await http.get("/details-image", params={"token": view}))
        for pin in ("1" * 12, house.canary.pin):
            members = submission(session, page_jwe(session, pin))
            await house.keep(await http.post("/pin-direct/submit", json=members))
        # The canary, in a session that is over, and in one that is told something else.
        await house.keep(await http.post("/pin-direct/submit", json=members))
        _, other = await open_all(house, http)
        members = submission(other, page_jwe(session, house.canary.pin))
        await house.keep(await http.post("/pin-direct/submit", json=members))
        await break_the_pages(house, http, monkeypatch)

    seen = [answer.split(" ")[0] for answer in house.answers]
    assert seen == ["200", "410", "422", "204", "410", "410", *["500"] * 3]
    assert "control_tokens" in house.dump()
    assert await house.leaks_of_metrics() == set()
    assert house.leaks() == set()


@asynccontextmanager
async def cardholder(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Call the cardholder listener with what an app has for its cardholder."""
    transport = httpx.ASGITransport(
        house.application.listeners["cardholder"], raise_app_exceptions=False
    )
    headers = {"x-client-key": APP, "authorization": f"Bearer {house.bearer}"}
    async with httpx.AsyncClient(
        transport=transport, base_url=CARDHOLDER_URL, headers=headers
    ) as http:
        yield http


async def open_all(house: House, http: httpx.AsyncClient) -> tuple[str, dict[str, Any]]:
    """Get a token for an image, and a page session; both are credentials, as is its token."""
    view, set_ = [
        (await http.post(f"/v1/card/{purpose}/token")).json()["token"]
        for purpose in ("pin", "set-pin")
    ]
    await http.get("/pin-direct/set", params={"token": set_})
    answer = await http.post("/pin-direct/session", json={"token": set_})
    session: dict[str, Any] = answer.json() | {"controlToken": set_}
    house.note_control_tokens(view, set_)
    house.credentials.add(session["session"])
    return view, session


async def break_the_pages(
    house: House, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail at each step of a cardholder's, with all that is secret in the message."""
    view, session = await open_all(house, http)

    async def broken(*arguments: object) -> None:
        raise KeyError(arguments, house.canary.pin, PAN) from ValueError(sorted(house.credentials))

    members = submission(session, page_jwe(session, house.canary.pin))
    with monkeypatch.context() as patch:
        patch.setattr(PinView, "image", broken)
        patch.setattr(set_page.SetPage, "submit", broken)
        patch.setattr(set_page.SetPage, "open", broken)
        await house.keep(await http.get("/details-image", params={"token": view}))
        await house.keep(await http.post("/pin-direct/submit", json=members))
        set_ = (await http.post("/v1/card/set-pin/token")).json()["token"]
        house.note_control_tokens(set_)
        await house.keep(await http.post("/pin-direct/session", json={"token": set_}))


async def test_a_pin_that_a_server_asks_for_leaves_nothing_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = house.canary
    async with cardholder(house) as http:
        view = await control_id(house, http, "VIEW_PIN")
        shown = await http.post(f"{PAGE}/view", json={"controlId": view, "key": None})
        text = {
            "session": shown.headers["x-pin-session"],
            "controlToken": view,
            "key": page_key(),
        }
        house.credentials.add(str(text["session"]))
        await house.keep(await http.post(f"{PAGE}/view", json={"controlId": view, "key": None}))
        for _ in range(2):
            await house.keep(await http.post(f"{PAGE}/digits", json=text))
        session = await control_session(house, http)
        for pin in ("1" * 12, canary.pin, canary.pin):
            members = submission(session, page_jwe(session, pin))
            await house.keep(await http.post(f"{PAGE}/submit", json=members))
        # The canary wherever it does not belong.
        await house.keep(await ask(http, canary.pan, "VIEW_PIN"))
        await house.keep(await ask(http, canary.block, "VIEW_PIN"))
        await house.keep(await ask(http, PLASTIC, canary.pin))
        await house.keep(await ask(http, PLASTIC, "VIEW_PIN", canary.pin))
        await break_pincontrol(house, http, monkeypatch)

    seen = [answer.split(" ")[0] for answer in house.answers]
    steps = ["410", "200", "410", "422", "204", "410", "404", "400", "400", "401"]
    assert seen == [*steps, *["500"] * 4]
    assert "pincontrol text" in house.dump()
    assert await house.leaks_of_metrics() == set()
    assert house.leaks() == set()


async def test_a_pin_that_a_device_asks_for_and_sends_leaves_nothing_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cardholder(house) as http:
        statuses = [await on_device(house, http, house.canary.pin)]
        statuses.append(await on_device(house, http, "1" * 12))
        with monkeypatch.context() as patch:

            async def broken(*arguments: object) -> None:
                secret = (arguments, house.canary.pin, PAN)
                raise KeyError(secret) from ValueError(sorted(house.credentials))

            patch.setattr(PinView, "device_block", broken)
            patch.setattr(DeviceSet, "set_pin", broken)
            statuses.append(await on_device(house, http, house.canary.pin))

    assert statuses == [[200, 200, 200, 400], [200, 200, 400, 400], [500, 200, 500, 500]]
    assert "pincontrol pki" in house.dump()
    assert house.leaks() == set()


async def on_device(house: House, http: httpx.AsyncClient, pin: str) -> list[int]:
    """Have a device see the PIN and send another one, twice; what is in its hands is secret."""
    device = PythonDevice()
    view, set_ = [await control_id(house, http, scope) for scope in ("VIEW_PIN", "SET_PIN")]

    async def operate(path: str, **members: str) -> httpx.Response:
        answer = await http.post(
            f"/pin/v3/{path}", params={"auditUser": "a clerk"}, json=members, auth=(SERVER, SECRET)
        )
        if "tzpk" in answer.text:
            house.credentials.add(device.tzpk(answer.json()["tzpk"]).hex())
        return await house.keep(answer)

    shown = await operate("view", controlId=view, publicKey=device.public_key)
    if shown.status_code == 200:
        block = shown.json()
        assert device.read(block["tzpk"], block["pinBlock"]) == house.canary.pin
    made = await operate("set/tzpk", controlId=set_, publicKey=device.public_key)
    sent = device.write(made.json()["tzpk"], pin)
    stored = [await operate("set", controlId=set_, pinBlock=sent) for _ in range(2)]
    return [answer.status_code for answer in (shown, made, *stored)]


async def ask(
    http: httpx.AsyncClient, plastic_id: str, scope: str, password: str = SECRET
) -> httpx.Response:
    return await http.post(
        f"/pincontrol/v2/plastic/{plastic_id}",
        params={"auditUser": "a clerk"},
        json={"scope": scope},
        auth=(SERVER, password),
    )


async def control_id(house: House, http: httpx.AsyncClient, scope: str) -> str:
    """Get a control id, which is a credential."""
    answer = await ask(http, PLASTIC, scope)
    assert answer.status_code == 201, answer.text
    issued = str(answer.json()["id"])
    house.note_control_tokens(issued)
    return issued


async def control_session(house: House, http: httpx.AsyncClient) -> dict[str, Any]:
    """Open the session of a page that sets the PIN."""
    issued = await control_id(house, http, "SET_PIN")
    members = {"controlId": issued, "key": None}
    session: dict[str, Any] = (await http.post(f"{PAGE}/session", json=members)).json()
    house.credentials.add(session["session"])
    return session | {"controlToken": issued}


def page_key() -> dict[str, Any]:
    return dict(JWK.generate(kty="EC", crv="P-256").export_public(as_dict=True))


async def break_pincontrol(
    house: House, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail at each step of a server's and of its page, with all that is secret in the message."""
    view, session = await control_id(house, http, "VIEW_PIN"), await control_session(house, http)

    async def broken(*arguments: object) -> None:
        raise KeyError(arguments, house.canary.pin, PAN) from ValueError(sorted(house.credentials))

    text = {**submission(session, ""), "key": page_key()}
    submitted = submission(session, page_jwe(session, house.canary.pin))
    with monkeypatch.context() as patch:
        for owner, verb in (
            *((PinView, "page_image"), (PinView, "text")),
            *((set_page.SetPage, "submit"), (ControlIds, "issue")),
        ):
            patch.setattr(owner, verb, broken)
        await house.keep(await http.post(f"{PAGE}/view", json={"controlId": view, "key": None}))
        await house.keep(await http.post(f"{PAGE}/digits", json=text))
        await house.keep(await http.post(f"{PAGE}/submit", json=submitted))
        await house.keep(await ask(http, PLASTIC, "VIEW_PIN"))


async def send_junk(house: House) -> None:
    """Put the canary where it does not belong, on every route, as a stranger and as a client."""
    async with d1(house.application, house.sample_issuer) as caller:
        bearer = await caller.bearer()
    certificates = {"stranger": None, "client": house.sample_issuer.certificate}
    house.credentials.add(bearer["Authorization"].removeprefix("Bearer "))
    for (listener, path), (who, presented) in itertools.product(
        routes(house.application), certificates.items()
    ):
        if listener == "cardholder":  # it asks nobody for a certificate
            if who == "client":
                await send_junk_as_an_app(house, path)
            continue
        app = with_certificate(house.application.listeners[listener], presented)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
            for secret in secret_texts(house.canary):
                for request in junk(path, house.sample_issuer.issuer_id, secret):
                    headers = {**request.headers, **(bearer if who == "client" else {})}
                    await house.keep(
                        await http.request(
                            request.method, request.path, headers=headers, content=request.body
                        )
                    )


async def send_junk_as_an_app(house: House, path: str) -> None:
    async with cardholder(house) as http:
        for secret in (house.canary.pin, house.canary.pan):
            for request in junk(path, house.sample_issuer.issuer_id, secret):
                await house.keep(
                    await http.request(
                        request.method, request.path, headers=request.headers, content=request.body
                    )
                )


def routes(application: Application) -> Iterator[tuple[str, str]]:
    """List the paths of every listener, and some that no listener has."""
    for name, listener in application.listeners.items():
        app = served_by(listener)
        faces = (app.hosted, app.pincontrol, app.operations) if isinstance(app, ByPath) else (app,)
        paths: set[str] = set()
        for face in faces:
            assert isinstance(face, Face)
            of_face = {route.path for route in face.table}
            assert of_face
            paths |= of_face
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
    text = quote(secret, safe="")
    good = filled(path, issuer_id, CARD)
    for method in METHODS:
        yield Junk(method, filled(path, issuer_id, text), {})
        yield Junk(method, filled(path, text[:10], text[:48]), {})
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


def filled(path: str, issuer_id: str, card_id: str) -> str:
    """Fill the places of a path; what it calls otherwise than D1 does gets what a card id gets."""
    return path.format_map(defaultdict(lambda: card_id, issuerId=issuer_id))


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

    async with d1(house.application, house.sample_issuer) as caller:
        path, bearer = caller.path(CARD, "/pin/changeCounter"), await caller.bearer()
        with monkeypatch.context() as patch:
            patch.setattr(Pins, "change_counter", broken)
            await house.keep(await caller.http.get(path, headers=bearer))


async def leak_into_an_answer(house: House) -> None:
    async def careless(_: Request) -> Response:
        return Response(house.canary.pin)

    d1_app(house.application).add([Route("GET", "/careless", careless, Operation("", {}))])
    async with d1(house.application, house.sample_issuer) as caller:
        await house.keep(await caller.http.get("/careless"))


async def leak_into_a_span(house: House) -> None:
    await be_traced_carelessly(house, house.canary.pin)


async def leak_a_card_into_a_span(house: House) -> None:
    await be_traced_carelessly(house, CARD)


async def be_traced_carelessly(house: House, text: str) -> None:
    async def careless(_: Request) -> Response:
        trace.get_current_span().set_attribute("careless", text)
        return Response()

    d1_app(house.application).add([Route("GET", "/careless", careless, Operation("", {}))])
    async with d1(house.application, house.sample_issuer) as caller:
        await caller.http.get("/careless")


async def leak_into_the_log(house: House) -> None:
    logging.getLogger("cms.careless").debug("careless", extra={"reason": house.canary.block})


async def leak_into_the_database(house: House) -> None:
    statement = "INSERT INTO audit_events (issuer_id, event, actor) VALUES (%s, 'careless', %s)"
    run_sql(house.url, statement, house.sample_issuer.issuer_id, house.canary.pan)


async def leak_into_the_database_as_bytes(house: House) -> None:
    block = bytes.fromhex(house.canary.block)
    run_sql(house.url, "UPDATE cards SET sealed_pin = %s WHERE card_id = %s", block, CARD)


async def leak_into_the_log_of_the_database(house: House) -> None:
    careless = sql.SQL("DO $$ BEGIN RAISE LOG '%', {}; END $$").format(house.canary.pin)
    with psycopg.connect(house.url) as connection:
        connection.execute(careless)


async def leak_into_the_log_of_the_vault(house: House) -> None:
    newest = max(vault_log().rglob(FILES))
    with newest.open("a") as file:
        file.write(house.canary.pin)


async def leak_into_the_output_of_the_vault(house: House) -> None:
    with house.vault_output.open("a") as file:
        file.write(house.canary.block)


async def leak_a_credential_into_the_log(house: House) -> None:
    logging.getLogger("cms.careless").debug("careless", extra={"reason": house.bearer})


async def leak_a_hash_without_a_key_into_the_database(house: House) -> None:
    digest = sha256(house.bearer.encode()).digest()
    run_sql(house.url, "UPDATE cards SET sealed_pin = %s WHERE card_id = %s", digest, CARD)


@pytest.mark.parametrize(
    ("leak", "place"),
    [
        (leak_a_credential_into_the_log, "log"),
        (leak_a_hash_without_a_key_into_the_database, "database"),
        (leak_into_an_answer, "answer"),
        (leak_into_a_span, "spans"),
        (leak_a_card_into_a_span, "spans"),
        (leak_into_the_log, "log"),
        (leak_into_the_database, "database"),
        (leak_into_the_database_as_bytes, "database"),
        (leak_into_the_log_of_the_database, "log of the database"),
        (leak_into_the_log_of_the_vault, "log of the vault"),
        (leak_into_the_output_of_the_vault, "output of the vault"),
    ],
)
async def test_the_search_finds_a_leak(
    house: House, leak: Callable[[House], Awaitable[None]], place: str
) -> None:
    assert await house.leaks_of_metrics() == set()
    assert house.leaks() == set()
    await leak(house)
    assert house.leaks() == {place}
