"""The database's versions: the steps lead where the tables say, and lose nothing."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from syncd.core.payments import Observation, PaymentState, settle
from syncd.core.reversals import Reversal, ReversalKind
from syncd.core.rows import Row
from syncd.store.db import schema
from syncd.store.history import Sent
from syncd.store.payments import fields_of
from syncd.store.store import Store
from syncd.store.transitions import NEW_PAYMENT


def test_the_steps_lead_to_the_tables(tmp_path: Path) -> None:
    """All steps together make exactly the tables that the program works with."""
    url = f"sqlite:///{tmp_path}/syncd.db"
    Store.open(url).close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert schema.version(connection)[0] == schema.REVISION
    engine.dispose()


def test_the_first_schema_is_taken_along(tmp_path: Path) -> None:
    """A database of the first version keeps its payments, and can hold what the second one can."""
    url = f"sqlite:///{tmp_path}/syncd.db"
    engine = sa.create_engine(url)
    config = Config()
    config.set_main_option("script_location", "syncd.store.db:migrations")
    said = Observation("pi_1", PaymentState.SUCCEEDED, 5, read=True, amount=7, amount_received=7, currency="usd")  # fmt: skip
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = {**NEW_PAYMENT, **fields_of(settle(None, said))}
        values |= {"condition": "in_step", "acked_state": "succeeded", "changed_at": 5.0}
        connection.execute(schema.payments.insert(), [values])
        connection.execute(sa.text("INSERT INTO halo_rows (id, intent_id) VALUES (1, 'pi_1')"))
    engine.dispose()
    store = Store.open(url)
    assert store.sent(["pi_1", "pi_2"]) == Sent(frozenset({"pi_1"}))
    refund = Reversal(
        "re_1", ReversalKind.REFUNDED, "pi_1", 7, "usd", "succeeded", None, 6, 6, True
    )
    store.take_in([], 6.0, reversals=[refund])
    assert [line.id for line in store.people.attention()] == ["re_1"]
    assert store.rows.of(["pi_1"]) == {"pi_1": [Row(1, "pi_1", None, None, None)]}
    store.close()
