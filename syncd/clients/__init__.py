"""HTTP clients of Stripe and Halo, with retries and rate limits.

Only these packages know the JSON of the two services. Decisions and the database do not belong here.
"""
