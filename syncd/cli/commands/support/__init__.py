"""Commands for support and for the database: bugreport, copy, demo and export."""
