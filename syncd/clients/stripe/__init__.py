"""The client of Stripe: requests, and parsing of its answers.

Only this package knows the `stripe` library.
"""
