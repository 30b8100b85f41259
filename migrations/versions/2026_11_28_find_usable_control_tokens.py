"""Find the usable control tokens of a card, however many it had."""

from alembic import op

revision = "4b8d2f6a91c3"
down_revision = "9c4e7b1a2f60"
branch_labels = None
depends_on = None

TABLE = "control_tokens"
BEFORE = "control_tokens_issuer_id_card_id_expires_at_idx"
AFTER = "control_tokens_issuer_id_card_id_ended_at_expires_at_idx"


def upgrade() -> None:
    op.create_index(AFTER, TABLE, ["issuer_id", "card_id", "ended_at", "expires_at"])
    op.drop_index(BEFORE, TABLE)


def downgrade() -> None:
    op.create_index(BEFORE, TABLE, ["issuer_id", "card_id", "expires_at"])
    op.drop_index(AFTER, TABLE)
