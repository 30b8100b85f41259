"""The request paths' way to Postgres: prepared statements on autocommit connections.

No transaction is held between two calls, and none while the vault works.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import psycopg
from psycopg.errors import UniqueViolation
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from cms.domain.cards import CardState, Verb
from cms.domain.errors import TryLater
from cms.persistence import statements
from cms.persistence.statements import Statement
from hsm.port import CardRef, ConfigKind, PinBlockType, SealedConfig, SealedPan, SealedPin

POOL_CONNECTIONS_MAX: Final = 8
WAIT_SECONDS_MAX: Final = 2.0
RECONNECT_SECONDS: Final = 1.0
"""The pool doubles its pauses for this long; then whoever wants a connection has it try anew.

Its default, five minutes, lets it sit out minutes after a database that was away came back.
"""
STATEMENT_TIMEOUT_OPTION: Final = "-c statement_timeout=2000"
DURABLE: Final = ("on", "on")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, for the audit: a client of an issuer and its correlation id."""

    client_id: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class CardToChange:
    """What a PIN change needs to know of a card."""

    state: CardState
    counter: int
    sealed_pan: SealedPan
    request_known: bool


@dataclass(frozen=True, slots=True)
class CardToRead:
    """What handing out a PIN needs to know of a card; *newest* is the last counter in history."""

    state: CardState
    pin_type: PinBlockType | None
    counter: int
    newest: int
    sealed_pan: SealedPan
    sealed_pin: SealedPin | None


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client that may call, as registered."""

    client_id: str
    auth: str
    secret_hash: str | None
    certificate_subjects: Sequence[str]


@dataclass(frozen=True, slots=True)
class IssuerRow:
    """An issuer in service, its clients, and its configuration that is valid now."""

    clients: Sequence[ClientRow]
    config: Mapping[ConfigKind, SealedConfig]


class Store:
    """One connection pool of a process.

    Every method raises :class:`cms.domain.errors.TryLater` when the database is away.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._trying: asyncio.Task[None] | None = None

    @classmethod
    def connect(cls, url: str) -> Self:
        """Make a pool that connects in the background, now and after each loss."""
        return cls(
            AsyncConnectionPool(
                url,
                min_size=POOL_CONNECTIONS_MAX,
                max_size=POOL_CONNECTIONS_MAX,
                timeout=WAIT_SECONDS_MAX,
                reconnect_timeout=RECONNECT_SECONDS,
                kwargs={
                    "autocommit": True,
                    "prepare_threshold": 0,
                    "connect_timeout": 2,
                    "options": STATEMENT_TIMEOUT_OPTION,
                },
                open=False,
            )
        )

    async def open(self) -> None:
        """Start connecting; does not wait for a connection."""
        await self._pool.open()

    async def close(self) -> None:
        """Close every connection."""
        if self._trying is not None:
            self._trying.cancel()
        await self._pool.close()

    async def is_durable(self) -> bool:
        """Tell whether a commit survives a crash: fsync, full pages and synchronous commit."""
        row = await self._one(statements.DURABILITY)
        return row is not None and row[:2] == DURABLE and row[2] not in ("off", "local")

    async def read_issuer(self, issuer_id: str) -> IssuerRow | None:
        """Read an issuer with its clients and configuration; None when unknown or suspended."""
        state = await self._one(statements.READ_ISSUER, issuer_id=issuer_id)
        if state != ("active",):
            return None
        clients = await self._all(statements.READ_CLIENTS, issuer_id=issuer_id)
        configs = await self._all(statements.READ_CONFIG, issuer_id=issuer_id)
        sealed = [_sealed_config(*row) for row in configs]
        return IssuerRow(
            [ClientRow(*row) for row in clients],
            {config.kind: config for config in sealed},
        )

    async def read_for_set(self, card: CardRef, request_key: bytes | None) -> CardToChange | None:
        """Read what a PIN change needs; *request_key* is the digest of its JWE."""
        row = await self._one(
            statements.READ_FOR_SET,
            issuer_id=card.issuer_id,
            card_id=card.card_id,
            request_key=request_key,
        )
        return None if row is None else CardToChange(CardState(row[0]), *row[1:])

    async def change_pin(
        self,
        card: CardRef,
        read: CardToChange,
        sealed_pin: SealedPin,
        pin_type: PinBlockType,
        request_key: bytes,
        actor: Actor,
    ) -> bool:
        """Store the PIN, move the counter, and write history and audit: one statement, one commit.

        Returns:
            False, and nothing is changed, when the card is no longer as *read*.
        """
        try:
            row = await self._one(
                statements.CHANGE_PIN,
                issuer_id=card.issuer_id,
                card_id=card.card_id,
                counter_read=read.counter,
                state_read=read.state.value,
                sealed_pin=sealed_pin,
                pin_type=pin_type.value,
                request_key=request_key,
                actor=actor.client_id,
                correlation_id=actor.correlation_id,
            )
        except UniqueViolation:
            return False
        return row is not None

    async def read_for_get(self, card: CardRef, actor: Actor) -> CardToRead | None:
        """Read a sealed PIN; one that may be handed out is audited in the same commit."""
        row = await self._one(
            statements.GET_PIN,
            issuer_id=card.issuer_id,
            card_id=card.card_id,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )
        if row is None:
            return None
        pin_type = None if row[1] is None else PinBlockType(row[1])
        return CardToRead(CardState(row[0]), pin_type, *row[2:])

    async def read_counter(self, card: CardRef) -> tuple[CardState, int] | None:
        """Read state and change counter."""
        row = await self._one(
            statements.READ_COUNTER, issuer_id=card.issuer_id, card_id=card.card_id
        )
        return None if row is None else (CardState(row[0]), int(str(row[1])))

    async def activate(self, card: CardRef, actor: Actor) -> CardState | None:
        """Make an inactive card active and return the state before."""
        row = await self._one(
            statements.ACTIVATE,
            issuer_id=card.issuer_id,
            card_id=card.card_id,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )
        return None if row is None else CardState(row[0])

    async def refuse(
        self, issuer_id: str, card_id: str | None, verb: Verb, reason: str, actor: Actor
    ) -> None:
        """Record that *verb* was refused; *card_id* need not be a card, None is none."""
        await self._run(
            statements.REFUSE,
            issuer_id=issuer_id,
            card_id=card_id,
            event=f"{verb}.refused",
            reason=reason,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )

    async def _one(self, statement: Statement, **parameters: object) -> Row | None:
        rows = await self._all(statement, **parameters)
        return rows[0] if rows else None

    async def _all(self, statement: Statement, **parameters: object) -> list[Row]:
        return await self._run(statement, fetch=True, **parameters)

    async def _run(
        self, statement: Statement, *, fetch: bool = False, **parameters: object
    ) -> list[Row]:
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    statement.sql, {**statement.constants, **parameters}, prepare=True
                )
                return await cursor.fetchall() if fetch else []
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, TooManyRequests):
            self._discard_dead()
            raise TryLater from None

    def _discard_dead(self) -> None:
        """Have the pool try its idle connections: one that broke is seldom the only one."""
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._pool.check())


def _sealed_config(issuer_id: Any, kind: str, *rest: Any) -> SealedConfig:  # noqa: ANN401 - a row
    """Build a configuration from a row of READ_CONFIG, whose columns are in its fields' order."""
    return SealedConfig(issuer_id, ConfigKind(kind), *rest)
