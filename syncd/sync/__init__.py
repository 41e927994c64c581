"""The engine: reads Stripe, decides, writes to Halo.

`pull` reads from Stripe, `push` writes to Halo. Does not belong here: scheduling (`service`) and
rules (`core`).
"""
