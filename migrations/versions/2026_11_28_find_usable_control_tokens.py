"""Find the usable control tokens of a card, however many it had."""

import sqlalchemy as sa
from alembic import op

revision = "4b8d2f6a91c3"
down_revision = "9c4e7b1a2f60"
branch_labels = None
depends_on = None

NAME = "control_tokens_issuer_id_card_id_idx"


def upgrade() -> None:
    op.create_index(
        NAME,
        "control_tokens",
        ["issuer_id", "card_id"],
        postgresql_where=sa.text("consumed_at IS NULL AND ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(NAME, "control_tokens")
