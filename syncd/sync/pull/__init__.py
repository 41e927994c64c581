"""Reads from Stripe: polls, sweeps, backfills, and payments that must be read again."""
