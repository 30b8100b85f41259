"""The request paths' way to Postgres: prepared statements on autocommit connections.

No transaction is held between two calls, and none while the vault works.
"""

from collections.abc import Callable, Mapping
from typing import Final, Self

from psycopg.errors import InsufficientPrivilege, UndefinedTable, UniqueViolation

from cms import metrics
from cms.domain.cards import CardState, Verb
from cms.domain.errors import ServiceUnavailable, StoredValueBroken
from cms.domain.records import Actor, CardToChange, CardToRead, ManifestAnswer
from cms.persistence.address import Tls, connection_string
from cms.persistence.causes import DatabaseFailed
from cms.persistence.connection import Row
from cms.persistence.pool import Pool
from cms.persistence.statements import Statement, d1, directory, manifests, refusals, server
from cms.persistence.tables import card_scripts, pin_changes, sealed_columns
from hsm.port import CardRef, PinBlockType, SealedChange

COUNTER_KEYS: Final = frozenset({f"{pin_changes.name}_pkey", f"{card_scripts.name}_pkey"})
"""Of what has a row for each change: a counter that was put back meets it there."""


class Store:
    """What the request paths read and write; one pool of connections a process.

    Every method raises :class:`cms.domain.errors.ServiceUnavailable` when the database is
    unavailable.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @classmethod
    def connect(cls, url: str, tls: Tls = "verify", pool_at: Callable[[str], Pool] = Pool) -> Self:
        """Make a store that connects in the background, now and after each loss.

        Raises:
            AddressRefused: it cannot be read, or TLS must be verified and would not be.
        """
        return cls(pool_at(connection_string(url, tls)))

    async def open(self) -> None:
        """Start connecting; does not wait for a connection."""
        await self.pool.open()

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()

    async def revision(self) -> str | None:
        """Read which migration the database had last; empty: none, None: it does not tell."""
        try:
            rows = await self.pool.rows(server.READ_REVISION, {})
        except UndefinedTable:
            return ""
        except (DatabaseFailed, InsufficientPrivilege):
            return None
        return rows[0][0] if rows else ""

    async def is_in_service(self, issuer_id: str) -> bool:
        """Tell whether an issuer is known and not suspended."""
        return await self.one(directory.READ_ISSUER, issuer_id=issuer_id) == ("active",)

    async def issuer_ids(self) -> list[str]:
        """Read who the issuers are."""
        return [issuer_id for (issuer_id,) in await self.run(directory.READ_ISSUER_IDS)]

    async def newest_manifests(self) -> Mapping[str, int]:
        """Read the version of each issuer's newest manifest; 0 where it has none."""
        rows = await self.run(manifests.READ_NEWEST_MANIFESTS)
        return dict(rows)

    async def manifest_answers(self, host: str) -> Mapping[str, ManifestAnswer]:
        """Read what a host answered last of the manifest of each issuer."""
        rows = await self.run(manifests.READ_HOST_ANSWERS, host=host)
        return {issuer_id: ManifestAnswer(*answer) for issuer_id, *answer in rows}

    async def read_manifest(self, issuer_id: str, version: int) -> str | None:
        """Read the text of a manifest; None where there is no such version any more."""
        row = await self.one(manifests.READ_MANIFEST, issuer_id=issuer_id, version=version)
        return None if row is None else row[0]

    async def answer_manifest(self, issuer_id: str, host: str, answer: ManifestAnswer) -> None:
        """Store what a host answers of a manifest, in place of its last answer."""
        await self.run(
            manifests.ANSWER_MANIFEST,
            issuer_id=issuer_id,
            host=host,
            version=answer.version,
            outcome=answer.outcome,
        )

    async def read_for_set(self, card: CardRef, request_key: bytes | None) -> CardToChange | None:
        """Read what a PIN change needs; *request_key* is the digest of its JWE."""
        row = await self.one(d1.READ_FOR_SET, **card_key(card), request_key=request_key)
        if row is None:
            return None
        state, counter, sealed_record, known, personalised = row
        return CardToChange(CardState(state), counter, sealed_record, known, personalised)

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
            False, and nothing is changed, when the card is no longer as *read*.

        Raises:
            StoredValueBroken: the history of the card has its next counter already.
        """
        try:
            row = await self.one(
                d1.CHANGE_PIN,
                **card_key(card),
                **asked_by(actor),
                counter_read=read.counter,
                state_read=read.state.value,
                sealed_record_read=read.sealed_record,
                pin_type=pin_type.value,
                request_key=request_key,
                receipt=change.receipt,
                script_due=change.script_due,
                **sealed_columns(change),
            )
        except UniqueViolation as error:
            require_next_counter(error)
            return False
        return audited_change(row)

    async def read_for_get(self, card: CardRef) -> CardToRead | None:
        """Read a sealed PIN."""
        row = await self.one(d1.READ_FOR_GET, **card_key(card))
        if row is None:
            return None
        pin_type = None if row[1] is None else PinBlockType(row[1])
        return CardToRead(CardState(row[0]), pin_type, *row[2:])

    async def read_counter(self, card: CardRef) -> tuple[CardState, int] | None:
        """Read state and change counter."""
        row = await self.one(d1.READ_COUNTER, **card_key(card))
        return None if row is None else (CardState(row[0]), int(str(row[1])))

    async def activate(self, card: CardRef, actor: Actor) -> CardState | None:
        """Make an inactive card active and return the state before."""
        row = await self.one(d1.ACTIVATE, **card_key(card), **asked_by(actor))
        before = None if row is None else CardState(row[0])
        if before is CardState.INACTIVE:
            metrics.audited(Verb.ACTIVATE)
        return before

    async def refuse(
        self,
        issuer_id: str,
        card_id: str | None,
        asked: str,
        reason: str,
        actor: Actor,
        outcome: str = "refused",
        receipt: str | None = None,
    ) -> None:
        """Record that what was *asked*, a verb or ``control``, was refused, or failed.

        *card_id* need not be a card, None is none. *receipt* is the vault's, where it refused.
        """
        event = f"{asked}.{outcome}"
        await self.run(
            refusals.REFUSE,
            issuer_id=issuer_id,
            card_id=card_id,
            event=event,
            reason=reason,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
            audit_user=actor.audit_user,
            error_id=actor.error_id,
            receipt=receipt,
        )
        metrics.audited(event)

    async def one(self, statement: Statement, **parameters: object) -> Row | None:
        """Run a statement of the request paths and return its first row."""
        rows = await self.run(statement, **parameters)
        return rows[0] if rows else None

    async def run(self, statement: Statement, **parameters: object) -> list[Row]:
        """Run a statement of the request paths and return its rows."""
        try:
            return await self.pool.rows(statement, parameters)
        except DatabaseFailed:
            raise ServiceUnavailable from None


def audited_change(row: Row | None) -> bool:
    """Tell by what a statement answered whether it changed a PIN; if so, count its audit row."""
    if row is not None:
        metrics.audited(Verb.SET_PIN)
    return row is not None


def require_next_counter(error: UniqueViolation) -> None:
    """Tell a JWE that was accepted meanwhile from a card whose counter was put back.

    Both are of one statement, so that the counter of a card is that of its history.

    Raises:
        StoredValueBroken: the counter was put back.
    """
    if error.diag.constraint_name in COUNTER_KEYS:
        raise StoredValueBroken from None


def card_key(card: CardRef) -> dict[str, str]:
    """Name the parameters that say which card."""
    return {"issuer_id": card.issuer_id, "card_id": card.card_id}


def asked_by(actor: Actor) -> dict[str, str | None]:
    """Name the parameters that say who asks, and in which request."""
    return {"actor": actor.client_id, "correlation_id": actor.correlation_id}
