"""Asks the syncd of this container whether it is well: exit code 0 or 1. For probes, which know no token.

``health.py livez`` asks whether the loop turns, ``health.py readyz`` whether polls and pushes work.
"""

import sys
import urllib.error
import urllib.request

from syncd.config.load import load
from syncd.config.model import ConfigurationError, address


def main(page: str, environment: "dict[str, str]") -> int:
    """Ask a page; returns the exit code."""
    try:
        config = load(None, environment)
    except ConfigurationError as error:
        sys.stderr.write(f"{error.problems[0]}\n")
        return 1
    host, port = address(config.web.listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # asked from inside
    request = urllib.request.Request(f"http://{host}:{port}/{page}")  # our own address
    if config.web_token:
        request.add_header("Authorization", f"Bearer {config.web_token}")
    # No proxy: with HTTP_PROXY in the environment, the proxy would be asked for our own address.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=4) as answer:
            sys.stdout.write(answer.read(10_000).decode())
    except urllib.error.HTTPError as error:
        with error:
            sys.stdout.write(error.read(10_000).decode())
        return 1
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    import os

    sys.exit(main(sys.argv[1], dict(os.environ)))
