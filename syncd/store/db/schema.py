"""The tables, and the steps that bring an older database up to them.

A new database is created from these tables in one step. For a change here, add a step in
`migrations` that upgrades the databases of the previous version; a test compares the two. Only
plain SQL types are used, so that the tables can be created in PostgreSQL as well.
"""

from collections.abc import Sequence

import sqlalchemy as sa

REVISION = "0006"
"""The newest version in `migrations`, repeated here so that a start need not load Alembic."""

OLDEST = "0005"
"""The oldest version that can be upgraded: the schema of syncd 0.1."""

UNRELEASED = ("0001", "0002", "0003", "0004")
"""Versions that no release had. syncd refuses their databases."""


def _text(length: int | None = None) -> sa.types.TypeEngine[str]:
    """Text without a length limit. PostgreSQL sorts it by its bytes, as SQLite and Python do."""
    plain = sa.Text() if length is None else sa.String(length)
    return plain.with_variant(sa.Text(collation="C"), "postgresql")


metadata = sa.MetaData()

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("intent_id", _text(255), primary_key=True),
    # What Stripe reported (payments.Payment, flattened).
    sa.Column("state", _text(20)),
    sa.Column("said_at", sa.BigInteger, nullable=False),
    sa.Column("read", sa.Boolean, nullable=False),
    sa.Column("created", sa.BigInteger),
    sa.Column("amount", sa.BigInteger),
    sa.Column("amount_received", sa.BigInteger),
    sa.Column("currency", _text(4)),
    sa.Column("invoice", _text(100)),
    sa.Column("event_id", _text(255)),
    sa.Column("heard", _text(), nullable=False),
    sa.Column("final", sa.Boolean, nullable=False),
    # The payment's condition.
    sa.Column("condition", _text(20), nullable=False),
    sa.Column("code", _text(40)),
    sa.Column("reason", _text()),
    sa.Column("dismissed", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_try", sa.Float),
    sa.Column("looks", sa.Integer, nullable=False),
    sa.Column("doubt_until", sa.Float),
    # What Halo last acknowledged.
    sa.Column("acked_state", _text(20)),
    sa.Column("acked_at", sa.Float),
    sa.Column("rows", _text()),
    sa.Column("changed_at", sa.Float, nullable=False),
    # Halo's rows as last seen, for people (payments.seen_text). `rows` has the acknowledged rows.
    sa.Column("seen_rows", _text()),
    # The hold that a person overrode (`attention push`): its reason, which names the amounts.
    sa.Column("accepted", _text()),
    # Parts of amount_received that may be missing on the invoice (payments.Observation).
    sa.Column("surcharge", sa.BigInteger),
    sa.Column("tip", sa.BigInteger),
)
sa.Index("payments_due", payments.c.condition, payments.c.next_try)
# The payments that a push may have to try, in the order of the query.
sa.Index(
    "payments_waiting",
    payments.c.intent_id,
    payments.c.next_try,
    sqlite_where=sa.text("condition IN ('due', 'failed', 'unmatched')"),
    postgresql_where=sa.text("condition IN ('due', 'failed', 'unmatched')"),
)
# The payments of the last hour, which go before a backlog.
sa.Index(
    "payments_fresh",
    payments.c.said_at,
    sqlite_where=sa.text("condition = 'due'"),
    postgresql_where=sa.text("condition = 'due'"),
)
sa.Index("payments_final", payments.c.final, payments.c.created)
sa.Index("payments_changed", payments.c.changed_at)
sa.Index("payments_made", payments.c.created, payments.c.said_at)
sa.Index(
    "payments_doubtful",
    payments.c.doubt_until,
    sqlite_where=sa.text("doubt_until IS NOT NULL"),
    postgresql_where=sa.text("doubt_until IS NOT NULL"),
)

# Stripe's object behind a payment's state, only while it is still to be pushed. It is long, so a column of
# `payments` would leave most of that table's pages empty afterwards.
traces = sa.Table(
    "traces",
    metadata,
    sa.Column("intent_id", _text(255), primary_key=True),
    sa.Column("trace", _text(), nullable=False),
)

payments_with_trace = sa.select(
    payments,
    sa.select(traces.c.trace)
    .where(traces.c.intent_id == payments.c.intent_id)
    .scalar_subquery()
    .label("trace"),
)
"""Payments by column, with their trace; a statement that queries add their conditions to."""

# How many payments are in each condition, kept by triggers (`counts`).
payment_counts = sa.Table(
    "payment_counts",
    metadata,
    sa.Column("condition", _text(20), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)

seen_events = sa.Table(
    "seen_events",
    metadata,
    sa.Column("event_id", _text(255), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)
sa.Index("seen_events_at", seen_events.c.at)

unreadable = sa.Table(
    "unreadable",
    metadata,
    sa.Column("id", _text(255), primary_key=True),
    sa.Column("reason", _text(), nullable=False),
    sa.Column("at", sa.BigInteger),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("dismissed", sa.Boolean, nullable=False),
)

sa.Index(
    "unreadable_open",
    unreadable.c.seen_at,
    sqlite_where=sa.text("dismissed IS 0"),
    postgresql_where=sa.text("dismissed IS false"),
)

# When a person dismissed an entry of the attention list, and the person's note.
dismissals = sa.Table(
    "dismissals",
    metadata,
    sa.Column("id", _text(255), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("note", _text()),
)

reversals = sa.Table(
    "reversals",
    metadata,
    # What Stripe reported (reversals.Reversal, flattened).
    sa.Column("id", _text(255), primary_key=True),
    sa.Column("kind", _text(20), nullable=False),
    sa.Column("intent_id", _text(255), nullable=False),
    sa.Column("amount", sa.BigInteger),
    sa.Column("currency", _text(4)),
    sa.Column("status", _text(40), nullable=False),
    sa.Column("reason", _text(80)),
    sa.Column("created", sa.BigInteger),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("read", sa.Boolean, nullable=False),
    sa.Column("total", sa.Boolean, nullable=False),
    sa.Column("moved_at", sa.BigInteger),
    sa.Column("stand", _text(10), nullable=False),
    sa.Column("word", _text(40), nullable=False),
    # What a person dismissed (`Reversal.acknowledged_as`); another value is listed again.
    sa.Column("dismissed", _text(40)),
    # Whether Halo has rows of a payment that is not in `payments`. NULL: Halo was not asked yet;
    # false: the payment is in `payments`.
    sa.Column("of_halos", sa.Boolean),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("seen_rows", _text()),  # of a payment that is not in `payments`
)
sa.Index("reversals_intent", reversals.c.intent_id)
sa.Index("reversals_stand", reversals.c.stand, reversals.c.created)
sa.Index(
    "reversals_unplaced",
    reversals.c.intent_id,
    sqlite_where=sa.text("of_halos IS NULL"),
    postgresql_where=sa.text("of_halos IS NULL"),
)
OPEN_REVERSAL = "dismissed IS NULL AND stand != 'back' OR dismissed != word"
"""True if nobody has dismissed the present version; for the index and its queries."""
sa.Index(
    "reversals_open",
    reversals.c.kind,
    sqlite_where=sa.text(OPEN_REVERSAL),
    postgresql_where=sa.text(OPEN_REVERSAL),
)

halo_rows = sa.Table(
    "halo_rows",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("intent_id", _text(255)),
    sa.Column("invoice_id", sa.BigInteger),
    sa.Column("amount", _text(60)),
    sa.Column("status", sa.BigInteger),
    sa.Column("made", sa.BigInteger),
    sa.Column("invoice_number", _text(100)),
)
sa.Index("halo_rows_intent", halo_rows.c.intent_id)

# What was written to Halo lately, for people; limited by time and by number.
pushes = sa.Table(
    "pushes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("intent_id", _text(255), nullable=False),
    sa.Column("old", _text(), nullable=False),
    sa.Column("new", _text(20), nullable=False),
    sa.Column("lag_seconds", sa.Float),
    sa.Column("rows", _text(), nullable=False),
)
sa.Index("pushes_at", pushes.c.at)

# The payments for which syncd ever sent something to Halo; limited by number (`history`).
sent = sa.Table(
    "sent",
    metadata,
    sa.Column("intent_id", _text(255), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("was", _text()),  # the rows' status numbers before the request
)
sa.Index("sent_at", sent.c.at)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("side", _text(10), primary_key=True),
    sa.Column("bucket", sa.BigInteger, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)

notes = sa.Table(
    "notes",
    metadata,
    sa.Column("name", _text(80), primary_key=True),
    sa.Column("value", _text(), nullable=False),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", _text(20), primary_key=True),
    sa.Column("owner", _text(64), nullable=False),
    sa.Column("what", _text(40), nullable=False),
    sa.Column("host", _text(255), nullable=False),
    sa.Column("boot", _text(64), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    sa.Column("number", sa.BigInteger),  # rises each time the lease is taken
    sa.Column("since", sa.Float),
)


# Alembic's own table, as Alembic creates it; therefore it is not in `metadata`.
versions = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def version(connection: sa.Connection) -> tuple[str | None, Sequence[str]]:
    """Return the database's schema version and its tables."""
    tables = sa.inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        return None, tables
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return found, tables


def create(connection: sa.Connection) -> None:
    """Create all tables in an empty database, and record their version in Alembic's table."""
    from syncd.store.db import counts

    metadata.create_all(connection, checkfirst=False)
    counts.install(connection)
    versions.create(connection)
    connection.execute(versions.insert(), {"version_num": REVISION})


def upgrade(connection: sa.Connection) -> None:
    """Run the steps that are missing from the database's version to REVISION. Only this loads Alembic.

    Raises:
        LookupError: no step starts from the database's version.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "syncd.store.db:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise LookupError(str(error)) from error
