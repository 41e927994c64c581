"""``python -m syncd.sandbox``: the sandbox as its own process."""

import argparse
import json
import signal
import sys

from syncd.sandbox.server import Sandbox


def main() -> None:
    """Run until SIGTERM or SIGINT; print the addresses as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m syncd.sandbox", description=__doc__)
    parser.add_argument("--stripe-port", type=int, default=0)
    parser.add_argument("--halo-port", type=int, default=0)
    parser.add_argument("--no-limits", action="store_true", help="no rate limits on either side")
    parser.add_argument("--seed-intents", type=int, default=0, help="payments to begin with")
    asked = parser.parse_args()
    with Sandbox(stripe_port=asked.stripe_port, halo_port=asked.halo_port) as box:
        if asked.no_limits:
            box.stripe.rate_limit_per_second = box.halo.rate_limit = None
        if asked.seed_intents:
            box.seed(asked.seed_intents)
        where = {
            "stripe": {"url": box.stripe.url, "api_key": box.stripe.api_key},
            "halo": {
                "url": box.halo.url,
                "client_id": box.halo.client_id,
                "client_secret": box.halo.client_secret,
                "tenant": box.halo.tenant,
                "status": box.halo.status,
            },
        }
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
