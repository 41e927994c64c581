"""Of each payment, refund and dispute: Halo's rows as they were last seen, for people."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns. What was seen before isn't known; it fills as payments are decided about."""
    op.add_column("payments", sa.Column("seen_rows", sa.Text))
    op.add_column("reversals", sa.Column("seen_rows", sa.Text))
