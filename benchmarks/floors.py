"""The parts of a PUT, or of an image, that no service can leave out, each alone on the same cores.

Each is measured as a capacity: how many a second two processes could do if that part were all
there is. The seconds that a part takes of the machine for one are one over that.
"""

import asyncio
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import cycle, repeat
from typing import Final, cast

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from benchmarks.deployment import APP, CARDS, ISSUER, Issuer
from cms.domain.control import LIVE_MAX
from cms.persistence import admin
from cms.persistence.address import connection_string
from cms.persistence.connection import STATEMENT_SECONDS_MAX, Connection, Row
from cms.persistence.statements import Statement, control_token, d1
from cms.persistence.tables import control_tokens, sealed_columns
from cms.settings import Settings
from cms.tls import ClientCertificateProtocol, tls_context
from crypto.pin_image import ImageStyle, render
from crypto.secret import Secret
from crypto.types import Pin
from hsm.local import vault_over
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import Face, PinBlockType, Purpose, SealedChange, SealedPin
from hsm.settings import HsmTokenSettings, VaultSettings
from hsm.vault import Vault

CONNECTIONS: Final = 8
SEALED_PIN_BYTES: Final = 41
SEALED_GRANT_BYTES: Final = 220
PIN: Final = Pin("4071")
PNG: Final = render(PIN, ImageStyle(), os.urandom)
"""As long as every other."""


class CountingHsmToken:
    """An HSM token that counts the calls made on it and the time they take."""

    def __init__(self, hsm_token: HsmToken) -> None:
        self._hsm_token = hsm_token
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._hsm_token, name)

        def counted(*arguments: object) -> object:
            started = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls[name] += 1

        self.__dict__[name] = counted
        return counted


def token_seconds(issuer: Issuer, seconds: float) -> float:
    """Set PINs over and over; return the seconds consumed in HSM token calls for each."""
    hsm_token = _hsm_token()
    vault = counted_vault(hsm_token)
    set_pin = partial(set_one_pin, vault, issuer)
    set_pin()
    hsm_token.seconds, done = 0.0, 0
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        set_pin()
        done += 1
    return hsm_token.seconds / done


@cache
def _hsm_token() -> CountingHsmToken:
    """Open the HSM token: once a process."""
    return CountingHsmToken(Pkcs11Token.open(HsmTokenSettings()))


def close_hsm_token() -> None:
    """Let go of the HSM token before the process ends: the binding complains afterwards."""
    _hsm_token.cache_clear()


def counted_vault(hsm_token: CountingHsmToken) -> Vault:
    """Make a vault over a counting HSM token; it issues access tokens."""
    return vault_over(cast("Pkcs11Token", hsm_token), VaultSettings(), "https://localhost")


def set_one_pin(
    vault: Vault, issuer: Issuer, block_type: PinBlockType = PinBlockType.ISO0
) -> SealedPin | None:
    """Set the PIN of the first card; the vault does not mind that it saw the JWE before."""
    card, sealed = next(iter(issuer.sealed.items()))
    jwe = issuer.pin_jwe if block_type is PinBlockType.ISO0 else issuer.seccos_jwe
    change = vault.set_pin_from_jwe(jwe, block_type, card, sealed.sealed_record, 1, None)
    return change.sealed_pin


def image_seconds(
    issuer: Issuer, pin: SealedPin, style: ImageStyle, seconds: float
) -> tuple[float, float]:
    """Grant and draw a PIN over and over; return the seconds in HSM token calls, and in drawing."""
    hsm_token = _hsm_token()
    vault = counted_vault(hsm_token)
    draw_one_image(vault, issuer, pin, style)
    hsm_token.seconds, done, drawing_seconds = 0.0, 0, 0.0
    ends_at = time.monotonic() + seconds
    while (begun := time.monotonic()) < ends_at:
        render(PIN, style, os.urandom)
        drawing_seconds += time.monotonic() - begun
        draw_one_image(vault, issuer, pin, style)
        done += 1
    return hsm_token.seconds / done, drawing_seconds / done


def draw_one_image(vault: Vault, issuer: Issuer, pin: SealedPin, style: ImageStyle) -> bytes:
    """Grant an image of the first card's PIN, and draw it: a grant is good for one."""
    card, sealed = next(iter(issuer.sealed.items()))
    token = vault.grant_bearer(
        *(Secret(issuer.bearer), APP, Purpose.VIEW, card, sealed.sealed_record, 0)
    )
    handed_out = vault.render_image(
        token.grant, token.control_token, pin, sealed.sealed_record, style
    )
    return handed_out.value


def stock_tokens(url: str, cards: Sequence[str]) -> list[bytes]:
    """Store live tokens for images, as many a card as may be; return what they are stored under."""
    hashes = [os.urandom(32) for _ in range(LIVE_MAX * len(cards))]
    rows = [
        {
            "token_hash": token_hash,
            "issuer_id": ISSUER,
            "card_id": card,
            "client_id": ISSUER,
            "face": Face.HOSTED.value,
            "purpose": Purpose.VIEW.value,
            "grant_id": "",
            "sealed_grant": os.urandom(SEALED_GRANT_BYTES),
            "style": {},
            "embedded": False,
            "counter": 0,
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }
        for token_hash, card in zip(hashes, cycle(cards), strict=False)
    ]
    with admin.connect(url).begin() as connection:
        connection.execute(control_tokens.insert(), rows)
    return hashes


def consume_seconds(url: str, hashes: Sequence[bytes], seconds: float) -> float:
    """Run the two statements of an image on live tokens; return the seconds for each."""
    started = time.monotonic()
    done = uvloop.run(_consumes(url, hashes, started + seconds))
    return (time.monotonic() - started) / done


async def _consumes(url: str, hashes: Sequence[bytes], ends_at: float) -> int:
    left = iter(hashes)
    async with _connections(url) as connections:
        done = await asyncio.gather(
            *(_consumes_of_one(each, left, ends_at) for each in connections)
        )
    return sum(done)


async def _consumes_of_one(connection: Connection, hashes: Iterator[bytes], ends_at: float) -> int:
    done = 0
    for token_hash in hashes:
        key = {
            "issuer_id": ISSUER,
            "token_hash": token_hash,
            "purpose": Purpose.VIEW.value,
            "face": Face.HOSTED.value,
        }
        await _row(connection, control_token.READ_ISSUED_CONTROL_TOKEN, key)
        await _row(connection, control_token.CONSUME_CONTROL_TOKEN, key)
        done += 1
        if time.monotonic() >= ends_at:
            break
    return done


def commit_seconds(url: str, part: int, parts: int, seconds: float) -> float:
    """Run the two statements of a PUT over and over; return the seconds of the process for each."""
    done = uvloop.run(_commits(url, part, parts, time.monotonic() + seconds))
    return seconds / done


async def _commits(url: str, part: int, parts: int, ends_at: float) -> int:
    cards = range(part, CARDS, parts)
    shares = [cards[number::CONNECTIONS] for number in range(CONNECTIONS)]
    async with _connections(url) as connections:
        done = await asyncio.gather(*map(_commits_of_one, connections, shares, repeat(ends_at)))
    return sum(done)


@asynccontextmanager
async def _connections(url: str) -> AsyncIterator[list[Connection]]:
    address = connection_string(url)
    connections = [await Connection.open(address) for _ in range(CONNECTIONS)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def _commits_of_one(connection: Connection, cards: Sequence[int], ends_at: float) -> int:
    done = 0
    for card in cycle(cards):
        key = {
            "issuer_id": ISSUER,
            "card_id": f"card-{card:04}",
            "request_key": os.urandom(32),
            "client_id": ISSUER,
        }
        read = await _row(connection, d1.READ_FOR_SET, key)
        change = {
            "state_read": read[0],
            "counter_read": read[1],
            "sealed_record_read": read[2],
            **sealed_columns(SealedChange(SealedPin(os.urandom(SEALED_PIN_BYTES)), {}, "receipt")),
            "pin_type": PinBlockType.ISO0.value,
            "script_due": False,
            "actor": ISSUER,
            "correlation_id": "0",
            "receipt": "receipt",
        }
        await _row(connection, d1.CHANGE_PIN, key | change)
        done += 1
        if time.monotonic() >= ends_at:
            break
    return done


async def _row(
    connection: Connection, statement: Statement, parameters: Mapping[str, object]
) -> Row:
    (row,) = await connection.rows(statement, parameters, seconds=STATEMENT_SECONDS_MAX)
    return row


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer 204, or a GET with a PNG: server, TLS and load generator alone."""
    while (await receive()).get("more_body"):
        pass
    if scope["method"] == "GET":
        headers = [(b"content-length", str(len(PNG)).encode()), (b"x-pin-result", b"shown")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PNG})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def _context(*_: object) -> ssl.SSLContext:
    return tls_context(Settings())


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.floors:bare",
        port=int(sys.argv[1]),
        workers=Settings().workers,
        lifespan="off",
        loop="uvloop",
        http=ClientCertificateProtocol,
        ssl_context_factory=_context,
        access_log=False,
        log_level="warning",
    )
