"""The tables. Every key starts with ``issuer_id``, so that they can be split by it.

PINs and PANs are here only as the vault sealed them. ``pin_changes`` and ``audit_events`` take
inserts only: a trigger refuses anything else.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY

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

vault_config = Table(
    "vault_config",
    metadata,
    _issuer_id(),
    Column("kind", String(20), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("valid_from", DateTime(timezone=True), nullable=False),
    Column("valid_until", DateTime(timezone=True), nullable=False),
    Column("key_label", String(40), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("cmac", LargeBinary, nullable=False),
    _now("loaded_at"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

cards = Table(
    "cards",
    metadata,
    _issuer_id(),
    Column("card_id", String(48), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("sealed_pan", LargeBinary, nullable=False),
    Column("last_four", String(4), nullable=False),
    Column("expiry", String(4), nullable=False, comment="MMYY"),
    Column("sequence_number", SmallInteger, nullable=False),
    Column("sealed_pin", LargeBinary),
    Column("pin_type", String(10), comment="the form in which the PIN came"),
    Column("pin_changed_at", DateTime(timezone=True)),
    Column("counter", BigInteger, nullable=False, server_default="0"),
    _now("created_at"),
    CheckConstraint("state IN ('inactive', 'active', 'blocked', 'closed')", name="state"),
    CheckConstraint("counter >= 0", name="counter"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

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

clients = Table(
    "clients",
    metadata,
    _issuer_id(),
    Column("client_id", String(40), primary_key=True, comment="starts with the issuer id"),
    Column("auth", String(12), nullable=False),
    Column("secret_hash", Text, comment="argon2id; none where the certificate is enough"),
    Column("certificate_subjects", ARRAY(Text), nullable=False),
    Column("state", String(10), nullable=False, server_default="active"),
    _now("created_at"),
    CheckConstraint("auth IN ('oauth', 'certificate')", name="auth"),
    CheckConstraint("(auth = 'oauth') = (secret_hash IS NOT NULL)", name="secret"),
    CheckConstraint("state IN ('active', 'disabled')", name="state"),
    ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"]),
)

audit_events = Table(
    "audit_events",
    metadata,
    _issuer_id(),
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    _now("at"),
    Column("event", String(40), nullable=False),
    Column("card_id", String(48), comment="only ever the id of a card that exists"),
    Column("actor", Text, nullable=False),
    Column("correlation_id", String(64)),
    Column("counter", BigInteger),
    Column("reason", String(40)),
    Index(None, "issuer_id", "card_id", "event_id"),
)
