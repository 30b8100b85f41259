"""The parts of a PUT that no service can leave out, each measured alone on the same cores.

Each is measured as a capacity: how many PUTs a second two processes could do if that part were all
there is. The seconds that a part takes of the machine for one PUT are one over that.
"""

import asyncio
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from itertools import cycle, repeat
from typing import Any, Final, cast

import psycopg
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from benchmarks.deployment import CARDS, ISSUER, Issuer
from cms.persistence import statements
from cms.persistence.statements import Statement
from cms.persistence.tables import sealed_columns
from cms.settings import Settings
from cms.tls import ClientCertificateProtocol, tls_context
from hsm.pkcs11 import Pkcs11Token
from hsm.port import CardFacts, PinBlockType, SealedChange, SealedPin
from hsm.settings import TokenSettings
from hsm.token import Token
from hsm.vault import Vault

CONNECTIONS: Final = 8
SEALED_PIN_BYTES: Final = 41
FACTS: Final = CardFacts(0, "1230")


class CountingToken:
    """A token that counts the calls made on it and the time they take."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._token, name)

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
    """Set PINs over and over; return the seconds spent in token calls for each."""
    token = _token()
    vault = counted_vault(token)
    set_pin = partial(set_one_pin, vault, issuer)
    set_pin()
    token.seconds, done = 0.0, 0
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        set_pin()
        done += 1
    return token.seconds / done


@cache
def _token() -> CountingToken:
    """Open the token: once a process."""
    return CountingToken(Pkcs11Token.open(TokenSettings()))


def close_token() -> None:
    """Let go of the token before the process ends: the binding complains afterwards."""
    _token.cache_clear()


def counted_vault(token: CountingToken) -> Vault:
    """Make a vault over a counting token."""
    return Vault(cast("Token", token), lambda: datetime.now(UTC))


def set_one_pin(
    vault: Vault, issuer: Issuer, block_type: PinBlockType = PinBlockType.ISO0
) -> SealedPin | None:
    """Set the PIN of the first card; the vault does not mind that it saw the JWE before."""
    card, sealed = next(iter(issuer.sealed.items()))
    jwe = issuer.pin_jwe if block_type is PinBlockType.ISO0 else issuer.seccos_jwe
    return vault.set_pin_from_jwe(
        jwe, block_type, issuer.vault_config, card, sealed.sealed_pan, 1, FACTS
    ).sealed_pin


def commit_seconds(url: str, part: int, parts: int, seconds: float) -> float:
    """Run the two statements of a PUT over and over; return the seconds of the process for each."""
    done = uvloop.run(_commits(url, part, parts, time.monotonic() + seconds))
    return seconds / done


async def _commits(url: str, part: int, parts: int, ends_at: float) -> int:
    connections = [
        await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0)
        for _ in range(CONNECTIONS)
    ]
    cards = range(part, CARDS, parts)
    shares = [cards[number::CONNECTIONS] for number in range(CONNECTIONS)]
    try:
        done = await asyncio.gather(*map(_commits_of_one, connections, shares, repeat(ends_at)))
    finally:
        for connection in connections:
            await connection.close()
    return sum(done)


async def _commits_of_one(
    connection: psycopg.AsyncConnection, cards: Sequence[int], ends_at: float
) -> int:
    done = 0
    for card in cycle(cards):
        if time.monotonic() >= ends_at:
            break
        key = {
            "issuer_id": ISSUER,
            "card_id": f"card-{card:04}",
            "request_key": os.urandom(32),
            "client_id": ISSUER,
        }
        read = await _row(connection, statements.READ_FOR_SET, key)
        change = {
            "state_read": read[0],
            "counter_read": read[1],
            **sealed_columns(SealedChange(SealedPin(os.urandom(SEALED_PIN_BYTES)), {})),
            "pin_type": PinBlockType.ISO0.value,
            "actor": ISSUER,
            "correlation_id": "0",
        }
        await _row(connection, statements.CHANGE_PIN, key | change)
        done += 1
    return done


async def _row(
    connection: psycopg.AsyncConnection, statement: Statement, parameters: dict[str, Any]
) -> tuple[Any, ...]:
    cursor = await connection.execute(statement.sql, statement.constants | parameters)
    (row,) = await cursor.fetchall()
    return row


async def no_content(_: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer 204: the server, TLS and the load generator alone."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def _context(*_: object) -> ssl.SSLContext:
    return tls_context(Settings())


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.floors:no_content",
        port=int(sys.argv[1]),
        workers=Settings().workers,
        lifespan="off",
        loop="uvloop",
        http=ClientCertificateProtocol,
        ssl_context_factory=_context,
        access_log=False,
        log_level="warning",
    )
