"""The secrets: their names, where each is read, and what is wrong with one.

No message here shows any part of a secret. Does not belong here: secrets that are in the
configuration file by mistake (`config.problems`).
"""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from syncd.config.mode import mode_of_key

SECRETS = {
    "stripe_api_key": "SYNCD_STRIPE_API_KEY",
    "halo_client_secret": "SYNCD_HALO_CLIENT_SECRET",
    "web_token": "SYNCD_WEB_TOKEN",
    "notify_urls": "SYNCD_NOTIFY_URLS",
    "heartbeat_url": "SYNCD_HEARTBEAT_URL",
    "database_password": "SYNCD_DATABASE_PASSWORD",
}
"""Each secret's name as a systemd credential, and its environment variable."""

OPTIONAL_SECRETS = ("web_token", "notify_urls", "heartbeat_url", "database_password")
"""Those that one can do without."""

ENCRYPTED = ".cred"
"""How the name of a secret ends that systemd-creds has encrypted."""

FILE_BYTES_MAX = 1024 * 1024
"""A larger file is neither a configuration nor a secret."""


SHORT_TOKEN_CHARACTERS = 16
"""A shorter web token can be guessed by machines that reach the address."""

_QUOTES = {
    '"': "quote",
    "'": "quote",
    "`": "backtick",
    **dict.fromkeys(
        "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2039\u203a",
        "typographic quote",
    ),
}
"""Characters around a secret that belong to the text from which it was copied, and their names."""

_WHITESPACE = (
    "contains a line break, a space or a character that is not printable; paste the secret alone"
)

_OTHER_KINDS = (
    ("pk_", "this is a publishable key (pk_…), which cannot read payments"),
    ("whsec_", "this is a webhook signing secret (whsec_…), which cannot read payments"),
    ("acct_", "this is an account's id (acct_…), not a key; set stripe.account to it"),
    ("pi_", "this is a payment's id or client_secret, not a key"),
    ("ek_", "this is an ephemeral key of an app (ek_…), which cannot read payments"),
)
"""How keys begin that are no API keys, and what they are."""

_RIGHT_KEY = "make a restricted key (rk_…) with read access to Events and PaymentIntents in Stripe's dashboard"


def read_secrets(
    environment: Mapping[str, str],
    configured_mode: str,
    problems: list[str],
    file: Path | None = None,
    needed: Collection[str] = tuple(SECRETS),
) -> dict[str, str | None]:
    """Read the secrets that are needed; one that is not given, or not needed, is None.

    Args:
        environment: the process's environment.
        configured_mode: `stripe.mode`; empty where it is not set.
        problems: gets one sentence for each secret that is missing or can't be used.
        file: the configuration file; secrets may lie in the same folder.
        needed: the names of the secrets to read.
    """
    secrets: dict[str, str | None] = dict.fromkeys(SECRETS)
    for name in needed:
        found = find_secret(name, environment, file)
        problems += found.problems
        secrets[name] = found.value
        if found.value and not found.problems:
            problems += _kind_problems(name, found.value, configured_mode, found.source)
    problems += _address_problems(secrets)
    return secrets


@dataclass(frozen=True, slots=True)
class Found:
    """A secret, and where it was found.

    Attributes:
        value: the secret; None where it was not given or can't be read.
        source: the path or the environment variable; empty where it was not found.
        problems: what is wrong, one sentence each.
    """

    value: str | None = field(repr=False)
    source: str
    problems: tuple[str, ...] = ()


def find_secret(name: str, environment: Mapping[str, str], file: Path | None) -> Found:
    """Look for a secret in $CREDENTIALS_DIRECTORY, in its variable, then in the folder of the configuration file.

    A process that systemd gave credentials does not look in the folder of the file: what the unit does not
    hand over, the service must not use.
    """
    variable, folder = SECRETS[name], environment.get("CREDENTIALS_DIRECTORY")
    tried = []
    if folder:
        place = Path(folder) / name
        found = _in_file(name, place, handed_over=True)
        if found is not None:
            return found
        tried.append(str(place))
    text = environment.get(variable, "")
    if text.strip():
        return _checked(name, text, variable)
    tried.append(f"${variable}")
    if not folder and file is not None:
        place = file.absolute().parent / name
        found = _in_file(name, place) or _encrypted(name, place.with_name(f"{name}{ENCRYPTED}"))
        if found is not None:
            return found
        tried.append(str(place))
    if name in OPTIONAL_SECRETS:
        return Found(None, "")
    return Found(None, "", (f"{name}: the secret is missing; tried {', then '.join(tried)}",))


def _in_file(name: str, place: Path, *, handed_over: bool = False) -> Found | None:
    """Read a secret from a file; None where there is no such file.

    Args:
        name: the secret.
        place: the file.
        handed_over: whether the file was given to this process: a credential, or a container's secret.
    """
    try:
        text = read_small_file(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return Found(None, str(place), (f"{name}: {_not_allowed(place, handed_over=handed_over)}",))
    except UnicodeDecodeError:
        return Found(None, str(place), (f"{name}: {place} can't be read: not text in UTF-8",))
    except OSError as error:
        message = f"{name}: {place} can't be read: {error.strerror or error}"
        return Found(None, str(place), (message,))
    if not text.strip():
        # An empty optional file is as good as none.
        problems = () if name in OPTIONAL_SECRETS else (f"{name}: {place} is empty",)
        return Found(None, str(place), problems)
    return _checked(name, text, str(place))


def _not_allowed(place: Path, *, handed_over: bool) -> str:
    """Why this account can't read a file, and the command that helps.

    Docker and Podman mount a secret's file as it is on the host: with the owner and the mode of the host.
    """
    user, owner = os.geteuid(), ""
    with suppress(OSError):
        found = place.stat()
        owner = f" (owner uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):03o})"
    if handed_over:
        return (
            f"uid {user}, as which syncd runs, can't read {place}{owner}. For a container, run this on the "
            f"host, in the folder of the secret: chown {user} {place.name}"
        )
    return (
        f"{place} can't be read by this account, uid {user}{owner}; run the command as root, or as the "
        "account of syncd"
    )


def _encrypted(name: str, place: Path) -> Found | None:
    """Decrypt a secret that systemd-creds encrypted for this machine; None where there is none."""
    program = shutil.which("systemd-creds")
    if program is None or not place.exists():
        return None
    done = subprocess.run(  # noqa: S603  # systemd's own program
        [program, "decrypt", f"--name={name}", str(place), "-"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        message = (
            f"{name}: systemd-creds can't decrypt {place}; run the command as root, on the machine "
            "that encrypted it"
        )
        return Found(None, str(place), (message,))
    return _checked(name, done.stdout, str(place))


def secret_problems(name: str, text: str, configured_mode: str = "") -> list[str]:
    """What is wrong with a secret that a person entered, one sentence each, without the secret."""
    problems = _checked(name, text, "").problems or tuple(
        _kind_problems(name, text.strip(), configured_mode, "")
    )
    return [one.removesuffix(" (read from )").partition(": ")[2] for one in problems]


def _checked(name: str, text: str, source: str) -> Found:
    """Refuse what no secret looks like, without showing the text."""
    value = text.strip()
    words = value.split() if name == "notify_urls" else [value]  # one on each line
    problem = None
    chosen = name == "database_password"  # by people: spaces, quotes and other letters are allowed
    if quoted := next(filter(None, (_quoted(word, only_pairs=chosen) for word in words)), None):
        problem = quoted
    elif re.match(r"(export +)?SYNCD_[A-Z_]+ *=", value):
        problem = "begins with the name of a variable; write the secret alone"
    elif chosen:
        problem = None if value.isprintable() else _WHITESPACE
    elif any(not word.isascii() or not word.isprintable() or " " in word for word in words):
        problem = _WHITESPACE
    if problem is None:
        return Found(value, source)
    return Found(value, source, (f"{name}: {problem} (read from {source})",))


def _quoted(word: str, *, only_pairs: bool) -> str | None:
    """What is wrong with a secret that was copied with its quotes, or with one of them."""
    first, last = _QUOTES.get(word[0]), _QUOTES.get(word[-1])
    quote = first or last
    if quote is None:
        return None
    if len(word) > 1 and first and last:
        return f"is in {quote}s; write the secret alone, without {quote}s"
    where = "begins" if first else "ends"
    return None if only_pairs else f"{where} with a {quote}; write the secret alone, without quotes"


def is_organization_key(key: str) -> bool:
    """Whether a Stripe key is an organization's: each request must then name an account.

    Source: Stripe's documentation of organization API keys (``sk_org…``).
    """
    return key.startswith("sk_org")


def read_small_file(place: Path) -> str:
    """Read a small file, of which there may be more than memory: /dev/zero has no end."""
    with place.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise OSError(f"it is larger than {FILE_BYTES_MAX} bytes")
    return content.decode("utf-8")


def _kind_problems(name: str, value: str, configured_mode: str, source: str) -> list[str]:
    """Name a value that is a secret of another kind."""
    problem = None
    if name == "stripe_api_key":
        problem = _key_problem(value, configured_mode)
    elif name == "halo_client_secret" and re.match(r"[srp]k_(live|test)_|whsec_", value):
        problem = "this is a secret of Stripe; write the secret of Halo's API application"
    return [] if problem is None else [f"{name}: {problem} (read from {source})"]


def _key_problem(key: str, configured_mode: str) -> str | None:
    for beginning, problem in _OTHER_KINDS:
        if key.startswith(beginning):
            return f"{problem}; {_RIGHT_KEY}"
    if "..." in key or "*" in key:
        return (
            "this is the shortened key that Stripe's dashboard shows in lists; copy the whole key"
        )
    mode = mode_of_key(key)
    if configured_mode and mode is not None and mode != configured_mode:
        return (
            f"this is a {mode} key, but stripe.mode is {configured_mode!r}; "
            f"use a {configured_mode} key, or change stripe.mode"
        )
    return None


def _address_problems(secrets: Mapping[str, str | None]) -> list[str]:
    """What is wrong with the addresses that are secrets; none of their parts is shown."""
    problems = []
    for number, url in enumerate((secrets["notify_urls"] or "").split(), start=1):
        if not re.match(r"[A-Za-z][A-Za-z0-9+.\-]*://.", url):
            problems.append(f"notify_urls: line {number} is not an Apprise address (service://…)")
    heartbeat = secrets["heartbeat_url"]
    if heartbeat and not re.match(r"https?://[^/\s]", heartbeat):
        problems.append("heartbeat_url: must be an https:// (or http://) address")
    return problems
