"""The page for people: what the templates show, and the headers that keep it harmless.

Read-only, one file, nothing loaded from elsewhere. Everything is escaped by the templates; what
styles and scripts there are, the browser knows by their hashes. The only room that knows `jinja2`.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd import __version__
from syncd.config.mode import Mode
from syncd.config.model import Config, shown
from syncd.config.secrets import OPTIONAL_SECRETS, SECRETS
from syncd.core.money import Money
from syncd.core.records import Attention, Condition, Pushed, Said
from syncd.monitor.alerts import Level, Standing
from syncd.service.web.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Pictures, Word, draw
from syncd.text import links
from syncd.text.links import halo_invoice
from syncd.text.timestamps import duration, iso, minute
from syncd.text.wording import STANDS, check_name, counted, needing

if TYPE_CHECKING:
    from jinja2 import Environment

ATTENTION_MAX = 50
PUSHES_MAX = 20
"""So many lines are shown; of the others the page tells how many there are."""

_BOX = {
    "width": int(WIDTH), "height": int(HEIGHT), "left": LEFT, "right": WIDTH - RIGHT, "top": TOP,
    "bottom": HEIGHT - BOTTOM,
}  # fmt: skip

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the page shows, at one moment.

    Attributes:
        now: Unix seconds.
        config: the configuration; its secrets are not looked at.
        level: how it stands.
        standing: since when, as noted after the last step.
        checks: name, level, and why (not), for each.
        conditions: how many payments stand where.
        due: how many are to be pushed now.
        attention: the newest lines of the attention list.
        attention_counts: how many it has in all, by kind.
        said: what Stripe said of Halo's payments in the last 24 hours.
        pushes: what was written to Halo in the last 24 hours, newest first.
        budgets: requests left and allowed, by side.
        notes: the store's notes.
        pushing: who pushes now; None where nobody does.
        gap: the gap that was filled last, as it was noted.
        backfill: the words of a backfill that was begun and not finished.
    """

    now: float
    config: Config
    level: Level
    standing: Standing
    checks: Sequence[tuple[str, str, str]]
    conditions: Mapping[Condition, int]
    due: int
    attention: Sequence[Attention]
    attention_counts: Mapping[str, int]
    said: Sequence[Said]
    pushes: Sequence[Pushed]
    budgets: Mapping[str, tuple[int, int]]
    notes: Mapping[str, str]
    pushing: str | None
    gap: Mapping[str, Any] | None
    backfill: str | None

    @property
    def attention_count(self) -> int:
        """How many lines the attention list has in all."""
        return sum(self.attention_counts.values())


@dataclass(frozen=True, slots=True)
class Kind:
    """Lines of the attention list that have one cause, and so one remedy."""

    title: str
    remedy: str
    command: str
    lines: tuple[Attention, ...]


_RETRY = "syncd attention retry"
_RESYNC = "syncd resync"
_DISMISS = "syncd attention dismiss"

_KINDS = {
    "status_not_configured": (
        "A state has no number in this tenant",
        "Set it in [halo.status], then reload: these are decided again by themselves.",
        "systemctl reload syncd",
    ),
    "halo_says_succeeded": (
        "Halo says paid, Stripe says otherwise",
        "Ask who booked it. Correct the row in Halo and retry, or dismiss it.",
        _RETRY,
    ),
    "amount_mismatch": (
        "The amounts disagree",
        "Correct the amounts of the rows in Halo, then retry.",
        _RETRY,
    ),
    "amount_unreadable": (
        "An amount can't be read",
        "Look at the payment on both sides and correct it, then read it again.",
        _RESYNC,
    ),
    "currency_unknown": (
        "A currency that isn't known here",
        "Book it by hand, then dismiss it.",
        _DISMISS,
    ),
    "row_unreadable": (
        "A row of Halo can't be read",
        "Look at the row in Halo and correct it, then retry.",
        _RETRY,
    ),
    "row_deleted": (
        "Halo's row is gone",
        "If it was deleted on purpose, dismiss it; else retry, and it is treated as new.",
        _RETRY,
    ),
    "insert_unproven": (
        "Halo was sent a new row and doesn't show it",
        "Look at the invoice's payments: if the row is there, dismiss this; if it isn't, retry.",
        _RETRY,
    ),
    "invoice_unreadable": (
        "The metadata doesn't name an invoice",
        "Correct the payment's metadata at Stripe, then read it again.",
        _RESYNC,
    ),
    "stripe_contradicts_itself": (
        "Stripe contradicts itself",
        "Look at the payment in Stripe's dashboard, then read it again.",
        _RESYNC,
    ),
    "stripe_unreadable": (
        "A payment can't be read at Stripe",
        "Look at the payment in Stripe's dashboard, then read it again.",
        _RESYNC,
    ),
    "halo_refuses": (
        "Halo refuses it",
        "It is tried again by itself. Correct the row or the invoice in Halo to be done sooner.",
        _RETRY,
    ),
    "refunded": (
        "Refunded at Stripe, paid in Halo",
        "Halo is left as it is. Book the refund there, then dismiss it.",
        _DISMISS,
    ),
    "disputed": (
        "Disputed at Stripe, paid in Halo",
        "Halo is left as it is. Answer it in Stripe's dashboard, book what was lost, then dismiss it.",
        _DISMISS,
    ),
    "unreadable": (
        "Stripe sent something unreadable",
        "Look at it in Stripe's dashboard; once you know what it was, dismiss it.",
        _DISMISS,
    ),
}
_OTHER = ("Held", "Read the reason, put it right, then retry; or dismiss it.", _RETRY)


def render(snapshot: Snapshot) -> str:
    """The page as HTML."""
    written = {(push.intent_id, push.new) for push in snapshot.pushes}
    words = (Word(s.at, s.state, (s.intent_id, s.state) in written) for s in snapshot.said)
    lags = ((push.at, push.lag_seconds) for push in snapshot.pushes)
    pictures: Pictures = draw(words, lags, snapshot.now)
    return (
        _environment()
        .get_template("page.html")
        .render(
            s=snapshot,
            since=_since(snapshot),
            kinds=_kinds(snapshot.attention),
            unlisted=snapshot.attention_count - min(len(snapshot.attention), ATTENTION_MAX),
            pictures=pictures,
            box=_BOX,
            failing=[
                check_name(name) for name, mark, _ in snapshot.checks if mark == Level.FAILING
            ],
            needing=needing(snapshot.attention_counts),
            settings=_settings(snapshot.config),
            secrets=_secrets(snapshot.config),
            version=__version__,
            css=_text("page.css"),
            script=_text("page.js"),
            pushes_shown=snapshot.pushes[:PUSHES_MAX],
            ago=lambda at: _ago(snapshot.now - float(at)),
            stripe_link=lambda intent: stripe_link(intent, snapshot.config),
            halo_link=lambda invoice: halo_invoice(snapshot.config.halo.url, invoice.id),
        )
    )


def headers() -> dict[str, str]:
    """What tells a browser to run and load nothing but what this page brings."""
    return {
        "Content-Security-Policy": "; ".join(
            [
                "default-src 'none'",
                f"style-src {_hash('page.css')}",
                f"script-src {_hash('page.js')}",
                "connect-src 'self'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        ),
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def stripe_link(intent_id: str | None, config: Config) -> str | None:
    """Where Stripe's dashboard shows a payment; None for what is no payment intent."""
    return links.stripe_link(
        intent_id, test=config.mode is Mode.TEST, account=config.stripe.account
    )


def _since(snapshot: Snapshot) -> float | None:
    """Since when it stands so; None where it has changed after the last step."""
    standing = snapshot.standing
    return standing.since if standing.level is snapshot.level else None


def _kinds(lines: Sequence[Attention]) -> list[Kind]:
    by_code: dict[str | None, list[Attention]] = {}
    for line in lines[:ATTENTION_MAX]:
        by_code.setdefault(line.code, []).append(line)
    return [Kind(*_KINDS.get(code or "", _OTHER), tuple(found)) for code, found in by_code.items()]


def _settings(config: Config) -> list[tuple[str, object]]:
    return [
        (f"{section}.{key}" if not isinstance(value, dict) else f"{section}.{key}.{inner}", leaf)
        for section, values in shown(config).items()
        for key, value in values.items()
        for inner, leaf in (value.items() if isinstance(value, dict) else [("", value)])
    ]


def _secrets(config: Config) -> list[tuple[str, bool, bool]]:
    """Each secret's name, whether it was given, and whether one can do without."""
    return [(name, bool(getattr(config, name)), name in OPTIONAL_SECRETS) for name in SECRETS]


# --- templates -----------------------------------------------------------------------------------


@cache
def _environment() -> "Environment":
    # Most starts don't need it: a service that nobody looks at, and every command.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= _FILTERS
    made.globals |= {"counted": counted, "stands": STANDS, "check_name": check_name}
    return made


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago" if seconds >= 1 else "just now"


def _money(line: Attention) -> str:
    if line.amount is None or line.currency is None:
        return ""
    return str(Money(line.amount, line.currency))


_FILTERS: dict[str, Callable[..., Any]] = {
    "iso": iso,
    "utc": minute,
    "words": lambda name: str(name).replace("_", " "),
    "duration": duration,
    "money": _money,
}


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


@cache
def _hash(name: str) -> str:
    digest = hashlib.sha256(_text(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
