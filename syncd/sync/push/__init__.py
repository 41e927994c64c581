"""Writes to Halo what differs, and records the outcome of each write."""
