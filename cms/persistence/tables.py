"""The tables. Every key starts with ``issuer_id``, so that they can be split by it.

The published URL of a control token names no issuer: :mod:`crypto.control_tokens` says how its row
is found.

PINs and PANs are here only as the vault sealed them. ``pin_changes`` and ``audit_events`` take
inserts only: a trigger refuses anything else.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    ScalarSelect,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from hsm.port import SealedChange, ValueKind

REVISION: Final = "4b8d2f6a91c3"
"""The newest migration, as alembic names it."""

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _issuer_id() -> Column[str]:
    return Column("issuer_id", String(10), primary_key=True)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


issuers = Table(
    "issuers",
    metadata,
    _issuer_id(),
    Column("name", Text, nullable=False),
    Column("state", String(10), nullable=False, server_default="active"),
    _now("created_at"),
    CheckConstraint("state IN ('active', 'suspended')", name="state"),
)

manifests = Table(
    "manifests",
    metadata,
    _issuer_id(),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False, comment="as operators signed it; the vault verifies it"),
    _now("loaded_at"),
    CheckConstraint("version >= 1", name="version"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

manifest_hosts = Table(
    "manifest_hosts",
    metadata,
    _issuer_id(),
    Column("host", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="of which the host answered last"),
    Column("outcome", Text, nullable=False, comment="taken, or why the host refused it"),
    _now("at"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

cards = Table(
    "cards",
    metadata,
    _issuer_id(),
    Column("card_id", String(48), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("sealed_record", LargeBinary, nullable=False),
    Column("last_four", String(4), nullable=False),
    Column("expiry", String(4), nullable=False, comment="MMYY"),
    Column("psn", SmallInteger, nullable=False),
    Column("sealed_pin", LargeBinary, comment="none when the PIN came as SECCOS"),
    Column("sealed_pvv", LargeBinary),
    Column("sealed_offset_3624", LargeBinary),
    Column("sealed_prw", LargeBinary),
    Column("sealed_script", LargeBinary),
    Column("pin_type", String(10), comment="the form in which the PIN came"),
    Column("pin_changed_at", DateTime(timezone=True)),
    Column("counter", BigInteger, nullable=False, server_default="0"),
    _now("created_at"),
    Column("cardholder_id", String(255), comment="the identity provider's subject"),
    Column("card_type", String(10), nullable=False, server_default="PHYSICAL"),
    Column("plastic_id", String(38), comment="a number without leading zeros"),
    Column("personalised", Boolean, nullable=False, server_default="false"),
    Column("bureau_counter", BigInteger, comment="of the PIN that the bureau got last"),
    CheckConstraint("state IN ('inactive', 'active', 'blocked', 'closed')", name="state"),
    CheckConstraint("counter >= 0", name="counter"),
    CheckConstraint("card_type IN ('VIRTUAL', 'PHYSICAL', 'METAL')", name="card_type"),
    Index(None, "issuer_id", "cardholder_id"),
    UniqueConstraint("issuer_id", "plastic_id"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

card_feeds = Table(
    "card_feeds",
    metadata,
    _issuer_id(),
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of a feed of cards"),
    _now("loaded_at"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

#: Where each verification value is kept.
VALUE_COLUMNS: Final[Mapping[ValueKind, Column[bytes]]] = {
    ValueKind.PVV: cards.c.sealed_pvv,
    ValueKind.OFFSET_3624: cards.c.sealed_offset_3624,
    ValueKind.PRW: cards.c.sealed_prw,
    ValueKind.SCRIPT: cards.c.sealed_script,
}


def sealed_columns(change: SealedChange) -> dict[str, bytes | None]:
    """Name what a PIN change writes: every sealed column, None for what it does not hold."""
    values = {column.name: change.values.get(kind) for kind, column in VALUE_COLUMNS.items()}
    return {cards.c.sealed_pin.name: change.sealed_pin, **values}


pin_changes = Table(
    "pin_changes",
    metadata,
    _issuer_id(),
    Column("card_id", String(48), primary_key=True),
    Column("counter", BigInteger, primary_key=True, autoincrement=False),
    _now("changed_at"),
    Column("actor", Text, nullable=False),
    Column("request_key", LargeBinary, nullable=False),
    UniqueConstraint("issuer_id", "card_id", "request_key"),
    ForeignKeyConstraint(["issuer_id", "card_id"], ["cards.issuer_id", "cards.card_id"]),
)

card_scripts = Table(
    "card_scripts",
    metadata,
    _issuer_id(),
    Column("card_id", String(48), primary_key=True),
    Column("counter", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(10), nullable=False, server_default="pending"),
    Column(
        "sealed_earlier_pin",
        LargeBinary,
        comment="that of the counter before, for a reversal; none once the script is closed",
    ),
    _now("pending_at"),
    Column("built_at", DateTime(timezone=True), comment="the last time"),
    Column("delivered_at", DateTime(timezone=True), comment="the last time"),
    Column("confirmed_at", DateTime(timezone=True)),
    Column("superseded_at", DateTime(timezone=True)),
    CheckConstraint(
        "state IN ('pending', 'built', 'delivered', 'confirmed', 'superseded')", name="state"
    ),
    CheckConstraint("(state = 'confirmed') = (confirmed_at IS NOT NULL)", name="confirmed"),
    CheckConstraint("(state = 'superseded') = (superseded_at IS NOT NULL)", name="superseded"),
    CheckConstraint(
        "sealed_earlier_pin IS NULL OR (confirmed_at IS NULL AND superseded_at IS NULL)",
        name="sealed_earlier_pin",
    ),
    Index(
        None,
        "issuer_id",
        "card_id",
        postgresql_where=text("confirmed_at IS NULL AND superseded_at IS NULL"),
    ),
    ForeignKeyConstraint(["issuer_id", "card_id"], ["cards.issuer_id", "cards.card_id"]),
)
#: Whether a script may still go to its chip, which does not have the PIN as far as is known.
IS_OPEN: Final = and_(card_scripts.c.confirmed_at.is_(None), card_scripts.c.superseded_at.is_(None))


def newest_counter(issuer_id: ColumnElement[str]) -> ScalarSelect[int]:
    """Read the last counter in the history of the card that the statement around it reads.

    *issuer_id* is of that card.
    """
    return (
        select(func.coalesce(func.max(pin_changes.c.counter), 0).label("newest"))
        .where(pin_changes.c.issuer_id == issuer_id, pin_changes.c.card_id == cards.c.card_id)
        .scalar_subquery()
    )


NEWEST_COUNTER: Final = newest_counter(cards.c.issuer_id)

audit_events = Table(
    "audit_events",
    metadata,
    _issuer_id(),
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    _now("at"),
    Column("event", String(40), nullable=False),
    Column("card_id", String(48), comment="only ever the id of a card that exists"),
    Column("actor", Text, nullable=False),
    Column("correlation_id", String(128)),
    Column("counter", BigInteger),
    Column("reason", String(40)),
    Column("audit_user", Text, comment="who asked, in the client's words"),
    Column("error_id", String(36), comment="as the caller was told it"),
    Column("receipt", String(52), comment="names a line of the log of a vault"),
    Index(None, "issuer_id", "card_id", "event_id"),
)

control_tokens = Table(
    "control_tokens",
    metadata,
    _issuer_id(),
    Column("token_hash", LargeBinary, primary_key=True),
    Column("card_id", String(48), nullable=False),
    Column("client_id", String(40), nullable=False),
    Column("face", String(10), nullable=False),
    Column("purpose", String(4), nullable=False),
    Column("style", JSONB, nullable=False),
    Column("redirect_url", Text),
    Column("embedded", Boolean, nullable=False),
    Column("audit_user", Text),
    Column(
        "counter",
        BigInteger,
        nullable=False,
        comment="the card's when it was granted: a PIN change ends the token and its session",
    ),
    Column("grant_id", Text, nullable=False),
    Column("sealed_grant", LargeBinary, nullable=False, comment="opens with the token only"),
    Column("sealed_tzpk", LargeBinary, comment="of a device that is about to send a PIN"),
    _now("issued_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("consumed_at", DateTime(timezone=True)),
    Column("session_hash", LargeBinary),
    Column("session_expires_at", DateTime(timezone=True)),
    Column("session_ends_at", DateTime(timezone=True), comment="however often it is extended"),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("ended_at", DateTime(timezone=True)),
    Column("end_reason", String(20)),
    CheckConstraint("face IN ('hosted', 'pincontrol')", name="face"),
    CheckConstraint("purpose IN ('view', 'set')", name="purpose"),
    CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="end"),
    CheckConstraint(
        "end_reason IN ('shown', 'set', 'cancelled', 'failed', 'revoked', 'tries')",
        name="end_reason",
    ),
    UniqueConstraint("issuer_id", "session_hash"),
    ForeignKeyConstraint(["issuer_id", "card_id"], ["cards.issuer_id", "cards.card_id"]),
    # Of a card: few are usable, of however many that somebody had issued a moment ago, and the old
    # ones go. A partial index of the usable ones would be asked for them by their token_hash too,
    # as long as there are no statistics: one of no condition is not.
    Index(None, "issuer_id", "card_id", "ended_at", "expires_at"),
)
