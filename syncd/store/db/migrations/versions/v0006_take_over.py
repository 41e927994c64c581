"""Upgrades the schema of syncd 0.1 to the one of 0.2."""

import sqlalchemy as sa
from alembic import op

from syncd.store.db import counts

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add columns, a table and an index, and tell an inquiry from a dispute.

    `reversals.moved_at` is when a dispute's money last moved. `payments_waiting` lists the payments
    that a push may have to try, in the order in which it asks for them; `payments_fresh` those that
    may go before a backlog. `payment_counts` counts payments by condition. The other indexes keep the
    status and a sweep from reading whole tables.
    `traces` has what was a column of `payments`, whose pages it left almost empty after each push.
    `dismissals` has when an entry was dismissed and why; for earlier dismissals that is not known.
    `payments.accepted` is the hold that a person overrode. `payments.surcharge` and `payments.tip` are
    unknown until Stripe shows the payment again. `lease.number` is higher at each taking of a lease, and
    `lease.since` is when it was taken. `sent.was` has the rows' status numbers before a request.
    """
    _move_traces()
    op.create_table(
        "dismissals",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("note", sa.Text),
    )
    op.add_column("payments", sa.Column("accepted", sa.Text))
    op.add_column("payments", sa.Column("surcharge", sa.BigInteger))
    op.add_column("payments", sa.Column("tip", sa.BigInteger))
    op.create_index(
        "payments_waiting",
        "payments",
        ["intent_id", "next_try"],
        sqlite_where=sa.text("condition IN ('due', 'failed', 'unmatched')"),
        postgresql_where=sa.text("condition IN ('due', 'failed', 'unmatched')"),
    )
    op.create_index(
        "payments_fresh",
        "payments",
        ["said_at"],
        sqlite_where=sa.text("condition = 'due'"),
        postgresql_where=sa.text("condition = 'due'"),
    )
    _add_counts_and_indexes()
    op.add_column("sent", sa.Column("was", sa.Text))
    op.add_column("reversals", sa.Column("moved_at", sa.BigInteger))
    op.add_column("lease", sa.Column("number", sa.BigInteger))
    op.add_column("lease", sa.Column("since", sa.Float))
    c = sa.table(
        "reversals",
        sa.column("status", sa.String),
        sa.column("kind", sa.String),
        sa.column("word", sa.String),
        sa.column("dismissed", sa.String),
    )
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


def _move_traces() -> None:
    """Move the traces to a table of their own; SQLite then writes `payments` anew, without gaps."""
    op.create_table(
        "traces",
        sa.Column("intent_id", sa.String(255), primary_key=True),
        sa.Column("trace", sa.Text, nullable=False),
    )
    op.execute("INSERT INTO traces SELECT intent_id, trace FROM payments WHERE trace IS NOT NULL")
    with op.batch_alter_table("payments") as payments:
        payments.drop_column("trace")


def _add_counts_and_indexes() -> None:
    """Add what keeps the status, polls and sweeps from reading whole tables."""
    op.create_index("payments_made", "payments", ["created", "said_at"])
    doubtful, open_reversal = (
        "doubt_until IS NOT NULL",
        ("dismissed IS NULL AND stand != 'back' OR dismissed != word"),
    )
    op.create_index(
        "payments_doubtful",
        "payments",
        ["doubt_until"],
        sqlite_where=sa.text(doubtful),
        postgresql_where=sa.text(doubtful),
    )
    op.create_index(
        "reversals_open",
        "reversals",
        ["kind"],
        sqlite_where=sa.text(open_reversal),
        postgresql_where=sa.text(open_reversal),
    )
    op.create_index("reversals_stand", "reversals", ["stand", "created"])
    op.create_index(
        "reversals_unplaced",
        "reversals",
        ["intent_id"],
        sqlite_where=sa.text("of_halos IS NULL"),
        postgresql_where=sa.text("of_halos IS NULL"),
    )
    op.execute(
        "UPDATE reversals SET of_halos = false WHERE of_halos IS NULL "
        "AND EXISTS (SELECT * FROM payments WHERE payments.intent_id = reversals.intent_id)"
    )
    op.create_index(
        "unreadable_open",
        "unreadable",
        ["seen_at"],
        sqlite_where=sa.text("dismissed IS 0"),
        postgresql_where=sa.text("dismissed IS false"),
    )
    op.create_table(
        "payment_counts",
        sa.Column("condition", sa.String(20), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
    counts.install(op.get_bind())
