"""Create the tables, and make history and audit append-only."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "57b4c3f0934c"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("pin_changes", "audit_events")


def _now(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def _state(*states: str, default: str | None) -> list[sa.Column[str] | sa.CheckConstraint]:
    allowed = ", ".join(f"'{state}'" for state in states)
    return [
        sa.Column("state", sa.String(10), server_default=default, nullable=False),
        sa.CheckConstraint(f"state IN ({allowed})", name="state"),
    ]


def _of_issuer() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"])


def upgrade() -> None:
    op.create_table(
        "issuers",
        sa.Column("issuer_id", sa.String(10), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        *_state("active", "suspended", default="active"),
        _now("created_at"),
    )
    op.create_table(
        "vault_config",
        sa.Column("issuer_id", sa.String(10), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_label", sa.String(40), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("cmac", sa.LargeBinary(), nullable=False),
        _now("loaded_at"),
        _of_issuer(),
    )
    op.create_table(
        "cards",
        sa.Column("issuer_id", sa.String(10), primary_key=True),
        sa.Column("card_id", sa.String(48), primary_key=True),
        *_state("inactive", "active", "blocked", "closed", default=None),
        sa.Column("sealed_pan", sa.LargeBinary(), nullable=False),
        sa.Column("last_four", sa.String(4), nullable=False),
        sa.Column("expiry", sa.String(4), nullable=False, comment="MMYY"),
        sa.Column("psn", sa.SmallInteger(), nullable=False),
        sa.Column("sealed_pin", sa.LargeBinary()),
        sa.Column("pin_type", sa.String(10), comment="the form in which the PIN came"),
        sa.Column("pin_changed_at", sa.DateTime(timezone=True)),
        sa.Column("counter", sa.BigInteger(), server_default="0", nullable=False),
        _now("created_at"),
        sa.CheckConstraint("counter >= 0", name="counter"),
        _of_issuer(),
    )
    op.create_table(
        "pin_changes",
        sa.Column("issuer_id", sa.String(10), primary_key=True),
        sa.Column("card_id", sa.String(48), primary_key=True),
        sa.Column("counter", sa.BigInteger(), primary_key=True, autoincrement=False),
        _now("changed_at"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_key", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("issuer_id", "card_id", "request_key"),
        sa.ForeignKeyConstraint(["issuer_id", "card_id"], ["cards.issuer_id", "cards.card_id"]),
    )
    op.create_table(
        "clients",
        sa.Column("issuer_id", sa.String(10), primary_key=True),
        sa.Column(
            "client_id", sa.String(40), primary_key=True, comment="starts with the issuer id"
        ),
        sa.Column("auth", sa.String(12), nullable=False),
        sa.Column(
            "secret_hash", sa.Text(), comment="argon2id; none where the certificate is enough"
        ),
        sa.Column("certificate_subjects", postgresql.ARRAY(sa.Text()), nullable=False),
        *_state("active", "disabled", default="active"),
        _now("created_at"),
        sa.CheckConstraint("auth IN ('oauth', 'certificate')", name="auth"),
        sa.CheckConstraint("(auth = 'oauth') = (secret_hash IS NOT NULL)", name="secret"),
        _of_issuer(),
    )
    op.create_table(
        "audit_events",
        sa.Column("issuer_id", sa.String(10), primary_key=True),
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        _now("at"),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("card_id", sa.String(48), comment="only ever the id of a card that exists"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.String(64)),
        sa.Column("counter", sa.BigInteger()),
        sa.Column("reason", sa.String(40)),
    )
    op.create_index(None, "audit_events", ["issuer_id", "card_id", "event_id"])
    _refuse_changes()


def _refuse_changes() -> None:
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% takes inserts only', TG_TABLE_NAME;
        END $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    for table in ("audit_events", "clients", "pin_changes", "cards", "vault_config", "issuers"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
