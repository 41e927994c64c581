"""The database's history. A change of the tables in `store` needs a new version here."""
