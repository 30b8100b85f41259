"""Add plastics, the clients of the pincontrol face, and who asked to the audit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "b7d4e1f0523a"
down_revision = "3f6a2c94d1e8"
branch_labels = None
depends_on = None

AUTH_BEFORE = "auth IN ('oauth', 'certificate', 'public')"
AUTH = "auth IN ('oauth', 'certificate', 'public', 'basic')"
HASH_BEFORE = "(auth = 'oauth') = (secret_hash IS NOT NULL)"
HASH = "(auth IN ('oauth', 'basic')) = (secret_hash IS NOT NULL)"


def upgrade() -> None:
    _change_rules(AUTH, HASH)
    op.add_column(
        "cards",
        sa.Column("plastic_id", sa.String(38), comment="a number without leading zeros"),
    )
    op.add_column(
        "cards", sa.Column("personalised", sa.Boolean(), server_default="false", nullable=False)
    )
    # A card that was in service was personalised.
    op.execute("UPDATE cards SET personalised = true WHERE state <> 'inactive'")
    op.create_unique_constraint(None, "cards", ["issuer_id", "plastic_id"])
    for column in (
        sa.Column("frame_key", sa.String(64), comment="starts with the issuer id"),
        sa.Column("show_button", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("hide_seconds", sa.SmallInteger(), server_default="30", nullable=False),
        sa.Column("view_style", postgresql.JSONB(), server_default="{}", nullable=False),
    ):
        op.add_column("clients", column)
    op.create_check_constraint("hide_seconds", "clients", "hide_seconds BETWEEN 5 AND 120")
    op.create_unique_constraint(None, "clients", ["issuer_id", "frame_key"])
    op.add_column(
        "audit_events",
        sa.Column("audit_user", sa.Text(), comment="who asked, in the client's words"),
    )
    op.add_column(
        "audit_events",
        sa.Column("error_id", sa.String(36), comment="as the caller was told it"),
    )
    op.add_column("control_tokens", sa.Column("audit_user", sa.Text()))


def _change_rules(auth: str, has_hash: str) -> None:
    for name, rule in (("auth", auth), ("secret", has_hash)):
        op.drop_constraint(name, "clients", type_="check")
        op.create_check_constraint(name, "clients", rule)


def downgrade() -> None:
    op.execute("DELETE FROM control_tokens WHERE face = 'pincontrol'")
    op.execute("DELETE FROM clients WHERE auth = 'basic'")
    op.drop_column("control_tokens", "audit_user")
    for table, names in (
        ("audit_events", ("audit_user", "error_id")),
        ("clients", ("frame_key", "show_button", "hide_seconds", "view_style")),
        ("cards", ("plastic_id", "personalised")),
    ):
        for name in names:
            op.drop_column(table, name)
    _change_rules(AUTH_BEFORE, HASH_BEFORE)
