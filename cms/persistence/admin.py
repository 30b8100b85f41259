"""What an operator does to the database: issuers, cards, clients, configuration, audit.

Not a request path: a synchronous engine, ordinary transactions.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from cms.domain.cards import NEXT_STATES, CardState
from cms.persistence.tables import (
    audit_events,
    cards,
    clients,
    issuers,
    vault_config,
)
from hsm.port import CardRef, SealedConfig

OPERATOR: Final = "operator"


class AdminError(Exception):
    """The database refused an operator's change; the message says which rule, never a value."""


def connect(url: str) -> Engine:
    """Make an engine on a libpq URI. Errors of its statements show no parameters."""
    return create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        poolclass=NullPool,
        hide_parameters=True,
    )


def rows(connection: Connection, table: Table, issuer_id: str | None = None) -> Iterator[Any]:
    """List a table, of one issuer or of all, ordered by its key."""
    statement = select(table).order_by(*table.primary_key)
    if issuer_id is not None:
        statement = statement.where(table.c.issuer_id == issuer_id)
    return iter(connection.execute(statement).mappings())


def row(connection: Connection, table: Table, **key: object) -> Mapping[str, Any]:
    """Read one row by its key.

    Raises:
        AdminError: there is none.
    """
    found = connection.execute(select(table).filter_by(**key)).mappings().one_or_none()
    if found is None:
        raise AdminError(f"no such {table.name.rstrip('s')}")
    return dict(found)


def now(connection: Connection) -> datetime:
    """Read the database's clock."""
    moment: datetime = connection.execute(select(func.now())).scalar_one()
    return moment


def add_issuer(connection: Connection, issuer_id: str, name: str) -> None:
    """Add an issuer."""
    _insert(connection, issuers, issuer_id=issuer_id, name=name)
    _audit(connection, issuer_id, "issuer.added")


def set_issuer_state(connection: Connection, issuer_id: str, state: str) -> None:
    """Suspend an issuer, or bring it back: the clients of a suspended one are refused."""
    row(connection, issuers, issuer_id=issuer_id)
    connection.execute(update(issuers).filter_by(issuer_id=issuer_id).values(state=state))
    _audit(connection, issuer_id, f"issuer.{state}")


def add_card(connection: Connection, card: CardRef, **columns: object) -> None:
    """Add a card; a card with a PIN is audited as such, and its counter stays 0."""
    if columns.get("sealed_pin") is not None:
        columns["pin_changed_at"] = func.now()
    _insert(connection, cards, issuer_id=card.issuer_id, card_id=card.card_id, **columns)
    _audit(connection, card.issuer_id, "card.added", card.card_id)
    if columns.get("sealed_pin") is not None:
        _audit(connection, card.issuer_id, "pin.loaded", card.card_id, counter=0)


def set_card_state(connection: Connection, card: CardRef, state: CardState) -> None:
    """Move a card to another state.

    Raises:
        AdminError: no such card, or it cannot go there from where it is.
    """
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
    now = CardState(row(connection, cards, **key)["state"])
    if state not in NEXT_STATES[now]:
        raise AdminError(f"a card that is {now} cannot become {state}")
    moved = update(cards).filter_by(**key, state=now.value).values(state=state.value)
    if connection.execute(moved).rowcount != 1:
        raise AdminError("the card changed meanwhile; try again")
    _audit(connection, card.issuer_id, f"card.{state}", card.card_id)


def add_client(
    connection: Connection,
    issuer_id: str,
    client_id: str,
    secret_hash: str | None,
    certificate_subjects: Sequence[str],
) -> None:
    """Register a client; without a secret its certificate alone names it."""
    _insert(
        connection,
        clients,
        issuer_id=issuer_id,
        client_id=client_id,
        auth="certificate" if secret_hash is None else "oauth",
        secret_hash=secret_hash,
        certificate_subjects=list(certificate_subjects),
    )
    _audit(connection, issuer_id, "client.added")


def set_client_state(connection: Connection, issuer_id: str, client_id: str, state: str) -> None:
    """Disable a client, or bring it back."""
    key = {"issuer_id": issuer_id, "client_id": client_id}
    row(connection, clients, **key)
    connection.execute(update(clients).filter_by(**key).values(state=state))
    _audit(connection, issuer_id, f"client.{state}")


def load_config(connection: Connection, config: SealedConfig) -> None:
    """Store a sealed configuration; a version is never replaced."""
    _insert(
        connection,
        vault_config,
        issuer_id=config.issuer_id,
        kind=config.kind.value,
        version=config.version,
        valid_from=config.valid_from,
        valid_until=config.valid_until,
        key_label=config.key_label,
        body=config.body,
        cmac=config.cmac,
    )
    _audit(connection, config.issuer_id, "config.loaded", reason=f"{config.kind} {config.version}")


def _insert(connection: Connection, table: Table, **columns: object) -> None:
    try:
        with connection.begin_nested():
            connection.execute(insert(table).values(**columns))
    except IntegrityError as error:
        name = getattr(getattr(error.orig, "diag", None), "constraint_name", "") or ""
        if name.endswith("_issuer_id_fkey"):
            raise AdminError("unknown issuer") from None
        if name.endswith("_pkey"):
            raise AdminError(f"duplicate {table.name.rstrip('s')}") from None
        raise AdminError(f"refused by rule {name}") from None


def _audit(
    connection: Connection,
    issuer_id: str,
    event: str,
    card_id: str | None = None,
    *,
    counter: int | None = None,
    reason: str | None = None,
) -> None:
    connection.execute(
        insert(audit_events).values(
            issuer_id=issuer_id,
            event=event,
            card_id=card_id,
            actor=OPERATOR,
            counter=counter,
            reason=reason,
        )
    )
