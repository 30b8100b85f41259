"""Create the tables, and make history and audit append-only."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "9c4e7b1a2f60"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    *("issuers", "manifests", "manifest_hosts", "cards", "card_feeds", "pin_changes"),
    *("card_scripts", "audit_events", "control_tokens"),
)
APPEND_ONLY = ("pin_changes", "audit_events")


def upgrade() -> None:
    op.create_table(
        "issuers",
        _issuer_id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(10), server_default="active", nullable=False),
        _now("created_at"),
        sa.CheckConstraint("state IN ('active', 'suspended')", name="state"),
    )
    op.create_table(
        "manifests",
        _issuer_id(),
        sa.Column("version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column(
            "text",
            sa.Text(),
            nullable=False,
            comment="as operators signed it; the vault verifies it",
        ),
        _now("loaded_at"),
        sa.CheckConstraint("version >= 1", name="version"),
        _of_issuer(),
    )
    op.create_table(
        "manifest_hosts",
        _issuer_id(),
        sa.Column("host", sa.Text(), primary_key=True),
        sa.Column(
            "version", sa.BigInteger(), nullable=False, comment="of which the host answered last"
        ),
        sa.Column(
            "outcome", sa.Text(), nullable=False, comment="taken, or why the host refused it"
        ),
        _now("at"),
        _of_issuer(),
    )
    op.create_table(
        "cards",
        _issuer_id(),
        sa.Column("card_id", sa.String(48), primary_key=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("sealed_record", sa.LargeBinary(), nullable=False),
        sa.Column("last_four", sa.String(4), nullable=False),
        sa.Column("expiry", sa.String(4), nullable=False, comment="MMYY"),
        sa.Column("psn", sa.SmallInteger(), nullable=False),
        sa.Column("sealed_pin", sa.LargeBinary(), comment="none when the PIN came as SECCOS"),
        sa.Column("sealed_pvv", sa.LargeBinary()),
        sa.Column("sealed_offset_3624", sa.LargeBinary()),
        sa.Column("sealed_prw", sa.LargeBinary()),
        sa.Column("sealed_script", sa.LargeBinary()),
        sa.Column("pin_type", sa.String(10), comment="the form in which the PIN came"),
        _moment("pin_changed_at"),
        sa.Column("counter", sa.BigInteger(), server_default="0", nullable=False),
        _now("created_at"),
        sa.Column("cardholder_id", sa.String(255), comment="the identity provider's subject"),
        sa.Column("card_type", sa.String(10), server_default="PHYSICAL", nullable=False),
        sa.Column("plastic_id", sa.String(38), comment="a number without leading zeros"),
        sa.Column("personalised", sa.Boolean(), server_default="false", nullable=False),
        sa.Column(
            "bureau_counter",
            sa.BigInteger(),
            nullable=True,
            comment="of the PIN that the bureau got last",
        ),
        sa.CheckConstraint("state IN ('inactive', 'active', 'blocked', 'closed')", name="state"),
        sa.CheckConstraint("counter >= 0", name="counter"),
        sa.CheckConstraint("card_type IN ('VIRTUAL', 'PHYSICAL', 'METAL')", name="card_type"),
        sa.UniqueConstraint("issuer_id", "plastic_id"),
        _of_issuer(),
    )
    op.create_index(None, "cards", ["issuer_id", "cardholder_id"])
    op.create_table(
        "card_feeds",
        _issuer_id(),
        sa.Column(
            "digest", sa.LargeBinary(), primary_key=True, comment="SHA-256 of a feed of cards"
        ),
        _now("loaded_at"),
        _of_issuer(),
    )
    op.create_table(
        "pin_changes",
        _issuer_id(),
        sa.Column("card_id", sa.String(48), primary_key=True),
        sa.Column("counter", sa.BigInteger(), primary_key=True, autoincrement=False),
        _now("changed_at"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request_key", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("issuer_id", "card_id", "request_key"),
        _of_card(),
    )
    op.create_table(
        "card_scripts",
        _issuer_id(),
        sa.Column("card_id", sa.String(48), primary_key=True),
        sa.Column("counter", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(10), server_default="pending", nullable=False),
        sa.Column(
            "sealed_earlier_pin",
            sa.LargeBinary(),
            comment="that of the counter before, for a reversal; none once the script is closed",
        ),
        _now("pending_at"),
        _moment("built_at", comment="the last time"),
        _moment("delivered_at", comment="the last time"),
        _moment("confirmed_at"),
        _moment("superseded_at"),
        sa.CheckConstraint(
            "state IN ('pending', 'built', 'delivered', 'confirmed', 'superseded')", name="state"
        ),
        sa.CheckConstraint("(state = 'confirmed') = (confirmed_at IS NOT NULL)", name="confirmed"),
        sa.CheckConstraint(
            "(state = 'superseded') = (superseded_at IS NOT NULL)", name="superseded"
        ),
        sa.CheckConstraint(
            "sealed_earlier_pin IS NULL OR (confirmed_at IS NULL AND superseded_at IS NULL)",
            name="sealed_earlier_pin",
        ),
        _of_card(),
    )
    op.create_index(
        None,
        "card_scripts",
        ["issuer_id", "card_id"],
        postgresql_where=sa.text("confirmed_at IS NULL AND superseded_at IS NULL"),
    )
    op.create_table(
        "audit_events",
        _issuer_id(),
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        _now("at"),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("card_id", sa.String(48), comment="only ever the id of a card that exists"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.String(128)),
        sa.Column("counter", sa.BigInteger()),
        sa.Column("reason", sa.String(40)),
        sa.Column("audit_user", sa.Text(), comment="who asked, in the client's words"),
        sa.Column("error_id", sa.String(36), comment="as the caller was told it"),
        sa.Column("receipt", sa.String(52), comment="names a line of the log of a vault"),
    )
    op.create_index(None, "audit_events", ["issuer_id", "card_id", "event_id"])
    op.create_table(
        "control_tokens",
        _issuer_id(),
        sa.Column("token_hash", sa.LargeBinary(), primary_key=True),
        sa.Column("card_id", sa.String(48), nullable=False),
        sa.Column("client_id", sa.String(40), nullable=False),
        sa.Column("face", sa.String(10), nullable=False),
        sa.Column("purpose", sa.String(4), nullable=False),
        sa.Column("style", postgresql.JSONB(), nullable=False),
        sa.Column("redirect_url", sa.Text()),
        sa.Column("embedded", sa.Boolean(), nullable=False),
        sa.Column("audit_user", sa.Text()),
        sa.Column(
            "counter",
            sa.BigInteger(),
            nullable=False,
            comment="the card's when it was granted: a PIN change ends the token and its session",
        ),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column(
            "sealed_grant", sa.LargeBinary(), nullable=False, comment="opens with the token only"
        ),
        sa.Column(
            "sealed_tzpk", sa.LargeBinary(), comment="of a device that is about to send a PIN"
        ),
        _now("issued_at"),
        _moment("expires_at", nullable=False),
        _moment("consumed_at"),
        sa.Column("session_hash", sa.LargeBinary()),
        _moment("session_expires_at"),
        _moment("session_ends_at", comment="however often it is extended"),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        _moment("ended_at"),
        sa.Column("end_reason", sa.String(20)),
        sa.CheckConstraint("face IN ('hosted', 'pincontrol')", name="face"),
        sa.CheckConstraint("purpose IN ('view', 'set')", name="purpose"),
        sa.CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="end"),
        sa.CheckConstraint(
            "end_reason IN ('shown', 'set', 'cancelled', 'failed', 'revoked', 'tries')",
            name="end_reason",
        ),
        sa.UniqueConstraint("issuer_id", "session_hash"),
        _of_card(),
    )
    op.create_index(None, "control_tokens", ["issuer_id", "card_id", "expires_at"])
    _refuse_changes()


def _issuer_id() -> sa.Column[str]:
    return sa.Column("issuer_id", sa.String(10), primary_key=True)


def _moment(name: str, *, nullable: bool = True, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def _of_issuer() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["issuer_id"], ["issuers.issuer_id"])


def _of_card() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["issuer_id", "card_id"], ["cards.issuer_id", "cards.card_id"])


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
    for table in reversed(TABLES):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
