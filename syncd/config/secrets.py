"""The secrets: their names, where each is read, and the problems of each.

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
"""The optional secrets."""

ENCRYPTED = ".cred"
"""The suffix of a secret's file that systemd-creds has encrypted."""

FILE_BYTES_MAX = 1024 * 1024
"""A larger file (bytes) is neither a configuration nor a secret."""


SHORT_TOKEN_CHARACTERS = 16
"""The minimum length of a web token; machines that reach the address could guess a shorter one."""

_QUOTES = {
    '"': "quote",
    "'": "quote",
    "`": "backtick",
    **dict.fromkeys(
        "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2039\u203a",
        "typographic quote",
    ),
}
"""Characters around a secret that were copied with it, and their names."""

_WHITESPACE = (
    "contains a line break, a space or a character that is not printable; paste the secret alone"
)

_OTHER_KINDS = (
    ("pk_", "this is a publishable key (pk_…), which cannot read payments"),
    ("whsec_", "this is a webhook signing secret (whsec_…), which cannot read payments"),
    ("acct_", "this is an account's id (acct_…), not a key; set stripe.account to it"),
    ("pi_", "this is a payment's id or client_secret, not a key"),
    ("ek_", "this is an ephemeral key of an app (ek_…), which cannot read payments"),
    ("ghp_", "this is a token of GitHub (ghp_…), not a key of Stripe"),
    ("gho_", "this is a token of GitHub (gho_…), not a key of Stripe"),
    ("github_pat_", "this is a token of GitHub (github_pat_…), not a key of Stripe"),
    ("glpat-", "this is a token of GitLab (glpat-…), not a key of Stripe"),
    ("xox", "this is a token of Slack (xox…), not a key of Stripe"),
    ("eyJ", "this is a sign-in token (a JWT), not a key of Stripe"),
)
"""Prefixes of values that are not API keys, and what those values are."""

_STRIPE_IDS = re.compile(r"(cus|ch|evt|in|re|du|dp|price|prod|sub|seti|pm|we|org|src|cs)_")
"""Prefixes of the ids of Stripe's objects."""

_WHOLE_KEY = re.compile(r"[rs]k_(org|live_|test_).")
"""How a key of Stripe begins. Source: Stripe's documentation of API keys."""

_RIGHT_KEY = "make a restricted key (rk_…) with read access to Events and PaymentIntents in Stripe's dashboard"


def read_secrets(
    environment: Mapping[str, str],
    configured_mode: str,
    problems: list[str],
    file: Path | None = None,
    needed: Collection[str] = tuple(SECRETS),
) -> dict[str, str | None]:
    """Read the needed secrets; a secret that is missing or not needed is None.

    Args:
        environment: the process's environment.
        configured_mode: `stripe.mode`; empty if not set.
        problems: gets one sentence for each secret that is missing or unusable.
        file: the configuration file; secrets may be in the same folder.
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
    """A secret and its source.

    Attributes:
        value: the secret; None if it is missing or unreadable.
        source: the path or the environment variable; empty if it is missing.
        problems: one sentence for each problem.
    """

    value: str | None = field(repr=False)
    source: str
    problems: tuple[str, ...] = ()


def find_secret(name: str, environment: Mapping[str, str], file: Path | None) -> Found:
    """Look for a secret in $CREDENTIALS_DIRECTORY, its variable, and the file's folder.

    A process with credentials from systemd does not search the folder of the file: a secret that
    the unit does not pass on must not be used.
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
    """Read a secret from a file; None if there is no such file.

    Args:
        name: the secret.
        place: the file.
        handed_over: whether the file was given to this process: a credential, or a container's
            secret.
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
        # An empty optional file counts as missing.
        problems = () if name in OPTIONAL_SECRETS else (f"{name}: {place} is empty",)
        return Found(None, str(place), problems)
    return _checked(name, text, str(place))


def _not_allowed(place: Path, *, handed_over: bool) -> str:
    """Why this account cannot read a file, and the command that helps.

    Docker and Podman mount a secret's file unchanged, with the owner and the mode on the host.
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
    """Decrypt a secret that systemd-creds encrypted for this machine; None without one."""
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
    """The problems of a secret that a person entered, one sentence each, without the secret."""
    problems = _checked(name, text, "").problems or tuple(
        _kind_problems(name, text.strip(), configured_mode, "")
    )
    return [one.removesuffix(" (read from )").partition(": ")[2] for one in problems]


def _checked(name: str, text: str, source: str) -> Found:
    """Refuse text that cannot be a secret, without showing the text."""
    value = text.strip()
    words = value.split() if name == "notify_urls" else [value]  # one on each line
    problem = None
    chosen = name == "database_password"  # chosen by people: spaces and quotes are allowed
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
    """The problem of a secret that was copied with its quotes, or with one of them; else None."""
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
    return key.startswith(("sk_org", "rk_org"))


def read_small_file(place: Path) -> str:
    """Read a small file, and no more: /dev/zero has no end."""
    with place.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise OSError(f"it is larger than {FILE_BYTES_MAX} bytes")
    return content.decode("utf-8")


def _kind_problems(name: str, value: str, configured_mode: str, source: str) -> list[str]:
    """Report a value that is a secret of another kind."""
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
    if re.fullmatch(r"[rs]k_?(org_?)?((live|test)_?)?", key):
        return "this is only the beginning of a key; copy the whole key"
    if _WHOLE_KEY.match(key) is None:
        return f"{_not_a_key(key)}; {_RIGHT_KEY}"
    mode = mode_of_key(key)
    if configured_mode and mode is not None and mode != configured_mode:
        return (
            f"this is a {mode} key, but stripe.mode is {configured_mode!r}; "
            f"use a {configured_mode} key, or change stripe.mode"
        )
    return None


def _not_a_key(value: str) -> str:
    """Why a value is no key of Stripe; names nothing of the value that could be secret."""
    if found := _STRIPE_IDS.match(value):
        return f"this is an id of an object at Stripe ({found[0]}…), not a key"
    if re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}.*", value):
        return "this looks like an id or a secret of Halo's API application"
    return "a key of Stripe begins with rk_ or sk_, and then has live, test or org; this value does not"


def _address_problems(secrets: Mapping[str, str | None]) -> list[str]:
    """The problems of the addresses that are secrets; no part of an address is shown."""
    problems = []
    for number, url in enumerate((secrets["notify_urls"] or "").split(), start=1):
        if not re.match(r"[A-Za-z][A-Za-z0-9+.\-]*://.", url):
            problems.append(f"notify_urls: line {number} is not an Apprise address (service://…)")
    heartbeat = secrets["heartbeat_url"]
    if heartbeat and not re.match(r"https?://[^/\s]", heartbeat):
        problems.append("heartbeat_url: must be an https:// (or http://) address")
    return problems
