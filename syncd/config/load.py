"""Reads the file, the environment and the secrets into one frozen Config.

All problems are collected before any is shown, each with its key and, if the key is in the file,
its line. Does not belong here: what a key means (`config.model`), and the wording of problems
(`config.problems`).
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from syncd.config.model import SECTIONS, Config, ConfigurationError, Settings, is_loopback
from syncd.config.problems import (
    Namer,
    environment_problems,
    lines_of,
    quoted_values,
    secrets_in_file,
    unknown_variables,
    validation_problems,
)
from syncd.config.secrets import (
    SECRETS,
    SHORT_TOKEN_CHARACTERS,
    is_organization_key,
    read_secrets,
    read_small_file,
)
from syncd.text.sanitize import conceal

PLACES = (Path("/etc/syncd/config.toml"), Path("config.toml"))
"""The paths to try if neither --config nor SYNCD_CONFIG names a file: the first that exists."""


def load(file: Path | None, environment: Mapping[str, str], *, signing_in: bool = True) -> Config:
    """Read and check everything.

    Args:
        file: the file that --config names, if any.
        environment: the process's environment.
        signing_in: whether the secrets are needed; commands that use only the store do not need
            them.

    Raises:
        ConfigurationError: with all problems.
    """
    problems: list[str] = []
    place = find_file(file, environment, problems)
    text = _text(place, problems) if place else ""
    raw = _parsed(text, place, problems)
    named = Namer(place, lines_of(text))
    # pydantic-settings treats keys that begin with an underscore as its own options.
    options = [key for key in raw if key.startswith("_")]
    problems += [f"{named(key)}is not a key of syncd" for key in options]
    raw = {key: value for key, value in raw.items() if key not in options}
    problems += secrets_in_file(raw, named)
    problems += unknown_variables(environment, Settings)
    problems += environment_problems(environment)
    settings = _checked(raw, environment, named, problems) if not problems or raw else None
    mode = settings.stripe.mode if settings else ""
    needed = _needed_secrets(settings, signing_in=signing_in)
    secrets = read_secrets(environment, mode, problems, place, needed)
    if (
        settings
        and not settings.stripe.account
        and is_organization_key(secrets["stripe_api_key"] or "")
    ):
        problems.append(
            named("stripe", "account")
            + "is missing: the Stripe key belongs to an organization, not to one account. Set "
            "stripe.account to the id (acct_…) of the account whose payments Halo shows, or "
            "use a restricted key of that account"
        )
    beyond_loopback = settings is not None and not is_loopback(settings.web.listen)
    if signing_in and beyond_loopback and not secrets["web_token"]:
        problems.append(
            named("web", "listen")
            + "can be reached from other machines, which needs a token: set the secret "
            "web_token (or SYNCD_WEB_TOKEN), or listen on 127.0.0.1"
        )
    if settings is not None and not problems:
        problems += _new_row_problems(settings, named)
    token = secrets["web_token"]
    if beyond_loopback and token and len(token) < SHORT_TOKEN_CHARACTERS:
        problems.append(
            f"web_token: {len(token)} characters are too few, because web.listen is reached by other "
            f"machines; use {SHORT_TOKEN_CHARACTERS} or more: openssl rand -hex 16"
        )
    if problems or settings is None:
        raise ConfigurationError(problems, place)
    for name, secret in secrets.items():
        conceal(name, secret)
    return Config(
        **{section: getattr(settings, section) for section in SECTIONS},
        file=place,
        stripe_api_key=secrets["stripe_api_key"] or "",
        halo_client_secret=secrets["halo_client_secret"] or "",
        web_token=secrets["web_token"],
        notify_urls=tuple((secrets["notify_urls"] or "").split()),
        heartbeat_url=secrets["heartbeat_url"],
        database_password=secrets["database_password"],
    )


def _needed_secrets(settings: Settings | None, *, signing_in: bool) -> Collection[str]:
    """The secrets to read; a command that only uses the database needs only the database's."""
    if signing_in:
        return SECRETS
    server = settings is not None and settings.state.is_server
    return ("database_password",) if server else ()


def raw_file(place: Path | None) -> tuple[str, dict[str, Any]]:
    """The text and tables of a file that was loaded before; both empty without a file."""
    if place is None:
        return "", {}
    text = read_small_file(place)
    return text, tomllib.loads(text)


def _new_row_problems(settings: Settings, named: Namer) -> list[str]:
    """Missing fields of new rows: Halo's database requires two numbers in every new row."""
    if not settings.push.create_missing:
        return []
    return [
        named("halo", "new_row", key)
        + "is missing, and push.create_missing needs it: Halo's database demands it of every new "
        "row. To find the number, set push.create_missing = false and run: syncd calibrate"
        for key in ("method", "module_id")
        if getattr(settings.halo.new_row, key) is None
    ]


def _parsed(text: str, place: Path | None, problems: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        problems.append(f"{place}: invalid TOML: nested too deeply")
    except ValueError as error:  # bytes that are not UTF-8, endless numbers
        problems.append(f"{place}: invalid TOML: {error}")
    return {}


def _checked(
    raw: dict[str, Any], environment: Mapping[str, str], named: Namer, problems: list[str]
) -> Settings | None:
    raw.setdefault("halo", {})  # so that each missing key in it is reported
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        finally_named = replace(named, variables=frozenset(map(str.upper, environment)))
        problems += validation_problems(error, finally_named, Settings, already=problems)
    except Exception as error:  # noqa: BLE001  # pydantic-settings has its own for bad JSON in a variable
        problems.append(f"environment: a SYNCD_… variable can't be read: {type(error).__name__}")
    else:
        problems += quoted_values(raw, settings.model_dump(), named)
        return settings
    return None


def find_file(
    file: Path | None, environment: Mapping[str, str], problems: list[str]
) -> Path | None:
    """The configuration file; None without one, which is a problem unless variables replace it."""
    wanted = file or (
        Path(environment["SYNCD_CONFIG"]) if environment.get("SYNCD_CONFIG") else None
    )
    if wanted is not None:
        return wanted
    for place in PLACES:
        try:
            exists = place.exists()
        except PermissionError:
            exists = True  # the read will report that access is denied
        if exists:
            return place.absolute()  # messages then name the folder, too
    if not any(name.startswith("SYNCD_HALO__") for name in environment):
        problems.append(
            f"there is no {' and no '.join(map(str, PLACES))}. "
            "Name a file with --config or SYNCD_CONFIG"
        )
    return None


def _text(place: Path, problems: list[str]) -> str:
    try:
        return read_small_file(place)
    except OSError as error:
        beside = (
            ""
            if not isinstance(error, PermissionError)
            else ("; run the command as root, or name another file with --config")
        )
        problems.append(f"{place}: can't be read: {error.strerror or error}{beside}")
    except UnicodeDecodeError:
        problems.append(f"{place}: isn't text in UTF-8")
    return ""
