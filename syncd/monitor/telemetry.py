"""The log, and the metrics for Prometheus.

The only module that uses structlog and prometheus_client. No label has a value per payment.
"""

import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from syncd import __version__
from syncd.config.model import Log
from syncd.text.sanitize import plain, without_secrets

LAG_BUCKETS_SECONDS = (1, 5, 15, 60, 300, 600, 1_800, 3_600, 21_600, 86_400, 604_800)


_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog's number of each level (source: sd-daemon(3))."""


def _without_secrets(
    _logger: Any, _name: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last safeguard: removes everything that looks like a secret from the log.

    It also removes characters that could move a terminal's cursor; only an exception keeps its
    lines.
    """
    for key, value in entry.items():
        if isinstance(value, str):
            entry[key] = without_secrets(value) if key == "exception" else plain(value, 2_000)
    return entry


def set_up_log(stream: TextIO, log: Log, *, priorities: bool = False) -> None:
    """Send the log to a stream.

    Args:
        stream: a terminal gets text if the format is "auto"; any other stream gets JSON.
        log: the level and the format.
        priorities: whether each line begins with its priority, as ``<6>`` (source: sd-daemon(3)).
    """
    form = log.format
    if form == "auto":
        form = "text" if stream.isatty() else "json"
    render: Any
    if form == "text":
        render = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    elif form == "logfmt":
        order = ["timestamp", "level", "event"]
        render = structlog.processors.LogfmtRenderer(key_order=order, bool_as_flag=False)
    else:
        render = structlog.processors.JSONRenderer(ensure_ascii=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,  # first: a traceback may hold a secret
            _without_secrets,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_priority(render) if priorities else render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, log.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    # Libraries log little, and through the same handler.
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


def _with_priority(render: Callable[..., str]) -> Callable[..., str]:
    """Add the priority of its entry to the start of each line."""

    def rendered(logger: Any, name: str, entry: MutableMapping[str, Any]) -> str:
        mark = f"<{_PRIORITIES.get(str(entry.get('level')), 6)}>"
        return "\n".join(mark + line for line in render(logger, name, entry).splitlines())

    return rendered


def under_journal(environment: Mapping[str, str], number: int = 2) -> bool:
    """Whether a file descriptor is connected to the journal, as ``JOURNAL_STREAM`` says.

    Source: systemd.exec(5). A process that inherited the variable may have another standard error.
    """
    try:
        found = os.fstat(number)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _ToStructlog(logging.Handler):
    """Passes log entries of libraries to syncd's log."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library",
            logger=record.name,
            text=record.getMessage(),
            exc_info=record.exc_info,
        )


class Telemetry:
    """The log and the metrics of one process.

    Attributes:
        hidden: log events that are not written.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self.hidden: frozenset[str] = frozenset()
        self.registry = CollectorRegistry()
        r = self.registry
        self._counters = {
            "polls": Counter("syncd_polls", "Polls of Stripe.", ["outcome"], registry=r),
            "sweeps": Counter("syncd_sweeps", "Sweeps.", ["outcome"], registry=r),
            "events": Counter("syncd_events", "Events that were listed.", ["outcome"], registry=r),
            "pushes": Counter("syncd_pushes", "Payments pushed.", ["outcome"], registry=r),
            "requests": Counter("syncd_requests", "Requests.", ["side", "outcome"], registry=r),
            "takeovers": Counter("syncd_takeovers", "Takeovers from another service.", registry=r),
            "gaps": Counter("syncd_gaps_filled", "Gaps filled from payment intents.", registry=r),
        }
        self._payments = Gauge("syncd_payments", "Payments known.", ["condition"], registry=r)
        self._attention = Gauge("syncd_attention", "Entries on the attention list.", registry=r)
        self._budget = Gauge(
            "syncd_budget_remaining_requests", "Requests that may still go.", ["side"], registry=r
        )
        self._writes = Gauge(
            "syncd_writes_proven",
            "Whether a kind of write is proven in this tenant: 1 proven, 0 not yet, -1 stopped.",
            ["kind"],
            registry=r,
        )
        self._leads = Gauge(
            "syncd_leading",
            "1 where this service polls and pushes; 0 while it is a standby.",
            registry=r,
        )
        self._leads.set(1)
        self._success = Gauge(
            "syncd_last_success_timestamp_seconds", "When it last worked.", ["step"], registry=r
        )
        self._lag = Histogram(
            "syncd_lag_seconds",
            "From Stripe's event to Halo's acknowledgement.",
            buckets=LAG_BUCKETS_SECONDS,
            registry=r,
        )
        Info("syncd_build", "The version that runs.", registry=r).info({"version": __version__})
        for name, outcomes in {
            "polls": ("ok", "failed"),
            "sweeps": ("ok", "failed"),
            "events": ("new", "repeated", "unknown_type", "unreadable"),
            "pushes": ("updated", "created", "in_step", "held", "failed", "unmatched"),
        }.items():
            for outcome in outcomes:
                self._counters[name].labels(outcome=outcome)  # the series exists from the start

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Write one line of the log."""
        if event not in self.hidden:
            getattr(self._log, level)(event, **fields)

    def count(self, name: str, number: int = 1, **labels: str) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        if number:
            (counter.labels(**labels) if labels else counter).inc(number)

    def leads(self, *, leading: bool) -> None:
        """Record whether this service leads."""
        self._leads.set(int(leading))

    def lag(self, seconds: float) -> None:
        """Add to the histogram of the time from Stripe's event to Halo's acknowledgement."""
        self._lag.observe(seconds)

    def succeeded(self, step: str, at: float) -> None:
        """Record when a step (poll, push, sweep) last worked, Unix seconds."""
        self._success.labels(step=step).set(at)

    def page(
        self,
        payments: Mapping[Any, int],
        attention: int,
        budgets: Mapping[str, int],
        writes: Mapping[str, int] | None = None,
    ) -> bytes:
        """All metrics in Prometheus's text format, with the store's present values."""
        for condition, number in payments.items():
            self._payments.labels(condition=str(condition)).set(number)
        self._attention.set(attention)
        for kind, known in (writes or {}).items():
            self._writes.labels(kind=kind).set(known)
        for side, left in budgets.items():
            self._budget.labels(side=side).set(left)
        return generate_latest(self.registry)


class _CurrentStderr(io.TextIOBase):
    """The present standard error: a progress bar replaces it, and shows log lines above the bar."""

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def stderr_log(log: Log | None = None) -> None:
    """Log to standard error; None for the level and format to use before the file is read."""
    stream = cast("TextIO", _CurrentStderr())
    set_up_log(stream, log or Log(), priorities=under_journal(os.environ))
