"""When a dispute's money last moved; and an inquiry is told from a dispute."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, and write the words of inquiries as this version does."""
    op.add_column("reversals", sa.Column("moved_at", sa.BigInteger))
    c = sa.table(
        "reversals", sa.column("status", sa.String), sa.column("kind", sa.String),
        sa.column("word", sa.String), sa.column("dismissed", sa.String),
    )  # fmt: skip
    op.execute(
        c.update()
        .where(
            c.c.kind == "disputed",
            c.c.status.in_(("warning_needs_response", "warning_under_review")),
        )
        .values(
            word=sa.func.replace(c.c.word, "open:", "inquiry:"),
            dismissed=sa.func.replace(c.c.dismissed, "open:", "inquiry:"),
        )
    )
