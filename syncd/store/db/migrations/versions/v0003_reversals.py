"""Refunds and disputes; and of Halo's rows when they were made and their invoice's number."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table and the columns."""
    op.create_table(
        "reversals",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("intent_id", sa.String(255), nullable=False),
        sa.Column("amount", sa.BigInteger),
        sa.Column("currency", sa.String(4)),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("reason", sa.String(80)),
        sa.Column("created", sa.BigInteger),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("read", sa.Boolean, nullable=False),
        sa.Column("total", sa.Boolean, nullable=False),
        sa.Column("stand", sa.String(10), nullable=False),
        sa.Column("word", sa.String(40), nullable=False),
        sa.Column("dismissed", sa.String(40)),
        sa.Column("of_halos", sa.Boolean),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_index("reversals_intent", "reversals", ["intent_id"])
    op.add_column("halo_rows", sa.Column("made", sa.BigInteger))
    op.add_column("halo_rows", sa.Column("invoice_number", sa.String(100)))
