"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "payments",
        sa.Column("intent_id", sa.String(255), primary_key=True),
        sa.Column("state", sa.String(20)),
        sa.Column("said_at", sa.BigInteger, nullable=False),
        sa.Column("read", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger),
        sa.Column("amount", sa.BigInteger),
        sa.Column("amount_received", sa.BigInteger),
        sa.Column("currency", sa.String(4)),
        sa.Column("invoice", sa.String(100)),
        sa.Column("event_id", sa.String(255)),
        sa.Column("trace", sa.Text),
        sa.Column("heard", sa.Text, nullable=False),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.Column("condition", sa.String(20), nullable=False),
        sa.Column("code", sa.String(40)),
        sa.Column("reason", sa.Text),
        sa.Column("dismissed", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try", sa.Float),
        sa.Column("looks", sa.Integer, nullable=False),
        sa.Column("doubt_until", sa.Float),
        sa.Column("acked_state", sa.String(20)),
        sa.Column("acked_at", sa.Float),
        sa.Column("rows", sa.Text),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_index("payments_due", "payments", ["condition", "next_try"])
    op.create_index("payments_final", "payments", ["final", "created"])
    op.create_index("payments_changed", "payments", ["changed_at"])
    op.create_table(
        "seen_events",
        sa.Column("event_id", sa.String(255), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("seen_events_at", "seen_events", ["at"])
    op.create_table(
        "unreadable",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.Column("dismissed", sa.Boolean, nullable=False),
    )
    op.create_table(
        "halo_rows",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("intent_id", sa.String(255)),
        sa.Column("invoice_id", sa.BigInteger),
        sa.Column("amount", sa.String(60)),
        sa.Column("status", sa.BigInteger),
    )
    op.create_index("halo_rows_intent", "halo_rows", ["intent_id"])
    op.create_table(
        "requests",
        sa.Column("side", sa.String(10), primary_key=True),
        sa.Column("bucket", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("boot", sa.String(64), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
