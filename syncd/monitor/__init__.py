"""What syncd reports about itself: health, status, alerts, logs and metrics.

Nothing here decides about a payment, and nothing displays: pages belong in `service.web`, output of
commands in `cli`.
"""
