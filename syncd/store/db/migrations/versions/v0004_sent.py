"""For which payments something was ever sent to Halo."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_payments = sa.table(
    "payments",
    sa.column("intent_id", sa.String),
    sa.column("acked_state", sa.String),
    sa.column("attempts", sa.Integer),
    sa.column("doubt_until", sa.Float),
    sa.column("code", sa.String),
    sa.column("changed_at", sa.Float),
)


def upgrade() -> None:
    """Make the table. What was sent so far isn't known: all that may have been counts as sent."""
    sent = op.create_table(
        "sent",
        sa.Column("intent_id", sa.String(255), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("sent_at", "sent", ["at"])
    c = _payments.c
    maybe = sa.or_(
        c.acked_state.is_not(None),
        c.attempts > 0,
        c.doubt_until.is_not(None),
        c.code == "insert_unproven",
    )
    op.execute(
        sa.insert(sent).from_select(
            ["intent_id", "at"], sa.select(c.intent_id, c.changed_at).where(maybe)
        )
    )
