"""Add apps, cardholders and control tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "3f6a2c94d1e8"
down_revision = "c81d0e5b9a27"
branch_labels = None
depends_on = None

AUTH_BEFORE = "auth IN ('oauth', 'certificate')"
AUTH = "auth IN ('oauth', 'certificate', 'public')"
OF_CLIENTS = ("redirect_origins", "embed_origins", "failure_image_status")
OF_CARDS = ("cardholder_id", "card_type")


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True))


def upgrade() -> None:
    _change_auth(AUTH)
    for name in ("redirect_origins", "embed_origins"):
        op.add_column(
            "clients",
            sa.Column(name, postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        )
    op.add_column(
        "clients",
        sa.Column("failure_image_status", sa.SmallInteger(), server_default="410", nullable=False),
    )
    op.create_check_constraint(
        "failure_image_status", "clients", "failure_image_status IN (200, 410)"
    )
    op.add_column(
        "cards",
        sa.Column("cardholder_id", sa.String(64), comment="the identity provider's subject"),
    )
    op.add_column(
        "cards",
        sa.Column("card_type", sa.String(10), server_default="PHYSICAL", nullable=False),
    )
    op.create_check_constraint(
        "card_type", "cards", "card_type IN ('VIRTUAL', 'PHYSICAL', 'METAL')"
    )
    op.create_index(None, "cards", ["issuer_id", "cardholder_id"])
    op.create_table(
        "control_tokens",
        sa.Column("token_hash", sa.LargeBinary(), primary_key=True),
        sa.Column("issuer_id", sa.String(10), nullable=False),
        sa.Column("card_id", sa.String(48), nullable=False),
        sa.Column("client_id", sa.String(40), nullable=False),
        sa.Column("face", sa.String(10), nullable=False),
        sa.Column("purpose", sa.String(4), nullable=False),
        sa.Column("style", postgresql.JSONB(), nullable=False),
        sa.Column("redirect_url", sa.Text()),
        sa.Column("embedded", sa.Boolean(), nullable=False),
        sa.Column(
            "counter",
            sa.BigInteger(),
            nullable=False,
            comment="the card's when it was issued: a PIN change ends the token and its session",
        ),
        sa.Column(
            "issued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _moment("consumed_at"),
        sa.Column("session_hash", sa.LargeBinary(), unique=True),
        _moment("session_expires_at"),
        sa.Column(
            "session_ends_at",
            sa.DateTime(timezone=True),
            comment="however often it is extended",
        ),
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
        sa.ForeignKeyConstraint(["issuer_id", "card_id"], ["cards.issuer_id", "cards.card_id"]),
        sa.ForeignKeyConstraint(
            ["issuer_id", "client_id"], ["clients.issuer_id", "clients.client_id"]
        ),
    )
    op.create_index(None, "control_tokens", ["issuer_id", "card_id", "expires_at"])


def _change_auth(rule: str) -> None:
    op.drop_constraint("auth", "clients", type_="check")
    op.create_check_constraint("auth", "clients", rule)


def downgrade() -> None:
    op.drop_table("control_tokens")
    op.drop_index(op.f("cards_issuer_id_cardholder_id_idx"), "cards")
    for name in OF_CARDS:
        op.drop_column("cards", name)
    op.execute("DELETE FROM clients WHERE auth = 'public'")
    for name in OF_CLIENTS:
        op.drop_column("clients", name)
    _change_auth(AUTH_BEFORE)
