"""Compares Stripe and Halo, read-only: the differences, and the reports about them.

Nothing here writes to Halo. Does not belong here: what happens to one payment (`core`).
"""
