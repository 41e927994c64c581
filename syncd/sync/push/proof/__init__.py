"""Tests on one row what this tenant's Halo does with a write, and monitors later writes.

Does not belong here: what a proof is (`core.rules.proof`), and how rows are compared
(`clients.halo.whole`).
"""
