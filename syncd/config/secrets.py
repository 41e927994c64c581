"""The secrets: their names, where each is read, and what is wrong with one.

No message here shows any part of a secret. Does not belong here: secrets that stand in the
configuration file by mistake (`config.problems`).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from syncd.config.mode import mode_of_key

SECRETS = {
    "stripe_api_key": "SYNCD_STRIPE_API_KEY",
    "halo_client_secret": "SYNCD_HALO_CLIENT_SECRET",
    "web_token": "SYNCD_WEB_TOKEN",
    "notify_urls": "SYNCD_NOTIFY_URLS",
    "heartbeat_url": "SYNCD_HEARTBEAT_URL",
}
"""Each secret's name as a systemd credential, and its environment variable."""

OPTIONAL_SECRETS = ("web_token", "notify_urls", "heartbeat_url")
"""Those that one can do without."""

FILE_BYTES_MAX = 1024 * 1024
"""A larger file is neither a configuration nor a secret."""


def read_secrets(
    environment: Mapping[str, str], configured_mode: str, problems: list[str]
) -> dict[str, str | None]:
    """Read every secret; a secret that is not given is None.

    Args:
        environment: the process's environment.
        configured_mode: `stripe.mode`; empty where it is not set.
        problems: gets one sentence for each secret that is missing or can't be used.
    """
    secrets = {name: _secret(name, environment, problems) for name in SECRETS}
    problems += _key_problems(secrets["stripe_api_key"], configured_mode)
    problems += _address_problems(secrets)
    return secrets


def read_small_file(place: Path) -> str:
    """Read a small file, of which there may be more than memory: /dev/zero has no end."""
    with place.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise OSError(f"it is larger than {FILE_BYTES_MAX} bytes")
    return content.decode("utf-8")


def _secret(name: str, environment: Mapping[str, str], problems: list[str]) -> str | None:
    variable = SECRETS[name]
    value, source = environment.get(variable, ""), variable
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder:
        try:
            value = read_small_file(Path(folder) / name)
            source = f"credential {name}"
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"credential {name}: can't be read: {type(error).__name__}")
    value = value.strip()
    words = value.split() if name == "notify_urls" else [value]  # one a line
    if any(not word.isascii() or not word.isprintable() or " " in word for word in words):
        problems.append(f"{source}: holds characters that no such secret has")
    if not value and name not in OPTIONAL_SECRETS:
        problems.append(f"{name}: the secret is missing (systemd credential {name}, or {variable})")
    return value or None


def _key_problems(key: str | None, configured_mode: str) -> list[str]:
    if not key:
        return []
    if key.startswith("pk_"):
        return [
            "stripe_api_key: this is a publishable key, which can't read payments; make a "
            "restricted key with read access to Events and PaymentIntents"
        ]
    mode = mode_of_key(key)
    if configured_mode and mode is not None and mode != configured_mode:
        return [f"stripe_api_key: this is a {mode} key, but stripe.mode is {configured_mode!r}"]
    return []


def _address_problems(secrets: Mapping[str, str | None]) -> list[str]:
    """What is wrong with the addresses that are secrets; none of their parts is shown."""
    problems = []
    for number, url in enumerate((secrets["notify_urls"] or "").split(), start=1):
        if not re.match(r"[A-Za-z][A-Za-z0-9+.\-]*://.", url):
            problems.append(f"notify_urls: line {number} isn't an Apprise address (service://…)")
    heartbeat = secrets["heartbeat_url"]
    if heartbeat and not re.match(r"https?://[^/\s]", heartbeat):
        problems.append("heartbeat_url: must be an https:// (or http://) address")
    return problems
