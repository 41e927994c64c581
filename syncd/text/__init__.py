"""Text for people: sanitizing, wording, times and links.

Only the standard library; nothing here knows what a payment is.
"""
