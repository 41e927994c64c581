"""What syncd reports about itself: health, status, alerts, logs and metrics.

Nothing here decides about a payment.
"""
