"""Unusual settings in a valid configuration: `syncd check` shows them, the service logs them.

Does not belong here: what makes a configuration invalid (`config.model`, `config.load`).
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from syncd.config.model import Config

RATE_LIMIT_SEEN = 300
"""How many requests in any 5 minutes Halo allows (source: Halo's own 429 message)."""

EXAMPLE_HOSTS = frozenset({"example.halopsa.com", "your-name.halopsa.com"})
"""The hosts that the shipped file and syncd's messages use as examples."""

RESERVED = ("example.com", "example.net", "example.org")
"""Domains for examples in documents (source: RFC 2606)."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One unusual setting.

    Attributes:
        key: the key, as ``halo.url``.
        text: what is unusual.
        remedy: what to do.
        wrong: whether syncd cannot work with the setting.
    """

    key: str
    text: str
    remedy: str
    wrong: bool = False


def is_example(url: str) -> bool:
    """Whether an address is an example from a document, not the address of a tenant."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host in EXAMPLE_HOSTS or any(host == one or host.endswith(f".{one}") for one in RESERVED)


def advice_for(config: Config) -> list[Advice]:
    """Every unusual setting."""
    found = []
    if is_example(config.halo.url):
        found.append(
            Advice(
                "halo.url",
                f"{config.halo.url} is only an example",
                "Set halo.url to the address of your own tenant.",
                wrong=True,
            )
        )
    if config.halo.rate_limit > RATE_LIMIT_SEEN:
        found.append(
            Advice(
                "halo.rate_limit",
                f"{config.halo.rate_limit:,} is more than the {RATE_LIMIT_SEEN} requests in 5 minutes "
                "that Halo allows",
                f"Set halo.rate_limit to {RATE_LIMIT_SEEN} or less, or Halo answers 429 to syncd and "
                "to other integrations.",
            )
        )
    return found
