"""The engine: reads Stripe, decides, writes to Halo.

`pull` reads from Stripe, `push` writes to Halo. Scheduling belongs in `service`, rules in `core`.
"""
