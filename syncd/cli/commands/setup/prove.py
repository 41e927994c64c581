"""``syncd prove``: writes one row and reads it back, before syncd writes a second one."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import typer

from syncd.cli.commands.operate.run import store_for
from syncd.cli.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    YesOption,
    confirm,
    existing,
    failures_said,
    load_config,
    offline,
    stop_signals,
)
from syncd.cli.terminal import bar, table
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import Failure, IntentUnknown
from syncd.core.payments import PaymentState
from syncd.core.rules.proof import UpdateMode, WriteKind
from syncd.core.rules.proof_notes import PROOFS
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.store.coordination import PAYING_NUMBER
from syncd.store.store import Store
from syncd.sync.build import Parts, Runtime, assemble
from syncd.sync.push.proof.by_hand import ByHand, Found, Intended, Reading
from syncd.text.sanitize import inert, plain
from syncd.text.timestamps import iso

Result = TypeVar("Result")

IDS_MAX = 100

XERO = (
    "Halo may book a new payment row into Xero or QuickBooks, depending on the settings of its "
    "accounting integration."
)

HOW_TO_GET_ONE = (
    "Nothing that is due can be proven: no payment that syncd knows of needs this kind of write. To get one:\n"
    "  syncd --backfill 90d --dry-run   lists payments; then run syncd prove with the id of one of them\n"
    "  pay a small invoice of a test customer through Halo's payment page while Halo's Stripe webhook "
    "is off, then run syncd prove again"
)

_MODES = {
    UpdateMode.CHANGES: "Updates contain only the row's id, the new status and the trace.",
    UpdateMode.REQUIRED: "Halo refused the status alone, so updates also contain the columns that Halo demands.",
    UpdateMode.EVERYTHING: "Halo empties the columns that an update leaves out, so syncd sends whole rows. "
    "syncd has restored the emptied columns.",
}


def _due(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the id of a due payment; shell completion never shows an error."""
    with (
        suppress(ConfigurationError, Failure),
        existing(offline(context.params.get("config"))) as store,
    ):
        ids = (one.intent_id for one in store.due(2**40, IDS_MAX))
        return [one for one in ids if one.startswith(incomplete)]
    return []


def prove(
    context: typer.Context,
    intent_id: Annotated[
        str | None, typer.Argument(metavar="[pi_…]", autocompletion=_due, show_default=False)
    ] = None,
    *,
    insert: Annotated[
        bool, typer.Option("--insert", help="Prove a new row instead of an update.")
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one row, read the row and its invoice back, and show what changed.

    Shows the payment, the row, the invoice and what would be sent, and asks first. Without an id,
    syncd chooses the simplest payment that is due. Needs a terminal, or --yes.

    Example: syncd prove pi_123
    """
    stderr_log()
    _check_usage(intent_id, yes=yes, as_json=as_json)
    kind = WriteKind.INSERT if insert else WriteKind.UPDATE
    with failures_said():
        loaded = load_config(config or context.obj)
        if insert and not loaded.push.create_missing:
            problem = (
                "push.create_missing is off, so syncd inserts no rows. Set it to true, with "
                "halo.new_row.method and halo.new_row.module_id as `syncd calibrate` shows them"
            )
            raise ConfigurationError([problem], loaded.file)
        with store_for(loaded, dry_run=False) as store:
            try:
                raise typer.Exit(_prove(loaded, store, intent_id, kind, yes=yes, as_json=as_json))
            except IntentUnknown as error:
                typer.echo(f"syncd: {error}", err=True)
                raise typer.Exit(EXIT_ATTENTION) from None


def _check_usage(intent_id: str | None, *, yes: bool, as_json: bool) -> None:
    if intent_id is not None and "_secret_" in intent_id:
        message = "this is a client_secret; the payment intent's id is the part before _secret_"
        raise typer.BadParameter(message, param_hint="pi_…")
    if intent_id is not None and not re.fullmatch(r"pi_[A-Za-z0-9_]+", intent_id):
        message = f"{plain(intent_id, 80)!r} is not the id of a payment intent (pi_…)"
        raise typer.BadParameter(message, param_hint="pi_…")
    asks = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    if not yes and (as_json or not asks):
        message = "this command writes one row to Halo and can't ask here: give --yes to allow it"
        raise typer.BadParameter(message, param_hint="--yes")


def _prove(
    config: Config,
    store: Store,
    intent_id: str | None,
    kind: WriteKind,
    *,
    yes: bool,
    as_json: bool,
) -> int:
    """Read, ask, write and show the result; returns the exit code."""
    known = PROOFS[kind].decode(
        store.note(PROOFS[kind].name), f"{config.halo.url} {config.halo.client_id}"
    )
    if known is not None and not as_json:
        what = "updates" if kind is WriteKind.UPDATE else "new rows"
        typer.echo(
            f"Already proven: {what} on {iso(known.at)} with row {known.row_id} of {known.intent_id}."
        )
        if intent_id is None:
            typer.echo("To prove it again, name a payment that is due: syncd prove pi_…")
    if known is not None and intent_id is None:
        if as_json:
            typer.echo(json.dumps({"verdict": "already_proven", "proof": asdict(known)}, indent=2))
        return 0
    reason = ""

    async def choose(hand: ByHand) -> Intended | None:
        nonlocal reason
        found = await hand.choose(intent_id, kind)
        if found is None and intent_id is not None:
            reason = hand.why(intent_id, was_needed=False)
        return found

    intended = asyncio.run(_with_parts(config, store, "Reading Stripe and Halo", choose))
    if intended is None:
        text = HOW_TO_GET_ONE if intent_id is None else _not_needed(store, intent_id, kind, reason)
        if as_json:
            typer.echo(json.dumps({"verdict": "nothing_to_prove", "reason": text}, indent=2))
        else:
            typer.echo(inert(text))
        return EXIT_ATTENTION
    if not as_json:
        _show_intended(intended)
    confirm(f"Write this to Halo ({config.halo.url})?", yes=yes)
    doing = "Writing and reading back"
    found = asyncio.run(_with_parts(config, store, doing, lambda hand: hand.prove(intended)))
    of_update = kind is WriteKind.UPDATE and intended.state == PaymentState.SUCCEEDED
    if of_update and found.proof and _paid(intended, found):
        store.write(PAYING_NUMBER, config.halo.status.numbers.get(PaymentState.SUCCEEDED))
    if as_json:
        typer.echo(json.dumps(_as_json(intended, found), indent=2, default=str))
    else:
        _show_found(intended, found)
        typer.echo(inert(f"\n{_verdict(intended, found)}"))
    return 0 if found.proof is not None else EXIT_ATTENTION


async def _with_parts(
    config: Config, store: Store, doing: str, work: Callable[[ByHand], Awaitable[Result]]
) -> Result:
    with bar() as shown:
        shown.begin(doing)
        runtime = Runtime(waiting=shown.waiting, retrying=shown.retrying)
        stop_signals.watch(runtime.stop)
        parts: Parts = assemble(config, store, Telemetry(), runtime, "a proof by hand")
        try:
            return await work(ByHand(parts.engine, parts.sink))
        finally:
            await parts.close()


def _not_needed(store: Store, intent_id: str, kind: WriteKind, reason: str) -> str:
    row = store.payment(intent_id)
    if row is not None and row["condition"] == "due":
        other = "syncd prove --insert" if kind is WriteKind.UPDATE else "syncd prove"
        return (
            f"{intent_id} needs the other kind of write, or its row disappeared meanwhile. Run: {other} "
            f"{intent_id}"
        )
    return f"{reason} A write would prove nothing. Choose another payment: syncd prove"


# --- output ---------------------------------------------------------------------------------------


def _show_intended(intended: Intended) -> None:
    typer.echo(
        inert(f"Payment {intended.intent_id}: Stripe says {intended.state}, {intended.money}.")
    )
    for row, sent in intended.sent.items():
        now = intended.before.rows.get(row, {})
        title = f"Row {row}" if row else f"A new row on invoice {intended.before.invoice_id}"
        table(
            title,
            ("field", "now", "would be sent"),
            [(name, now.get(name, ""), sent.get(name, "")) for name in {**now, **sent}],
        )
    _show_invoice(intended.before)
    if intended.kind is WriteKind.INSERT:
        typer.echo(XERO)


def _show_invoice(reading: Reading) -> None:
    if reading.invoice_id is None:
        typer.echo("Halo's row names no invoice.")
    elif reading.invoice is None:
        typer.echo(f"Halo does not show invoice {reading.invoice_id}.")
    else:
        table(f"Invoice {reading.invoice_id}", ("field", "now"), list(reading.invoice.items()))


def _show_found(intended: Intended, found: Found) -> None:
    before, after = intended.before, found.after
    for row in {**before.rows, **after.rows}:
        _side_by_side(f"Row {row}", before.rows.get(row, {}), after.rows.get(row, {}))
    if before.invoice is not None or after.invoice is not None:
        _side_by_side(f"Invoice {before.invoice_id}", before.invoice or {}, after.invoice or {})
    if found.changes is None:
        typer.echo(
            "Halo does not show its own record of the invoice's changes, so syncd cannot list them."
        )
    elif not found.changes:
        typer.echo("Halo recorded no change of the invoice.")
    else:
        table(
            "Halo's own record of the invoice's changes",
            ("when", "who", "field", "before", "after"),
            [
                (one.at, one.who, one.field.name, one.field.before or "", one.field.after or "")
                for one in found.changes
            ],
        )


def _side_by_side(title: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Print two readings; long values that are unchanged are printed once, so that 80 columns suffice."""

    def again(name: str) -> str:
        text = after.get(name, "")
        return "the same" if text == before.get(name) and len(text) > LONG_CHARACTERS else text

    table(
        title,
        ("field", "before", "after", ""),
        [
            (
                name,
                before.get(name, ""),
                again(name),
                "" if before.get(name) == after.get(name) else "changed",
            )
            for name in {**before, **after}
        ],
    )


LONG_CHARACTERS = 18


def _verdict(intended: Intended, found: Found) -> str:
    """The result of the proof and its consequence, in sentences."""
    if found.proof is not None:
        text = "Proven: Halo stored what syncd sent, and nothing else of the row changed."
        if intended.kind is WriteKind.UPDATE:
            text += f" {_MODES[found.proof.mode]}"
        if not found.proof.trace:
            text += " Halo does not store the trace, so syncd leaves the trace out from now on."
        if not found.proof.alone:
            text += " Halo does not show this row by its id, so syncd compared the row in the list."
        start = "You can start the service now. It writes the other payments in the same way."
        return "\n".join(filter(None, (text, _number_for_succeeded(intended, found), start)))
    trouble = found.trouble
    if trouble is None:
        return (
            f"Not proven: {found.reason}\nNo other payment was written. To try again: syncd prove "
            f"{intended.intent_id}"
        )
    lines = [
        f"Stopped ({trouble.code}): {trouble.reason}",
        (
            "syncd sends no more such writes to this tenant for now. It tries one row again "
            "once a day."
        ),
    ]
    if trouble.before and not trouble.code.endswith("refused"):
        lines.append(
            f"If the row is not as it was, open the payment in Halo and restore these contents of row "
            f"{trouble.row_id}:"
        )
        lines += [f"  {name}: {value}" for name, value in trouble.before.items()]
    lines.append(
        f"To try again: syncd prove {intended.intent_id}, or syncd attention retry {trouble.entry_id}"
    )
    return "\n".join(lines)


def _number_for_succeeded(intended: Intended, found: Found) -> str:
    """What the invoice shows about `halo.status.succeeded`; empty for a payment in another state."""
    if intended.state != PaymentState.SUCCEEDED:
        return ""
    changed = _invoice_changed(intended, found)
    if changed is None:
        return (
            "Halo does not show the invoice's amounts to syncd. Open the invoice in Halo: if it is paid "
            "now, the number in halo.status.succeeded is right."
        )
    invoice = f"Invoice {intended.before.invoice_id}"
    if changed:
        return (
            f"{invoice} changed as shown above: if it is paid now, the number in halo.status.succeeded "
            "is right."
        )
    return (
        f"{invoice} did not change. If it was open before, Halo may not take the number in "
        "halo.status.succeeded for a payment that succeeded: open the invoice in Halo before you start "
        "the service. For the numbers that Halo's rows show: syncd calibrate"
    )


def _invoice_changed(intended: Intended, found: Found) -> bool | None:
    """Whether the amounts of the invoice changed; None if Halo did not show them both times."""
    before, after = intended.before.invoice, found.after.invoice
    return None if before is None or after is None else before != after


def _paid(intended: Intended, found: Found) -> bool:
    """Whether Halo reduced what is due on the invoice."""
    before, after = intended.before.invoice or {}, found.after.invoice or {}
    try:
        return Decimal(after["amountdue"]) < Decimal(before["amountdue"])
    except (KeyError, ArithmeticError):
        return False


def _as_json(intended: Intended, found: Found) -> dict[str, Any]:
    verdict = (
        "proven" if found.proof else str(found.trouble.code if found.trouble else "not_proven")
    )
    return {
        "intent_id": intended.intent_id,
        "kind": str(intended.kind),
        "verdict": verdict,
        "reason": found.trouble.reason if found.trouble else found.reason,
        "proof": None if found.proof is None else asdict(found.proof),
        "sent": intended.sent,
        "before": asdict(intended.before),
        "after": asdict(found.after),
        "invoice_changed": _invoice_changed(intended, found),
        "invoice_changes": None
        if found.changes is None
        else [
            {
                "at": one.at,
                "who": one.who,
                "field": one.field.name,
                "before": one.field.before,
                "after": one.field.after,
            }
            for one in found.changes
        ],
    }
