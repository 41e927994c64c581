"""The file, the environment and the secrets, read into one frozen Config.

Every problem is found before any is told, each with its key and, where the file holds it, its
line. No secret stands in the file, and none is ever shown: messages name keys, not values.
"""

import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.config.problems import (
    SECRETS,
    Namer,
    environment_problems,
    lines_of,
    quoted_values,
    secrets_in_file,
    unknown_variables,
    validation_problems,
)
from syncd.core.payments import PaymentState
from syncd.text.sanitize import conceal, plain
from syncd.text.timestamps import parse_span

PLACES = (Path("config.toml"), Path("/etc/syncd/config.toml"))
"""Where the file is looked for when neither --config nor SYNCD_CONFIG names one."""

OPTIONAL_SECRETS = ("web_token", "notify_urls", "heartbeat_url")
"""Those that one can do without."""

FILE_BYTES_MAX = 1024 * 1024
"""A larger file is neither a configuration nor a secret."""

SPAN_SECONDS_MAX = 30 * 86_400
"""Stripe lists events for so long: whoever looks more rarely misses some."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class ConfigurationError(Exception):
    """The configuration can't be used.

    Attributes:
        problems: one sentence each, with the key it is about.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(plain(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


def span_seconds(value: object) -> object:
    """Read a span of time such as ``5m``, ``1h30m`` or ``12w`` as seconds."""
    if isinstance(value, str):
        seconds = parse_span(value)
        if seconds is not None:
            return seconds
        message = 'must be a span of time such as "30s", "5m", "2h" or "1d"'
        raise ValueError(message)
    message = 'must be a span of time in quotes, such as "5m"'
    raise ValueError(message)


Span = Annotated[int, BeforeValidator(span_seconds)]


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        message = "must be a whole number"
        raise ValueError(message)  # noqa: TRY004  # pydantic wants a ValueError
    return value


Whole = Annotated[int, BeforeValidator(_not_a_bool)]
Number = Annotated[Whole, Field(ge=-(2**31), lt=2**31)]
"""A number of Halo's, as its fields hold them."""


class Section(BaseModel):
    """One table of the file: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stripe(Section):
    """Where and how to read Stripe."""

    api_base: str = "https://api.stripe.com"
    account: str = ""
    mode: Literal["", "live", "test"] = ""
    read_budget: Whole = Field(10_000, ge=1)

    @field_validator("api_base")
    @classmethod
    def _url(cls, value: str) -> str:
        return _checked_url(value)

    @field_validator("account")
    @classmethod
    def _account(cls, value: str) -> str:
        if value and not re.fullmatch(r"acct_[A-Za-z0-9_]{1,60}", value):
            message = 'must be a connected account\'s id ("acct_…"), or empty'
            raise ValueError(message)
        return value


class NewRow(Section):
    """What Stripe's rows carry in this tenant."""

    method: Number | None = None
    module_id: Number | None = None


class Status(Section):
    """The tenant's number of each state."""

    succeeded: Number | None = None
    payment_failed: Number | None = None
    processing: Number | None = None
    canceled: Number | None = None
    requires_action: Number | None = None

    @model_validator(mode="after")
    def _paid_is_paid(self) -> "Status":
        for state in PaymentState:
            number = getattr(self, state)
            if (
                state is not PaymentState.SUCCEEDED
                and number is not None
                and number == self.succeeded
            ):
                message = (
                    f"succeeded and {state} have the same number, {number}: nobody could tell a "
                    "paid bill from one that isn't"
                )
                raise ValueError(message)
        return self

    @property
    def numbers(self) -> dict[PaymentState, int]:
        """The numbers that are set, by state."""
        found = {state: getattr(self, state) for state in PaymentState}
        return {state: number for state, number in found.items() if number is not None}


class Halo(Section):
    """Where and how to read and write Halo."""

    url: str
    client_id: str = Field(min_length=1)
    scope: str = Field("read:invoices edit:invoices", min_length=1)
    rate_limit: Whole = Field(300, ge=1)
    status: Status = Status()
    new_row: NewRow = NewRow()

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        url = _checked_url(value)
        if url.lower().endswith(("/api", "/auth")):
            message = "must be the tenant's own address, without /api or /auth behind it"
            raise ValueError(message)
        return url


class Poll(Section):
    """When to look, and how far back."""

    interval: Span = Field(300, ge=1, le=SPAN_SECONDS_MAX)
    overlap: Span = Field(600, ge=0, le=86_400)
    sweep: Span = Field(86_400, ge=1, le=SPAN_SECONDS_MAX)
    look_back: Span = Field(86_400, ge=0, le=SPAN_SECONDS_MAX)


class Push(Section):
    """What to write, and how."""

    batch: Whole = Field(50, ge=1, le=1_000)
    create_missing: bool = False
    invoice_metadata_key: str = Field("halo_invoice_id", min_length=1, max_length=40)
    on_amount_mismatch: Literal["hold", "push"] = "hold"
    trace: bool = True


class State(Section):
    """Where the memory is."""

    url: str = "sqlite:////var/lib/syncd/syncd.db"

    @field_validator("url")
    @classmethod
    def _sqlite(cls, value: str) -> str:
        if not re.fullmatch(r"sqlite:///[^?#]+", value) or not value.isprintable():
            message = 'must be "sqlite:///" and a file\'s path ("sqlite:////var/lib/…")'
            raise ValueError(message)
        return value


class Web(Section):
    """Where health and metrics are answered."""

    listen: str = "127.0.0.1:9464"
    stale_after: Span = Field(900, ge=1, le=SPAN_SECONDS_MAX)

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        address(value)
        return value


class Notify(Section):
    """What to tell people, and how often; where to is a secret."""

    every: Span = Field(3_600, ge=1)
    budget_low: float = Field(0.1, ge=0, lt=1)


class _Settings(BaseSettings):
    """The file with the environment over it."""

    model_config = SettingsConfigDict(
        env_prefix="SYNCD_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    stripe: Stripe = Stripe()
    halo: Halo
    poll: Poll = Poll()
    push: Push = Push()
    state: State = State()
    web: Web = Web()
    notify: Notify = Notify()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic-settings names the arguments
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which comes in as the initial values."""
        return env_settings, init_settings


@dataclass(frozen=True, slots=True)
class Config:
    """All that syncd was told, checked.

    Attributes:
        file: where it was read; None where the environment alone told it.
        stripe_api_key, halo_client_secret, web_token, notify_urls, heartbeat_url: the secrets;
            never shown.
    """

    stripe: Stripe
    halo: Halo
    poll: Poll
    push: Push
    state: State
    web: Web
    notify: Notify
    file: Path | None
    stripe_api_key: str = field(repr=False)
    halo_client_secret: str = field(repr=False)
    web_token: str | None = field(repr=False)
    notify_urls: tuple[str, ...] = field(repr=False, default=())
    heartbeat_url: str | None = field(repr=False, default=None)

    @property
    def mode(self) -> str | None:
        """In which of Stripe's modes it is read, test or live; None where nothing says so."""
        for kind in ("test", "live"):
            if f"_{kind}_" in self.stripe_api_key or self.stripe.mode == kind:
                return kind
        return None

    @property
    def test_mode(self) -> bool | None:
        """Whether Stripe is read in test mode; None where nothing says so."""
        return None if self.mode is None else self.mode == "test"

    @property
    def stale_seconds(self) -> int:
        """How long nothing may have worked before that is a failure."""
        return max(self.web.stale_after, 2 * self.poll.interval)


def load(file: Path | None, environment: Mapping[str, str], *, signing_in: bool = True) -> Config:
    """Read and check everything.

    Args:
        file: what --config names, if it does.
        environment: the process's environment.
        signing_in: whether the secrets are needed; what only reads the store does without.

    Raises:
        ConfigurationError: with every problem there is.
    """
    problems: list[str] = []
    place = _find(file, environment, problems)
    text = _text(place, problems) if place else ""
    raw: dict[str, Any] = {}
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        problems.append(f"{place}: this isn't TOML that anybody could read: it is nested too deep")
    except ValueError as error:  # what it can't decode, and numbers without end
        problems.append(f"{place}: this isn't TOML: {error}")
    named = Namer(place, lines_of(text))
    # pydantic-settings takes such names for orders to itself.
    orders = [key for key in raw if key.startswith("_")]
    problems += [f"{named(key)}is not a key of syncd" for key in orders]
    raw = {key: value for key, value in raw.items() if key not in orders}
    problems += secrets_in_file(raw, named)
    problems += unknown_variables(environment, _Settings)
    problems += environment_problems(environment)
    settings = None
    if not problems or raw:
        raw.setdefault("halo", {})  # what is missing inside is named key by key
        try:
            settings = _Settings(**raw)
            problems += quoted_values(raw, settings.model_dump(), named)
        except ValidationError as error:
            finally_named = replace(named, variables=frozenset(map(str.upper, environment)))
            problems += validation_problems(error, finally_named, _Settings, already=problems)
        except Exception as error:  # noqa: BLE001  # pydantic-settings has its own for bad JSON in a variable
            problems.append(
                f"environment: a SYNCD_… variable can't be read: {type(error).__name__}"
            )
    secrets: dict[str, str | None] = dict.fromkeys(SECRETS)
    if signing_in:
        secrets = {name: _secret(name, environment, problems) for name in SECRETS}
        problems += _key_problems(secrets["stripe_api_key"], settings)
        problems += _address_problems(secrets)
    open_to_all = settings is not None and not _is_loopback(settings.web.listen)
    if signing_in and open_to_all and not secrets["web_token"]:
        problems.append(
            named("web", "listen")
            + "listens beyond this machine, which needs a token: give the secret web_token "
            "(or SYNCD_WEB_TOKEN), or listen on 127.0.0.1"
        )
    if problems or settings is None:
        raise ConfigurationError(problems)
    for name, secret in secrets.items():
        conceal(name, secret)
    return Config(
        stripe=settings.stripe,
        halo=settings.halo,
        poll=settings.poll,
        push=settings.push,
        state=settings.state,
        web=settings.web,
        notify=settings.notify,
        file=place,
        stripe_api_key=secrets["stripe_api_key"] or "",
        halo_client_secret=secrets["halo_client_secret"] or "",
        web_token=secrets["web_token"],
        notify_urls=tuple((secrets["notify_urls"] or "").split()),
        heartbeat_url=secrets["heartbeat_url"],
    )


def address(listen: str) -> tuple[str, int]:
    """Split ``host:port``.

    Raises:
        ValueError: it isn't one.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        message = 'must be an address and a port, such as "127.0.0.1:9464"'
        raise ValueError(message)
    return host, int(port)


SECTIONS = ("stripe", "halo", "poll", "push", "state", "web", "notify")


def differences(old: Config, new: Config) -> list[str]:
    """The keys that differ between two configurations, as ``halo.url``; secrets by their name."""
    keys = []
    for section in SECTIONS:
        before, after = getattr(old, section), getattr(new, section)
        keys += [
            f"{section}.{key}"
            for key in type(before).model_fields
            if getattr(before, key) != getattr(after, key)
        ]
    return keys + [name for name in SECRETS if getattr(old, name) != getattr(new, name)]


def shown(config: Config) -> dict[str, Any]:
    """The configuration without its secrets, as the file would have it."""
    return {section: _as_written(getattr(config, section)) for section in SECTIONS}


def _as_written(section: Section) -> dict[str, Any]:
    values = section.model_dump()
    for key, found in type(section).model_fields.items():
        if BeforeValidator(span_seconds) in found.metadata:
            values[key] = span_text(values[key])
    return values


def span_text(seconds: int) -> str:
    """Write a span of time as the file would have it: ``1h30m``."""
    parts = []
    for unit, size in sorted(_UNITS.items(), key=lambda entry: -entry[1]):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


# --- details -------------------------------------------------------------------------------------


def _find(file: Path | None, environment: Mapping[str, str], problems: list[str]) -> Path | None:
    wanted = file or (
        Path(environment["SYNCD_CONFIG"]) if environment.get("SYNCD_CONFIG") else None
    )
    if wanted is not None:
        return wanted
    for place in PLACES:
        if place.exists():
            return place
    if not any(name.startswith("SYNCD_HALO__") for name in environment):
        problems.append(
            f"there is no {' and no '.join(map(str, PLACES))}. "
            "Name a file with --config or SYNCD_CONFIG"
        )
    return None


def _text(place: Path, problems: list[str]) -> str:
    try:
        return _read(place)
    except OSError as error:
        problems.append(f"{place}: can't be read: {error.strerror or error}")
    except UnicodeDecodeError:
        problems.append(f"{place}: isn't text in UTF-8")
    return ""


def _read(place: Path) -> str:
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
            value = _read(Path(folder) / name)
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


def _key_problems(key: str | None, settings: _Settings | None) -> list[str]:
    if not key:
        return []
    if key.startswith("pk_"):
        return [
            "stripe_api_key: this is a publishable key, which can't read payments; make a "
            "restricted key with read access to Events and PaymentIntents"
        ]
    mode = settings.stripe.mode if settings else ""
    other = {"live": "test", "test": "live"}.get(mode)
    if other and f"_{other}_" in key:
        return [f"stripe_api_key: this is a {other} key, but stripe.mode is {mode!r}"]
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


def _checked_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
        (parts.hostname or "").encode("idna")  # as looking the name up does
    except ValueError:
        message = "has a host or a port that can't be one"
        raise ValueError(message) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        message = "must be a plain address, without a user, a query or a fragment"
        raise ValueError(message)
    if not value.isprintable() or " " in value:
        message = "must be a plain address, without spaces or anything that can't be seen"
        raise ValueError(message)
    loopback = parts.hostname is not None and _is_loopback(f"{parts.hostname}:1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        message = "must be an https:// address (http:// only on this machine's loopback)"
        raise ValueError(message)
    return value.rstrip("/")


def _is_loopback(listen: str) -> bool:
    host, _ = address(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
