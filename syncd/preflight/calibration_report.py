"""A calibration as text and as JSON: the evidence, what is missing, and how to get more evidence.

Pure. Does not belong here: which number the rows prove (`calibration`), and what is printed where
(`cli.commands`).
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from syncd.clients.webhook_payload import Author
from syncd.core.payments import PaymentState
from syncd.preflight.calibration import Change, Example, Finding, Seen, Shown, Verdict, how_to_make
from syncd.preflight.survey import Survey
from syncd.text.wording import sentence

_WHY = {
    Verdict.PROVEN: "every row that Halo's own webhook wrote shows it",
    Verdict.HINTED: "a hint: only rows without a trace show a number",
    Verdict.CONTRADICTED: "rows contradict each other, so syncd did not decide",
    Verdict.SHARED: "the same number as succeeded, so syncd did not decide",
    Verdict.TOO_LITTLE: "only rows without a trace; Halo may never have updated them",
    Verdict.NONE: "no evidence",
}


def why(one: Finding, configured: int | None) -> str:
    """Explain one state's verdict briefly."""
    others = configured is not None and one.support and not one.speaking_for(configured)
    return (
        f"{_WHY[one.verdict]}; no row shows the configured {configured}"
        if others
        else _WHY[one.verdict]
    )


def evidence(shown: Shown) -> str:
    """List the rows that show one number, with examples."""
    kinds = (
        (shown.webhook, "by Halo's webhook"),
        (shown.bare, "without a trace"),
        (shown.explained, "without a trace; the row is ignored, because Stripe's state is newer"),
    )
    return "; ".join(f"{_rows(seen)} {words}" for seen, words in kinds if seen.rows)


def _rows(seen: Seen) -> str:
    newest = seen.examples[0]  # --json has more of them
    return f"{_counted(seen.rows)} (such as row {newest.row} ({newest.intent_id}))"


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def remarks(survey: Survey) -> list[str]:
    """What was left out of the evidence, and the fixed fields of new rows."""
    lines = []
    if not survey.whole and survey.total is not None and survey.rows < survey.total:
        lines.append(f"Older rows were not read: --rows {survey.total} reads all.")
    if survey.authors[Author.SYNCD]:
        left_out = _counted(survey.authors[Author.SYNCD])
        lines.append(f"Left out: {left_out} of payments that syncd has written itself.")
    for (state, number), seen in sorted(survey.doubtful.items(), key=repr):
        lines.append(
            f"Left out: {_rows(seen)} with an event ({state or 'none of the five'}) and status "
            f"{number}. The event has no client_secret, so syncd may have written it."
        )
    if survey.unknown:
        of = "payment of 1 row" if survey.unknown == 1 else f"payments of {survey.unknown:,} rows"
        lines.append(f"Stripe does not know the {of} under this key.")
    if survey.unasked:
        which = "rows" if survey.trouble else "older rows"
        lines.append(
            f"Not compared with Stripe: {survey.unasked} {which} without a trace. These rows may "
            "contradict the numbers above."
        )
    for (method, module), number in survey.new_row.most_common():
        lines.append(
            f"For halo.new_row: {number} of Stripe's rows have method = "
            f"{survey.method_text(method)}, module_id = {survey.module_text(module)}"
        )
    if survey.undelivered is None:
        lines.append("syncd could not ask Stripe which events its webhooks have not delivered.")
    else:
        lines.append(sentence(survey.undelivered.found))
        lines += [f"{survey.undelivered.meaning}"] * bool(survey.undelivered.number)
    if not survey.authors[Author.WEBHOOK] and not survey.authors[Author.DOUBTFUL]:
        lines += _without_webhooks(survey)
    return lines


def _without_webhooks(survey: Survey) -> list[str]:
    """How to see the numbers in a tenant whose rows no webhook ever wrote."""
    rows = ", ".join(f"row {row} has status {number}" for row, number in survey.by_hand)
    none = (
        "Halo's own Stripe webhook wrote none of these rows"
        if survey.rows
        else "Halo has no payment rows yet"
    )
    return [
        f"{none}, so no row proves a number. To see the numbers:",
        "  1. In Halo, open an invoice of a test customer, and add a payment by hand for each status.",
        (
            "  2. Open each payment in Halo, set its status, save, and note which payment has "
            "which status."
        ),
        "  3. Run syncd calibrate again: it shows the numbers of the newest rows without a payment intent.",
        f"     Now: {rows or 'there is no such row'}.",
        "  4. Set the numbers under [halo.status], and delete the test payments in Halo.",
        "  5. Run syncd prove pi_… with a payment that succeeded: if the invoice is paid afterwards, the "
        "number for succeeded is right.",
    ]


_BEGINNINGS = "open an invoice's payment page in Halo, pay nothing, and run syncd calibrate again"


def trouble(survey: Survey) -> list[str]:
    """A report that Stripe could not be read; empty otherwise."""
    if survey.trouble is None:
        return []
    return [f"syncd: {survey.trouble} Only rows that Halo's own webhook wrote are shown."]


def not_accepted(
    findings: tuple[Finding, ...], accepted: Collection[PaymentState], survey: Survey
) -> list[str]:
    """Why there is nothing to accept, for each given state without a hint."""
    why = {
        Verdict.TOO_LITTLE: f"first find out which number a new row starts with ({_BEGINNINGS})",
        Verdict.NONE: "no row shows a number",
        Verdict.CONTRADICTED: (
            "rows contradict each other. Open the rows named above in Halo, and find out "
            "which status is right"
        ),
        Verdict.SHARED: (
            "its number would be the same as the number of succeeded. Open the rows named "
            "above in Halo, and find out which status is right"
        ),
    }
    if survey.trouble is not None:
        why[Verdict.NONE] = "rows without a trace were not compared with Stripe"
    return [
        f"{one.state}: no hint to accept: {why[one.verdict]}."
        for one in findings
        if one.state in accepted and one.verdict in why
    ]


def to_do(
    findings: tuple[Finding, ...], change: Change, configured: Mapping[PaymentState, int]
) -> list[str]:
    """What the reader can do next, one line for each state that needs it."""
    lines = []
    for state, (old, new) in change.differing.items():
        lines.append(
            f"{state}: configured is {old}, but the rows show {new}. Look at the rows named above."
        )
    by_state = {one.state: one for one in findings}
    for state in change.missing:
        one = by_state[state]
        make = _make(state)
        if one.verdict is Verdict.HINTED:
            lines.append(
                f"{state}: look at the rows named above. If {one.hint} is right: "
                f"syncd calibrate --write --accept {state}. {make}"
            )
        elif one.verdict in (Verdict.NONE, Verdict.TOO_LITTLE):
            lines.append(f"{state}: no number yet, so its payments are held. {make}")
        else:
            lines.append(
                f"{state}: look at the rows named above, and set halo.status.{state} by hand."
            )
    for one in findings:
        if one.state in change.missing or one.state not in configured:
            continue
        if one.verdict in (Verdict.CONTRADICTED, Verdict.SHARED):
            lines.append(
                f"{one.state}: a number is configured, but check it: look at the rows named above."
            )
        elif one.verdict is not Verdict.PROVEN:
            lines.append(
                f"{one.state}: no row proves the configured {configured[one.state]}. "
                f"{_make(one.state)}"
            )
    if any(_untold(one) for one in findings):
        lines.append(
            "Halo may never have updated rows without a trace. To see which number a new row starts with: "
            f"{_BEGINNINGS}."
        )
    return lines


def _make(state: PaymentState) -> str:
    return f"To get evidence, while Halo's own webhook is on: {how_to_make(state)}."


def _untold(one: Finding) -> bool:
    """Whether it would help to know with which numbers new rows start."""
    if one.verdict is Verdict.CONTRADICTED:
        return sum(1 for shown in one.shown if shown.webhook.rows) == 1
    return one.verdict is Verdict.TOO_LITTLE


# --- as JSON ---------------------------------------------------------------------------------------


def report_json(survey: Survey, findings: tuple[Finding, ...], change: Change) -> dict[str, Any]:
    """The whole calibration, as `--json` prints it."""
    return {
        "rows_read": survey.rows,
        "rows_total": survey.total,
        "whole": survey.whole,
        "stripe_trouble": survey.trouble,
        "states": {
            str(one.state): {
                "number": one.number,
                "hint": one.hint,
                "verdict": str(one.verdict),
                "for_number": one.most,
                "for": one.support,
                "against": one.against,
                "shown": [_shown_json(shown) for shown in one.shown],
                "how_to_make_evidence": how_to_make(one.state),
            }
            for one in findings
        },
        "left_out": {
            "syncd": survey.authors[Author.SYNCD],
            "doubtful": [
                {"state": state and str(state), "number": number, **_seen_json(seen)}
                for (state, number), seen in sorted(survey.doubtful.items(), key=repr)
            ],
            "other": survey.authors[Author.OTHER],
            "unknown_to_stripe": survey.unknown,
            "not_asked": survey.unasked,
        },
        "new_row": [
            {
                "method": method,
                "module_id": module,
                "rows": number,
                "method_text": survey.method_text(method),
                "module_text": survey.module_text(module),
            }
            for (method, module), number in survey.new_row.most_common()
        ],
        "undelivered": None if survey.undelivered is None else asdict(survey.undelivered),
        "configuration": {
            "new": _by_name(change.new),
            "differing": {
                str(state): {"configured": old, "shown": new}
                for state, (old, new) in change.differing.items()
            },
            "sharing": list(map(str, change.sharing)),
            "missing": list(map(str, change.missing)),
        },
    }


def _by_name(numbers: Mapping[PaymentState, int]) -> dict[str, int]:
    return {str(state): number for state, number in numbers.items()}


def _shown_json(shown: Shown) -> dict[str, Any]:
    kinds = {"webhook": shown.webhook, "bare": shown.bare, "explained": shown.explained}
    return {
        "number": shown.number,
        **{kind: _seen_json(seen) for kind, seen in kinds.items() if seen.rows},
    }


def _seen_json(seen: Seen) -> dict[str, Any]:
    return {"rows": seen.rows, "examples": [_example_json(one) for one in seen.examples]}


def _example_json(example: Example) -> dict[str, Any]:
    return {"row": example.row, "intent_id": example.intent_id}
