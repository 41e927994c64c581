"""Commands that read Stripe and write Halo: the service, --once, --backfill and resync."""
