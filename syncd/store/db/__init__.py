"""Connections, the schema, its migrations, and small values under a name (notes)."""
