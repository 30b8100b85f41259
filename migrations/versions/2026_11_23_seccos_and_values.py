"""Keep verification values and SECCOS data, and count SECCOS failures."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "c81d0e5b9a27"
down_revision = "57b4c3f0934c"
branch_labels = None
depends_on = None

VALUES = ("sealed_pvv", "sealed_offset_3624", "sealed_prw", "sealed_script")
COUNTED = ("cards", "clients")


def upgrade() -> None:
    for name in VALUES:
        op.add_column("cards", sa.Column(name, sa.LargeBinary()))
    op.alter_column("cards", "sealed_pin", comment="none when the PIN came as SECCOS")
    for table in COUNTED:
        op.add_column(
            table,
            sa.Column(
                "seccos_failed_at",
                postgresql.ARRAY(sa.DateTime(timezone=True)),
                server_default="{}",
                nullable=False,
                comment="newest first",
            ),
        )


def downgrade() -> None:
    for table in COUNTED:
        op.drop_column(table, "seccos_failed_at")
    op.alter_column("cards", "sealed_pin", comment=None)
    for name in VALUES:
        op.drop_column("cards", name)
