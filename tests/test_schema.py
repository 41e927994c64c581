"""The schema and its versions: an older database is brought up to date and loses nothing."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from syncd import schema
from syncd.payments import Observation, PaymentState
from syncd.store import Store


def test_the_versions_lead_to_the_schema(tmp_path: Path) -> None:
    """A database that was made step by step is the one that the tables describe."""
    url = f"sqlite:///{tmp_path}/new.db"
    Store.open(url).close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        assert schema.version(connection)[0] == schema.REVISION
    engine.dispose()


def test_a_database_of_the_first_version(tmp_path: Path) -> None:
    """It is brought up to date when it is opened; what it knew stays."""
    url = f"sqlite:///{tmp_path}/old.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "syncd:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            sa.text("INSERT INTO notes (name, value) VALUES ('watermark', '1795500000')")
        )
    engine.dispose()
    store = Store.open(url)
    assert (store.note("watermark"), store.pushes(0)) == ("1795500000", [])
    seen = Observation("pi_1", PaymentState.PROCESSING, 1, read=True, created=1, amount=1)
    assert store.take_in([seen], 2).changed == 1
    store.close()
