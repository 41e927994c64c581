"""What was written to Halo lately: a short history for the page."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "pushes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("intent_id", sa.String(255), nullable=False),
        sa.Column("old", sa.Text, nullable=False),
        sa.Column("new", sa.String(20), nullable=False),
        sa.Column("lag_seconds", sa.Float),
        sa.Column("rows", sa.Text, nullable=False),
    )
    op.create_index("pushes_at", "pushes", ["at"])
