"""The web page: the values that the templates show, and the security headers.

The page is read-only, one file, and loads nothing from other hosts. The templates escape every value;
the headers list the hashes of the page's own style and script.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd import __version__
from syncd.config.mode import Mode
from syncd.config.model import Config, shown
from syncd.config.secrets import OPTIONAL_SECRETS, SECRETS
from syncd.core.holds import command_for, entry_of
from syncd.core.money import Money
from syncd.core.records import AttentionEntry, Pushed, ReportedState
from syncd.monitor.alerts import Health, HealthState
from syncd.monitor.status import Status
from syncd.service.web.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Pictures,
    StateChange,
    draw,
)
from syncd.text import links
from syncd.text.links import halo_invoice
from syncd.text.timestamps import duration, iso, minute
from syncd.text.wording import CONDITION_TEXT, check_name, counted, needing, sentence

if TYPE_CHECKING:
    from jinja2 import Environment

ATTENTION_MAX = 50
PUSHES_MAX = 20
"""How many pushes the page lists."""

_BOX = {
    "width": int(WIDTH),
    "height": int(HEIGHT),
    "left": LEFT,
    "right": WIDTH - RIGHT,
    "top": TOP,
    "bottom": HEIGHT - BOTTOM,
}

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of the page at one moment.

    Attributes:
        status: the status that every part of syncd uses.
        config: the configuration; its secrets are not shown.
        level: the overall status.
        health: the overall status after the last step, and since when.
        cards: name, level and text of each check.
        attention: the newest entries of the attention list.
        changes: the states of Halo's payments that Stripe reported in the last 24 hours.
        pushes: what was written to Halo in the last 24 hours, newest first.
    """

    status: Status
    config: Config
    level: Health
    health: HealthState
    cards: Sequence[tuple[str, str, str]]
    attention: Sequence[AttentionEntry]
    changes: Sequence[ReportedState]
    pushes: Sequence[Pushed]


@dataclass(frozen=True, slots=True)
class Kind:
    """The entries of the attention list that have one code.

    Attributes:
        code: the machine-readable code.
        title, meaning: the texts of the registry of holds.
        lines: the entries.
    """

    code: str
    title: str
    meaning: str
    lines: tuple[AttentionEntry, ...]


@dataclass(frozen=True, slots=True)
class Banner:
    """The top of the page: the most important problem, and its consequences.

    Attributes:
        headline: a few words.
        sentences: what happened and what syncd does.
    """

    headline: str
    sentences: tuple[str, ...]


_CONSEQUENCES = {
    "stripe": "syncd reads no payments until Stripe answers.",
    "halo": "syncd pushes nothing until Halo answers.",
    "store": "syncd reads and pushes nothing until the database works.",
    "loop": "The service manager restarts syncd.",
    "writes": "syncd writes nothing more in this tenant, and tries one row again once a day.",
}
"""The consequence of each failing check."""


def banner(snapshot: Snapshot) -> Banner:
    """The most important problem first: a side or the database, then stopped writes, then payments."""
    needs = needing(snapshot.status.attention_counts)
    broken = [name for name, mark, _ in snapshot.cards if mark == Health.FAILING]
    shaky = [name for name, mark, _ in snapshot.cards if mark == Health.ATTENTION]
    sides = [name for name in broken if name != "writes"]
    if troubled := sides or broken or shaky:
        names = [check_name(name) for name in troubled]
        verb = "does not work" if len(names) == 1 else "do not work"
        headline = f"{' and '.join(names)} {verb if broken else 'failed recently'}"
        shown = [*troubled, *(name for name in broken if name not in troubled)]
        texts = {name: sentence(text) for name, _, text in snapshot.cards}
        sentences = [texts[name] for name in shown]
        sentences += [_CONSEQUENCES[name] for name in shown if name in _CONSEQUENCES]
        retries = ": syncd retries automatically" if troubled != ["writes"] else ""
        sentences.append(f"Nothing is lost{retries}.")
        if needs:
            sentences.append(f"{needs[0].upper()}{needs[1:]}.")
        return Banner(headline, tuple(dict.fromkeys(sentences)))
    if snapshot.level == Health.STARTING:
        return Banner("Starting", ("The first poll is running.",))
    if needs:
        tenants = [line for line in snapshot.attention if line.kind == "tenant"]
        if tenants:
            return Banner(tenants[0].reason, (f"{needs}.",))
        text = "syncd pushes all other payments as usual. The list below says what to do."
        return Banner(needs, (text,))
    if snapshot.status.due:
        return Banner(
            "All is well", (f"syncd is about to push {counted(snapshot.status.due, 'payment')}.",)
        )
    return Banner("All is well", ("Halo shows what Stripe reports.",))


def render(snapshot: Snapshot) -> str:
    """The page as HTML."""
    written = {(push.intent_id, push.new) for push in snapshot.pushes}
    changes = (
        StateChange(s.at, s.state, (s.intent_id, s.state) in written) for s in snapshot.changes
    )
    lags = ((push.at, push.lag_seconds) for push in snapshot.pushes)
    pictures: Pictures = draw(changes, lags, snapshot.status.now)
    return (
        _environment()
        .get_template("page.html")
        .render(
            s=snapshot,
            status=snapshot.status,
            since=_since(snapshot),
            kinds=_kinds(snapshot.attention),
            unlisted=snapshot.status.attention_count - len(snapshot.attention),
            pictures=pictures,
            box=_BOX,
            banner=banner(snapshot),
            look=_look(snapshot),
            settings=_settings(snapshot.config),
            secrets=_secrets(snapshot.config),
            version=__version__,
            css=_text("page.css"),
            script=_text("page.js"),
            pushes_shown=snapshot.pushes[:PUSHES_MAX],
            command_of=_command_of,
            ago=lambda at: _ago(snapshot.status.now - float(at)),
            stripe_link=lambda intent: stripe_link(intent, snapshot.config),
            halo_link=lambda invoice: halo_invoice(snapshot.config.halo.url, invoice.id),
        )
    )


def headers() -> dict[str, str]:
    """Security headers: the browser runs and loads only what the page itself contains."""
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
    """The payment's address in Stripe's dashboard; None if the id is not a payment intent's."""
    return links.stripe_link(
        intent_id, test=config.mode is Mode.TEST, account=config.stripe.account
    )


def _look(snapshot: Snapshot) -> str:
    """The level that colours the banner; a recent failure never shows as "all is well"."""
    marks = {mark for _, mark, _ in snapshot.cards}
    return (
        "attention"
        if snapshot.level == Health.WELL and Health.ATTENTION in marks
        else snapshot.level
    )


def _since(snapshot: Snapshot) -> float | None:
    """Since when the level is the same; None if it has changed after the last step."""
    health = snapshot.health
    return health.since if health.level is snapshot.level else None


def _kinds(lines: Sequence[AttentionEntry]) -> list[Kind]:
    by_code: dict[str | None, list[AttentionEntry]] = {}
    for line in lines:
        by_code.setdefault(line.code, []).append(line)
    return [_kind(code, tuple(found)) for code, found in by_code.items()]


def _kind(code: str | None, lines: tuple[AttentionEntry, ...]) -> Kind:
    entry = entry_of(code)
    return Kind(code or "", entry.title, entry.meaning, lines)


def _command_of(line: AttentionEntry) -> str:
    """The command that solves this entry, ready to paste."""
    return command_for(line.code, line.id)


def _settings(config: Config) -> list[tuple[str, object]]:
    return [
        (f"{section}.{key}" if not isinstance(value, dict) else f"{section}.{key}.{inner}", leaf)
        for section, values in shown(config).items()
        for key, value in values.items()
        for inner, leaf in (value.items() if isinstance(value, dict) else [("", value)])
    ]


def _secrets(config: Config) -> list[tuple[str, bool, bool]]:
    """Each secret's name, whether it is set, and whether it is optional."""
    return [(name, bool(getattr(config, name)), name in OPTIONAL_SECRETS) for name in SECRETS]


# --- templates -----------------------------------------------------------------------------------


@cache
def _environment() -> "Environment":
    # Loaded late: commands never need it, and the service only when the page is opened.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= _FILTERS
    made.globals |= {
        "counted": counted,
        "condition_text": CONDITION_TEXT,
        "check_name": check_name,
        "sentence": sentence,
    }
    return made


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago" if seconds >= 1 else "just now"


def _money(line: AttentionEntry) -> str:
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
