"""Judges the findings of `syncd check`: plain values in, one line with its level and remedy out.

Pure. What cannot be found out without a write is reported as unknown, not assumed. Does not belong
here:
reading anything (`local`, `remote`).
"""

from collections.abc import Mapping, Sequence
from math import ceil

from syncd.clients.halo.parse import PAGE_SIZE
from syncd.clients.throttle import HALO_PERIOD_SECONDS, STRIPE_PERIOD_SECONDS
from syncd.clients.webhook_payload import Author
from syncd.config.mode import mode_of_key, mode_of_object
from syncd.config.model import Config
from syncd.config.values import AUTO
from syncd.core.errors import Side
from syncd.core.payments import PaymentState
from syncd.core.rules.deliveries import EVENTS_DAYS, Undelivered
from syncd.core.rules.pacing import Learnt, plan_polls
from syncd.core.rules.proof import WriteKind
from syncd.monitor.status import writes_known, writes_of
from syncd.preflight.calibration import Finding, Shown
from syncd.preflight.check import Area, Line, failed, passed, warned
from syncd.preflight.survey import Survey

CLOCK_SECONDS_FAIL = 300.0
"""A clock error from which sign-ins, rate limits and health checks become wrong, in seconds."""

CLOCK_SECONDS_WARN = 10.0

STRIPE_READS_GRANTED = 10_000
"""The reads per month that Stripe grants at least (source: Stripe's documentation of its limits)."""

# --- test or live ----------------------------------------------------------------------------------


def stripe_mode(key: str, wanted: str, livemode: bool | None) -> Line:  # likewise
    """Test or live mode at Stripe: by the key, and by an object that was listed."""
    what, said = "Stripe's mode", mode_of_key(key)
    shown = None if livemode is None else mode_of_object(livemode=livemode)
    if said is not None and shown is not None and said != shown:
        text = f"the key is a {said} key, but the payments that it lists are {shown} payments"
        return warned(Area.CONFIGURATION, what, text, "Check the key in Stripe's dashboard.")
    mode = said or shown
    if mode is None:
        remedy = "Look up the mode in Stripe's dashboard, and set stripe.mode."
        return warned(
            Area.CONFIGURATION, what, "neither the key nor a payment shows the mode", remedy
        )
    pinned = (
        "stripe.mode is set, so syncd refuses a key of the other mode"
        if wanted
        else f'stripe.mode = "{mode}" in config.toml makes syncd refuse a key of the other mode'
    )
    return passed(Area.CONFIGURATION, what, f"{mode}; {pinned}")


def halo_mode(key: str, livemodes: Mapping[bool, int]) -> Line:
    """Test or live mode at Halo: known only if events in rows show it."""
    what, mine = "Halo's mode", mode_of_key(key)
    modes = sorted(mode_of_object(livemode=mode) for mode, rows in livemodes.items() if rows)
    if not modes:
        text = "unknown: Halo does not show a mode, and no event in its newest rows does"
        remedy = (
            "Make sure that the customers of this Halo (halo.url) pay into this Stripe account."
        )
        return warned(Area.HALO, what, text, remedy)
    found = f"events in its newest rows are of {' and of '.join(modes)} mode"
    if mine is not None and mine not in modes:
        remedy = (
            "Use a Stripe key of the same mode (test or live), or the halo.url of another "
            "tenant. Otherwise syncd finds no payment."
        )
        return warned(Area.CONFIGURATION, what, f"{found}, but the key is of {mine} mode", remedy)
    if len(modes) > 1:
        return warned(Area.HALO, what, found, "Halo has test payments among real ones.")
    return passed(Area.HALO, what, found)


# --- status numbers --------------------------------------------------------------------------------


def status_lines(
    configured: Mapping[PaymentState, int],
    findings: Sequence[Finding],
    survey: Survey,
    *,
    remembers: bool = True,
    proven: Mapping[PaymentState, int] | None = None,
    paying: int | None = None,
) -> list[Line]:
    """The five numbers, compared with the newest rows of Halo's own webhook; one line each.

    Args:
        configured: the numbers that are set.
        findings: what the rows show.
        survey: where they were found.
        remembers: whether syncd knows which rows it wrote itself; otherwise no row proves anything.
        proven: the numbers that an earlier `check` or `calibrate` found in rows of Halo's webhook.
        paying: the number with which `prove` saw that Halo reduced what is due on an invoice.
    """
    lines = []
    left_out = survey.authors[Author.SYNCD] + survey.authors[Author.DOUBTFUL]
    for one in findings:
        number = configured.get(one.state)
        if number is None:
            lines.append(_unset(one.state, one.number if remembers else None))
        elif not remembers:
            lines.append(_not_compared(one.state, number))
        elif any(shown.webhook.rows for shown in one.shown):
            lines.append(_compared(one, number))
        elif (proven or {}).get(one.state) == number:
            text = f"{number}, as Halo's own webhook wrote in rows that an earlier check read"
            lines.append(passed(Area.HALO, f"status {one.state}", text))
        elif one.state is PaymentState.SUCCEEDED and paying == number:
            text = f"{number}; when syncd prove wrote it, Halo reduced what is due on the invoice"
            lines.append(passed(Area.HALO, f"status {one.state}", text))
        else:
            lines.append(_unseen(one.state, number, survey.rows, left_out))
    return lines


def unset_lines(configured: Mapping[PaymentState, int]) -> list[Line]:
    """One line for each state without a number, if Halo's rows could not be read."""
    return [_unset(state, None) for state in PaymentState if state not in configured]


def proven_numbers(
    configured: Mapping[PaymentState, int], findings: Sequence[Finding]
) -> dict[PaymentState, int]:
    """The configured numbers that rows of Halo's own webhook show without a contradiction."""
    found = {}
    for one in findings:
        numbers = {shown.number for shown in one.shown if shown.webhook.rows}
        if one.state in configured and numbers == {configured[one.state]}:
            found[one.state] = configured[one.state]
    return found


def _unset(state: PaymentState, shown: int | None) -> Line:
    found = "" if shown is None else f"; Halo's rows show {shown}"
    return warned(
        Area.CONFIGURATION,
        f"status {state}",
        f"not set{found}",
        f"Payments in this state are held. Run syncd calibrate --write, or set halo.status.{state}.",
    )


def _not_compared(state: PaymentState, number: int) -> Line:
    text = f"{number}; not compared, because the database that lists syncd's own rows can't be read"
    return warned(Area.HALO, f"status {state}", text, "See the line about the database.")


def _unseen(state: PaymentState, number: int, rows: int, left_out: int) -> Line:
    beside = f" ({_rows(left_out)} left out that syncd may have written)" if left_out else ""
    text = f"{number}; none of Halo's newest {_rows(rows)} shows what Halo's own webhook writes{beside}"
    remedy = "Run syncd calibrate: the command reads all rows, and shows how to prove the number."
    return warned(Area.HALO, f"status {state}", text, remedy)


def _compared(one: Finding, number: int) -> Line:
    what = f"status {one.state}"
    same = [shown for shown in one.shown if shown.number == number and shown.webhook.rows]
    other = [shown for shown in one.shown if shown.number != number and shown.webhook.rows]
    if not other:
        rows = sum(shown.webhook.rows for shown in same)
        return passed(Area.HALO, what, f"{number}, as in {_rows(rows)} of Halo's own webhook")
    text = f"{number}, but Halo's own webhook wrote {', '.join(map(_shown, other))}"
    remedy = f"Look at those rows in Halo, then set halo.status.{one.state}; see syncd calibrate."
    if same:
        return warned(Area.HALO, what, f"{text}, and {_shown(same[0])}", remedy)
    return failed(Area.CONFIGURATION, what, text, remedy)


def _shown(shown: Shown) -> str:
    example = shown.webhook.examples[0]
    return f"{shown.number} in {_rows(shown.webhook.rows)} (such as row {example.row})"


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


# --- other writers, and permissions ---------------------------------------------------------------


def webhook_line(survey: Survey) -> Line:
    """Whether Halo's own Stripe webhook seems to write too."""
    what = "Halo's own webhook"
    if survey.last_webhook is not None:
        at = survey.last_webhook_at
        when = "" if at is None else f", received {at:%Y-%m-%d %H:%M} by Halo's clock"
        text = (
            f"the webhook also writes: row {survey.last_webhook.row}{when}. Both may run: syncd sends "
            "nothing for a row that the webhook has already updated"
        )
        return passed(Area.HALO, what, text)
    doubtful = survey.authors[Author.DOUBTFUL]
    beside = f"; {_rows(doubtful)} may be its own or syncd's" if doubtful else ""
    return passed(
        Area.HALO, what, f"no sign of the webhook in Halo's newest {survey.rows} rows{beside}"
    )


def deliveries_line(found: Undelivered) -> Line:
    """Stripe's payment events that at least one webhook endpoint has not accepted."""
    what = "webhook deliveries"
    if not found.number:
        return passed(Area.STRIPE, what, found.found)
    return warned(Area.STRIPE, what, found.found, found.meaning)


def edit_line(
    scope: str, granted: frozenset[str] | None, survey: Survey, *, has_written: bool = False
) -> Line:
    """Whether the application may edit invoices, as far as known without a write.

    Args:
        scope: `halo.scope`.
        granted: the scopes in the token's answer; None if Halo did not name them.
        survey: Halo's newest rows.
        has_written: whether syncd has already written a row that Halo then showed.
    """
    what, remedy = (
        "Halo: edit invoices",
        "In Halo, give the application and its agent role the permission to edit invoices.",
    )
    if not _may_edit(frozenset(scope.split())):
        text = f'halo.scope is "{scope}", without edit:invoices'
        return failed(
            Area.CONFIGURATION, what, text, 'Set halo.scope = "read:invoices edit:invoices".'
        )
    if granted is not None and not _may_edit(granted):
        text = f'the token allows only "{" ".join(sorted(granted))}"'
        return failed(Area.HALO, what, text, remedy)
    if survey.last_syncd is not None:
        text = f"row {survey.last_syncd.row} contains an event in the form that syncd writes"
        return passed(Area.HALO, what, text)
    if has_written:
        return passed(Area.HALO, what, "allowed: syncd has already written rows")
    said = (
        "the token has the scope, but the agent role may lack it"
        if granted
        else "Halo does not say"
    )
    return warned(
        Area.HALO,
        what,
        f"unknown until the first push: {said}",
        "Run syncd prove. After your confirmation, syncd writes one row and reads the row back.",
    )


def _may_edit(scopes: frozenset[str]) -> bool:
    return bool(scopes & {"edit:invoices", "edit", "all"})


def write_lines(notes: Mapping[str, str], *, creates: bool) -> list[Line]:
    """Whether writes are proven in this tenant, and the effect of new rows on its accounting.

    Args:
        notes: the store's notes.
        creates: whether `push.create_missing` is on.
    """
    known, words = writes_known(notes), writes_of(notes)
    names = {WriteKind.UPDATE: "updates of rows", WriteKind.INSERT: "new rows: proof"}
    lines = []
    for kind, what in names.items():
        if kind is WriteKind.INSERT and not creates:
            continue
        if known[kind] < 0:
            remedy = (
                "Run syncd attention: it shows what happened, the former contents, and what to do."
            )
            lines.append(failed(Area.HALO, what, words[kind], remedy))
        else:
            lines.append(passed(Area.HALO, what, words[kind]))
    what = "new rows: accounting"
    text = "Halo may book each new payment row into Xero or QuickBooks, if its accounting integration is switched on"
    if not creates:
        text = (
            f"syncd creates no rows (push.create_missing is off). Before you switch it on: {text}"
        )
        lines.append(passed(Area.HALO, what, text))
    elif known[WriteKind.INSERT] > 0:
        lines.append(passed(Area.HALO, what, text))
    else:
        remedy = (
            "Check in Halo whether its accounting integration sends new payments on. Then "
            "create one row: syncd prove --insert"
        )
        lines.append(warned(Area.HALO, what, text, remedy))
    return lines


def new_row_line(config: Config, survey: Survey) -> Line | None:
    """The configured fields of new rows, compared with Stripe's rows; None if none are inserted."""
    what, wanted = "new rows", config.halo.new_row
    if not config.push.create_missing or not survey.new_row:
        return None
    shown = ", ".join(
        f"method {survey.method_text(method)}, module_id {survey.module_text(module)} in {_rows(rows)}"
        for (method, module), rows in survey.new_row.most_common(3)
    )
    text = f"method {wanted.method}, module_id {wanted.module_id}; rows of Stripe's payments in Halo have {shown}"
    if (wanted.method, wanted.module_id) in survey.new_row:
        return passed(Area.CONFIGURATION, what, text)
    return warned(
        Area.CONFIGURATION,
        what,
        text,
        "Set method and module_id in [halo.new_row] to these numbers.",
    )


# --- clocks and budgets ----------------------------------------------------------------------------


def clock_line(side: Side, ahead_seconds: float | None) -> Line:
    """The local clock, compared with a side's `Date`, which has whole seconds."""
    what = f"the clock, by {str(side).capitalize()}"
    if ahead_seconds is None:
        return warned(
            Area.MACHINE,
            what,
            "the answer has no readable date",
            "Compare this machine's clock with another clock.",
        )
    off = abs(ahead_seconds)
    text = f"{off:.0f} s {'behind' if ahead_seconds > 0 else 'ahead'}"
    remedy = "Set this machine's clock by NTP (timedatectl set-ntp true)."
    if off > CLOCK_SECONDS_FAIL:
        return failed(Area.MACHINE, what, text, remedy)
    if off > CLOCK_SECONDS_WARN:
        return warned(Area.MACHINE, what, text, remedy)
    return passed(Area.MACHINE, what, "right")


def stripe_budget_line(config: Config, left: int) -> Line:
    """Stripe reads in 30 days at this interval: polls, three per sweep, one count of events a day."""
    what, budget = "Stripe API reads", config.stripe.read_budget
    if budget == AUTO:
        budget = STRIPE_READS_GRANTED
    if config.poll.seconds is None:
        return _planned_reads_line(config, budget, left)
    beside = 3 * ceil(STRIPE_PERIOD_SECONDS / config.poll.sweep)
    beside += EVENTS_DAYS  # one count a day of the events that were not delivered
    reads = ceil(STRIPE_PERIOD_SECONDS / config.poll.seconds) + beside
    text = f"{reads:,} in 30 days at this interval, of {budget:,} (stripe.read_budget); {left:,} left now"
    granted = min(budget, STRIPE_READS_GRANTED)
    if reads <= granted:
        return passed(Area.STRIPE, what, text)
    longer = ceil(STRIPE_PERIOD_SECONDS / max(granted - beside, 1))
    why = (
        "syncd polls less often once half of the reads are used."
        if reads > budget
        else "Stripe allows 10,000 a month, and 500 more for each transaction."
    )
    return warned(Area.STRIPE, what, text, f'{why} Set poll.interval = "{longer}s" or longer.')


def _planned_reads_line(config: Config, budget: int, left: int) -> Line:
    """Stripe reads in 30 days if poll.interval is "auto"."""
    what, planned = "Stripe API reads", plan_polls(Learnt(0), budget).planned
    if config.stripe.read_budget == AUTO:
        text = f"planned by the payments of 30 days, at least {planned:,} in 30 days; {left:,} left now"
        return passed(Area.STRIPE, what, text)
    text = f"{planned:,} planned in 30 days, of {budget:,} (stripe.read_budget); {left:,} left now"
    if planned <= STRIPE_READS_GRANTED:
        return passed(Area.STRIPE, what, text)
    why = "Stripe allows 10,000 a month, and 500 more for each transaction."
    return warned(Area.STRIPE, what, text, f'{why} Set stripe.read_budget = "auto" to follow that.')


def halo_window_line(config: Config, rows: int | None, left: int) -> Line:
    """Requests to Halo in its window: a poll needs none; a sweep reads all rows."""
    what, limit = "requests to Halo", config.halo.rate_limit
    if rows is None:
        text = f"Halo doesn't say how many rows a sweep reads back; {left} of {limit} left now"
        return passed(Area.HALO, what, text)
    pages = ceil(rows / PAGE_SIZE) + 1
    windows = pages / limit
    text = f"{pages:,} for a sweep ({rows:,} rows), of {limit} in 5 minutes; {left} left now"
    if windows * HALO_PERIOD_SECONDS > config.poll.sweep:
        remedy = f'A sweep takes longer than poll.sweep. Set poll.sweep = "{ceil(windows) * 10}m" or more.'
        return warned(Area.HALO, what, text, remedy)
    if windows > 1:
        remedy = f"A sweep takes {ceil(windows) * 5} minutes, and pushes wait meanwhile: set a longer poll.sweep."
        return warned(Area.HALO, what, text, remedy)
    return passed(Area.HALO, what, text)
