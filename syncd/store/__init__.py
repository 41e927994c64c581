"""The database: everything that syncd remembers, and every change of it.

Only this package knows SQLAlchemy. Rules that need no database belong in `core`.
"""
