"""Compares Stripe and Halo, read-only: what differs, and the reports about it.

Nothing here writes to Halo. What happens to one payment is decided in `core`, not here.
"""
