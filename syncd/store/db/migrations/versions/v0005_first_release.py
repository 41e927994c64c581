"""The schema of syncd 0.1: the oldest that this version can upgrade. It has no step of its own."""

revision = "0005"
down_revision = None


def upgrade() -> None:
    """Do nothing: a new database is created from the tables in `schema`, in one step."""
