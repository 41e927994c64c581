"""HTTP clients of Stripe and Halo, with retries and rate limits.

Only these packages know the JSON of Stripe and Halo. Does not belong here: decisions and the
database.
"""
