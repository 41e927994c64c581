"""The tables and keys of the configuration, with their types and limits.

All problems are collected before any is shown, each with its key and, if the key is in the file,
its line. The file contains no secret, and no message shows one: messages name keys, not values.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.config.mode import Mode, mode_of
from syncd.config.secrets import SECRETS
from syncd.config.values import (
    AUTO,
    SPAN_SECONDS_MAX,
    Number,
    Span,
    Whole,
    interval_or_auto,
    is_span,
    span_written,
    whole_or_auto,
)
from syncd.core.payments import PaymentState
from syncd.text import database_url
from syncd.text.sanitize import plain


class ConfigurationError(Exception):
    """The configuration is invalid.

    Attributes:
        problems: one sentence each, with the key that it concerns.
        file: the configuration file that was read; None without one.
    """

    def __init__(self, problems: Iterable[str], file: Path | None = None) -> None:
        self.file = file
        self.problems = tuple(plain(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


class Section(BaseModel):
    """One table of the file: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stripe(Section):
    """How to read Stripe."""

    api_base: str = "https://api.stripe.com"
    account: str = ""
    mode: Literal["", "live", "test"] = ""
    read_budget: Annotated[int | Literal["auto"], BeforeValidator(whole_or_auto)] = 10_000

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
    """The fixed fields of a tenant's Stripe rows."""

    method: Number | None = None
    module_id: Number | None = None

    @property
    def fields(self) -> dict[str, int]:
        """The fields that are configured, by Halo's names."""
        return self.model_dump(exclude_none=True)


class _StatusNumbers(Section):
    @model_validator(mode="after")
    def _paid_is_paid(self) -> Self:
        numbers = self.numbers
        paid = numbers.pop(PaymentState.SUCCEEDED, None)
        for state, number in numbers.items():
            if number == paid:
                message = (
                    f"succeeded and {state} have the same number, {number}, so syncd could not tell a "
                    "paid bill from an unpaid one"
                )
                raise ValueError(message)
        return self

    @property
    def numbers(self) -> dict[PaymentState, int]:
        """The numbers that are set, by state."""
        found = {state: getattr(self, state) for state in PaymentState}
        return {state: number for state, number in found.items() if number is not None}


if TYPE_CHECKING:
    Status = _StatusNumbers
else:
    Status = create_model(
        "Status",
        __base__=_StatusNumbers,
        __doc__="The tenant's number of each state: one key for each, None where it is not set.",
        **{str(state): (Number | None, None) for state in PaymentState},
    )


class Halo(Section):
    """How to read and write Halo."""

    url: str
    client_id: str = Field(min_length=1)
    scope: str = Field("read:invoices edit:invoices", min_length=1)
    tenant: str = Field("", max_length=100)
    rate_limit: Whole = Field(300, ge=1)
    status: Status = Status()
    new_row: NewRow = NewRow()

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, value: str) -> str:
        if value and (not value.isprintable() or re.search(r"[\s/:]", value)):
            message = (
                "must be the tenant's name as Halo writes it, not an address, or empty where "
                "Halo's authinfo says it"
            )
            raise ValueError(message)
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        url = _checked_url(value)
        if urlsplit(url).path:
            message = (
                "must be the tenant's own address without a path behind the host "
                "(https://your-name.halopsa.com, not …/api, …/auth or …/portal)"
            )
            raise ValueError(message)
        return url


class Poll(Section):
    """When to poll, and how far back."""

    interval: Annotated[int | Literal["auto"], BeforeValidator(interval_or_auto)] = AUTO
    overlap: Span = Field(600, ge=0, le=86_400)
    sweep: Span = Field(86_400, ge=1, le=SPAN_SECONDS_MAX)
    look_back: Span = Field(86_400, ge=0, le=SPAN_SECONDS_MAX)

    @property
    def seconds(self) -> int | None:
        """The fixed interval; None if the planner decides."""
        return None if self.interval == AUTO else int(self.interval)


class Push(Section):
    """What to write, and how."""

    batch: Whole = Field(60, ge=1, le=1_000)
    create_missing: bool = False
    invoice_metadata_key: str = Field("halo_invoice_id", min_length=1, max_length=40)
    on_amount_mismatch: Literal["hold", "push"] = "hold"
    trace: bool = True


class State(Section):
    """The database."""

    url: str = database_url.DEFAULT
    takeover_after: Span = Field(30, ge=5, le=600)

    @property
    def is_server(self) -> bool:
        """Whether the database is a server, which several services may share."""
        return database_url.is_server(self.url)

    @property
    def file(self) -> Path | None:
        """The file of the database; None for a server."""
        name = database_url.file_of(self.url)
        return None if name is None else Path(name)

    @field_validator("url")
    @classmethod
    def _database(cls, value: str) -> str:
        problem = database_url.problem_of(value)
        if problem is not None:
            raise ValueError(problem)
        return value


class Web(Section):
    """The address for health checks, metrics and the page."""

    listen: str = "127.0.0.1:9464"
    stale_after: Span = Field(900, ge=1, le=SPAN_SECONDS_MAX)

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        address(value)
        return value


class Notify(Section):
    """What to notify about, and how often; the addresses are secrets."""

    every: Span = Field(3_600, ge=1)
    budget_low: float = Field(0.1, ge=0, lt=1)


class Log(Section):
    """What to log, and in which format."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text", "logfmt"] = "auto"


class Settings(BaseSettings):
    """The file, overridden by the environment."""

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
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic-settings names the arguments
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment has priority over the file, which is passed as the initial values."""
        return env_settings, init_settings


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, checked.

    Attributes:
        file: the file that was read; None if everything comes from the environment. stripe_api_key,
            halo_client_secret, web_token, notify_urls, heartbeat_url, database_password: the
            secrets; never shown.
    """

    stripe: Stripe
    halo: Halo
    poll: Poll
    push: Push
    state: State
    web: Web
    notify: Notify
    log: Log
    file: Path | None
    stripe_api_key: str = field(repr=False)
    halo_client_secret: str = field(repr=False)
    web_token: str | None = field(repr=False)
    notify_urls: tuple[str, ...] = field(repr=False, default=())
    heartbeat_url: str | None = field(repr=False, default=None)
    database_password: str | None = field(repr=False, default=None)

    @property
    def mode(self) -> Mode | None:
        """Stripe's mode, by the key or by `stripe.mode`; None if unknown."""
        return mode_of(self.stripe_api_key, self.stripe.mode)

    @property
    def stale_seconds(self) -> int:
        """The longest time without success that is not a failure, in seconds."""
        return self.stale_seconds_at(float(self.poll.seconds or 0))

    def stale_seconds_at(self, spacing_seconds: float) -> int:
        """The same, if polls are `spacing_seconds` apart."""
        return max(self.web.stale_after, int(2 * spacing_seconds))


def address(listen: str) -> tuple[str, int]:
    """Split ``host:port``.

    Raises:
        ValueError: the text has another form.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        message = 'must be an address and a port, such as "127.0.0.1:9464"'
        raise ValueError(message)
    return host, int(port)


SECTIONS = ("stripe", "halo", "poll", "push", "state", "web", "notify", "log")


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
    """The configuration without its secrets, as in the file."""
    return {section: _as_written(getattr(config, section)) for section in SECTIONS}


def _as_written(section: Section) -> dict[str, Any]:
    values = section.model_dump()
    for key, found in type(section).model_fields.items():
        if is_span(found):
            values[key] = span_written(values[key])
    return values


def _checked_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
        (parts.hostname or "").encode("idna")  # as for a DNS lookup
    except ValueError:
        message = "has an invalid host or port"
        raise ValueError(message) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        message = "must be a plain address, without a user, a query or a fragment"
        raise ValueError(message)
    if not value.isprintable() or " " in value:
        message = "must be a plain address, without spaces or invisible characters"
        raise ValueError(message)
    loopback = parts.hostname is not None and is_loopback(f"{parts.hostname}:1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        message = "must be an https:// address (http:// only on this machine's loopback)"
        raise ValueError(message)
    return value.rstrip("/")


def is_loopback(listen: str) -> bool:
    """Whether `listen` (``host:port``) is reached from this machine only."""
    host, _ = address(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
