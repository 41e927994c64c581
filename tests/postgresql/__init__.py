"""The same behaviour on PostgreSQL: a server of the tests' own, and the tests that run on it."""
