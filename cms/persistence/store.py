"""The request paths' way to Postgres: prepared statements on autocommit connections.

No transaction is held between two calls, and none while the vault works.
"""

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Self

import psycopg
from psycopg.errors import UniqueViolation
from psycopg_pool import AsyncConnectionPool

from cms.domain.cards import CardState
from cms.domain.errors import ServiceUnavailable
from cms.domain.records import Actor, CardToChange, CardToRead, Client, IssuerRecord
from cms.persistence.address import Tls, connection_string
from cms.persistence.causes import WRONG_CONNECTION, Cause, DatabaseFailed
from cms.persistence.connection import ENCODING, STATEMENT_SECONDS_MAX, Connection, Row
from cms.persistence.statements import Statement, d1, directory, refusals
from cms.persistence.statements.server import READ_FITNESS
from cms.persistence.tables import sealed_columns
from hsm.port import (
    CardFacts,
    CardRef,
    ConfigKind,
    PinBlockType,
    SealedChange,
    SealedConfig,
)

POOL_CONNECTIONS_MAX: Final = 8
WAIT_SECONDS_MAX: Final = 2.0
RECONNECT_SECONDS: Final = 1.0
"""The pool doubles its pauses for this long; then whoever wants a connection has it try anew.

Its default, five minutes, lets it sit out minutes after a database that was unavailable came back.
"""
CHECK_SECONDS_MAX: Final = 1.0
REFUSED_AT_ONCE: Final = frozenset({Cause.NO_ANSWER, Cause.NOT_REPLICATED, Cause.NOT_DURABLE})
"""After such a check no statement is sent: each would leave a waiting session in the server."""

log = logging.getLogger(__name__)


class Store:
    """One connection pool of a process.

    Every method raises :class:`cms.domain.errors.ServiceUnavailable` when the database is
    unavailable.

    Args:
        address: what :func:`cms.persistence.address.connection_string` made.
    """

    def __init__(self, address: str) -> None:
        self._pool = AsyncConnectionPool(
            address,
            connection_class=Connection,
            min_size=POOL_CONNECTIONS_MAX,
            max_size=POOL_CONNECTIONS_MAX,
            timeout=WAIT_SECONDS_MAX,
            reconnect_timeout=RECONNECT_SECONDS,
            kwargs={"autocommit": True, "prepare_threshold": None},
            configure=self._set_up,
            reconnect_failed=lambda _: self._note(Cause.NO_CONNECTION),
            open=False,
        )
        self._cause: Cause | None = None
        self._refused_at_once = False
        self._drained_at = 0.0

    @classmethod
    def connect(cls, url: str, tls: Tls = "verify") -> Self:
        """Make a store that connects in the background, now and after each loss.

        Raises:
            AddressRefused: it cannot be read, or TLS must be verified and would not be.
        """
        return cls(connection_string(url, tls))

    async def open(self) -> None:
        """Start connecting; does not wait for a connection."""
        await self._pool.open()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def fault(self) -> Cause | None:
        """Ask the database whether it can be used; if not, tell why.

        The answer takes no longer than the wait for a connection and a second.
        """
        cause: Cause | None
        try:
            ((encoding, durable, read_only, not_replicated),) = await self._rows(
                READ_FITNESS, {}, seconds=CHECK_SECONDS_MAX
            )
        except DatabaseFailed as failed:
            # Why no connection could be made was seen where it was tried.
            cause = self._cause if failed.cause is Cause.NO_CONNECTION else failed.cause
            cause = cause or Cause.NO_CONNECTION
        except psycopg.Error:
            cause = Cause.SERVER_BROKEN
        else:
            faults = {
                Cause.NOT_UTF8: encoding != ENCODING,
                Cause.NOT_DURABLE: not durable,
                Cause.READ_ONLY: read_only,
                Cause.NOT_REPLICATED: not_replicated,
            }
            cause = next((fault for fault, found in faults.items() if found), None)
            if cause is Cause.READ_ONLY:
                await self._drop_connections()
        self._refused_at_once = cause in REFUSED_AT_ONCE
        self._note(cause)
        return cause

    async def read_issuer(self, issuer_id: str) -> IssuerRecord | None:
        """Read an issuer with its clients and configuration; None when unknown or suspended."""
        state = await self.one(directory.READ_ISSUER, issuer_id=issuer_id)
        if state != ("active",):
            return None
        clients = await self.run(directory.READ_CLIENTS, issuer_id=issuer_id)
        configs = await self.run(directory.READ_CONFIG, issuer_id=issuer_id)
        sealed = [_sealed_config(*row) for row in configs]
        return IssuerRecord(
            [Client(*row) for row in clients],
            {config.kind: config for config in sealed},
        )

    async def read_for_set(
        self, card: CardRef, request_key: bytes | None, actor: Actor
    ) -> CardToChange | None:
        """Read what a PIN change needs; *request_key* is the digest of its JWE."""
        row = await self.one(
            d1.READ_FOR_SET,
            issuer_id=card.issuer_id,
            card_id=card.card_id,
            request_key=request_key,
            client_id=actor.client_id,
        )
        if row is None:
            return None
        state, counter, sealed_pan, known, refused, limited, personalised, *facts = row
        return CardToChange(
            *(CardState(state), counter, sealed_pan, known, refused, limited),
            *(CardFacts(*facts), personalised),
        )

    async def change_pin(
        self,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        pin_type: PinBlockType,
        request_key: bytes,
        actor: Actor,
    ) -> bool:
        """Store the PIN, move the counter, and write history and audit: one statement, one commit.

        What is not in *change* is cleared.

        Returns:
            False, and nothing is changed, when the card is no longer as *read*, or takes no
            SECCOS any more.
        """
        try:
            row = await self.one(
                d1.CHANGE_PIN,
                issuer_id=card.issuer_id,
                card_id=card.card_id,
                counter_read=read.counter,
                state_read=read.state.value,
                pin_type=pin_type.value,
                request_key=request_key,
                actor=actor.client_id,
                correlation_id=actor.correlation_id,
                **sealed_columns(change),
            )
        except UniqueViolation:
            return False
        return row is not None

    async def count_card_failure(self, card: CardRef) -> bool:
        """Count a SECCOS failure of *card*; tell whether it has the card refused from now on."""
        row = await self.one(d1.COUNT_CARD_FAILURE, issuer_id=card.issuer_id, card_id=card.card_id)
        return row == (True,)

    async def count_client_failure(self, issuer_id: str, client_id: str) -> bool:
        """Count a SECCOS failure of a client; tell whether it is limited from now on."""
        row = await self.one(d1.COUNT_CLIENT_FAILURE, issuer_id=issuer_id, client_id=client_id)
        return row == (True,)

    async def read_for_get(self, card: CardRef, actor: Actor) -> CardToRead | None:
        """Read a sealed PIN; one that may be handed out is audited in the same commit."""
        row = await self.one(
            d1.GET_PIN,
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
        row = await self.one(d1.READ_COUNTER, issuer_id=card.issuer_id, card_id=card.card_id)
        return None if row is None else (CardState(row[0]), int(str(row[1])))

    async def activate(self, card: CardRef, actor: Actor) -> CardState | None:
        """Make an inactive card active and return the state before."""
        row = await self.one(
            d1.ACTIVATE,
            issuer_id=card.issuer_id,
            card_id=card.card_id,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )
        return None if row is None else CardState(row[0])

    async def refuse(
        self, issuer_id: str, card_id: str | None, asked: str, reason: str, actor: Actor
    ) -> None:
        """Record that what was *asked*, a verb or ``control``, was refused.

        *card_id* need not be a card, None is none.
        """
        await self.run(
            refusals.REFUSE,
            issuer_id=issuer_id,
            card_id=card_id,
            event=f"{asked}.refused",
            reason=reason,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
            audit_user=actor.audit_user,
            error_id=actor.error_id,
        )

    async def one(self, statement: Statement, **parameters: object) -> Row | None:
        """Run a statement of the request paths and return its first row."""
        rows = await self.run(statement, **parameters)
        return rows[0] if rows else None

    async def run(self, statement: Statement, **parameters: object) -> list[Row]:
        """Run a statement of the request paths, prepared, and return its rows."""
        if self._refused_at_once:
            raise ServiceUnavailable
        try:
            return await self._rows(statement, parameters)
        except DatabaseFailed as failed:
            if failed.cause not in (Cause.NO_CONNECTION, Cause.STATEMENT_STOPPED):
                self._note(failed.cause)
            raise ServiceUnavailable from None

    async def _rows(
        self,
        statement: Statement,
        parameters: Mapping[str, object],
        *,
        seconds: float = STATEMENT_SECONDS_MAX,
    ) -> list[Row]:
        try:
            async with self._pool.connection() as connection:
                try:
                    return await connection.rows(statement, parameters, seconds=seconds)
                except DatabaseFailed as failed:
                    if failed.cause in WRONG_CONNECTION and connection.made_at > self._drained_at:
                        await self._drop_connections()
                    raise
        except psycopg.OperationalError:
            # What a connection meets it tells itself; this is of the pool.
            raise DatabaseFailed(Cause.NO_CONNECTION) from None

    async def _set_up(self, connection: Connection) -> None:
        """Set up a new connection; the pool takes none that fails here."""
        try:
            await connection.set_up()
        except DatabaseFailed as failed:
            self._note(failed.cause)
            raise

    async def _drop_connections(self) -> None:
        """Have the pool make all anew: one that is wrong is seldom the only one."""
        self._drained_at = monotonic()
        await self._pool.drain()

    def _note(self, cause: Cause | None) -> None:
        """Log the first cause of an outage, and its end, which only a check can tell."""
        if cause is None and self._cause is not None:
            log.info("database.available", extra={"reason": self._cause})
            self._cause = None
        elif cause is not None and self._cause is None:
            log.error("database.unavailable", extra={"reason": cause})
            self._cause = cause


def _sealed_config(issuer_id: Any, kind: str, *rest: Any) -> SealedConfig:  # noqa: ANN401 - a row
    """Build a configuration from a row of READ_CONFIG, whose columns are in its fields' order."""
    return SealedConfig(issuer_id, ConfigKind(kind), *rest)
