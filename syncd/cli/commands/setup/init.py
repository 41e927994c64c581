"""``syncd init``: asks, tests each answer at once, and writes the file and the secrets at the end."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError

from syncd.cli.commands.setup.calibrate import ROWS_DEFAULT, print_findings, read_survey
from syncd.cli.commands.setup.dialog import Dialog
from syncd.cli.commands.setup.draft import Draft
from syncd.cli.shared import SYSTEM, ConfigOption, counting, failures_said
from syncd.cli.terminal import bar
from syncd.clients.throttle import halo_window, stripe_window
from syncd.config.advice import is_example
from syncd.config.edit import refuse_shipped
from syncd.config.mode import mode_of_key
from syncd.config.model import Config, ConfigurationError, Halo
from syncd.config.secrets import SECRETS, is_organization_key, secret_problems
from syncd.core.errors import Failure, Side
from syncd.core.payments import PaymentState
from syncd.monitor.polls import read_limit
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.preflight.calibration import change_of, learn
from syncd.preflight.check import Area, Level, Line, exit_code, failed, passed
from syncd.preflight.remote import Sides
from syncd.sync.build import Parts, Runtime, assemble
from syncd.text.timestamps import span_text

Result = TypeVar("Result")

_UNKNOWN = "-"
"""Placeholder for an application id that is not known yet."""


def init(
    context: typer.Context,
    *,
    defaults: Annotated[
        bool,
        typer.Option("--defaults", help="Ask nothing: environment variables give the answers."),
    ] = False,
    encrypt: Annotated[
        bool,
        typer.Option("--encrypt", help="Encrypt the secrets with systemd-creds for this machine."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Set up syncd: ask for settings, test each answer at once, and write the file and the secrets.

    Asks for Halo's address, the application's id and secret, and Stripe's key; then learns the status
    numbers. Writes nothing to Stripe or Halo, and no file before the last question: Ctrl-C leaves
    everything as it was. You can run it again; Enter keeps the present value.

    With --defaults, SYNCD_HALO__URL, SYNCD_HALO__CLIENT_ID, SYNCD_HALO_CLIENT_SECRET and
    SYNCD_STRIPE_API_KEY are the answers; any other SYNCD_SECTION__KEY goes into the file as well.

    Example: syncd init --config /etc/syncd/acme/config.toml
    """
    stderr_log()
    dialog = Dialog(scripted=defaults)
    if not defaults and not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter("syncd init asks on a terminal; scripts use --defaults")
    with failures_said(afresh=True):
        draft = Draft.begin(_file(config or context.obj), os.environ)
        try:
            _set_up(draft, dialog, encrypt=encrypt or draft.is_encrypted)
        except KeyboardInterrupt:
            dialog.say("\nNothing was changed.")
            raise


def _file(named: Path | None) -> Path:
    variable = os.environ.get("SYNCD_CONFIG")
    return named or (Path(variable) if variable else SYSTEM / "config.toml")


def _set_up(draft: Draft, dialog: Dialog, *, encrypt: bool) -> None:
    refuse_shipped(draft.file)
    folder = next(one for one in (draft.file.parent, *draft.file.parents) if one.exists())
    if not os.access(folder, os.W_OK):
        raise ConfigurationError([f"{draft.file}: can't be written; run syncd init as root"])
    begun = "This sets up" if draft.is_first else "Enter keeps what is set in"
    dialog.say(f"{begun} {draft.file}. Nothing is written before the last question.\n")
    _ask_address(draft, dialog)
    _ask_application(draft, dialog)
    _ask_stripe(draft, dialog)
    _learn_numbers(draft, dialog)
    names = [*draft.secrets, *(draft.kept if encrypt else ())]
    how = "encrypted by systemd-creds" if encrypt else "mode 600"
    secrets = f", and beside it {', '.join(names)} ({how})" if names else ""
    if not dialog.confirm(f"\nWrite {draft.file}{secrets}?"):
        raise KeyboardInterrupt
    draft.config()  # checks that the result is readable
    first = draft.is_first
    for place in draft.write(encrypt=encrypt):
        dialog.say(f"Written: {place}")
    _make_state_folder(draft.config(), dialog)
    dialog.say(f"\n{_polls(draft.config())}")
    for line in _next(draft, first=first):
        typer.echo(line)


# --- Halo ------------------------------------------------------------------------------------------


def _ask_address(draft: Draft, dialog: Dialog) -> None:
    """Ask for Halo's address until Halo answers there."""
    dialog.say("1 of 4: the address of your Halo, as in the browser: https://your-name.halopsa.com")
    now = str(draft.value("halo", "url") or "")
    if is_example(now):
        now = ""
    while True:
        answer = dialog.ask("Halo's address", now, "SYNCD_HALO__URL")
        line = _try_address(draft, _address(answer))
        dialog.show(line)
        if line.level is not Level.FAIL:
            return
        _stop_script(dialog, [line])
        now = answer


def _address(text: str) -> str:
    """The tenant's address, from text that a person copied out of the browser."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    return f"{parts.scheme}://{parts.netloc}"


def _try_address(draft: Draft, url: str) -> Line:
    what = "Halo's address"
    try:
        Halo(url=url, client_id=_UNKNOWN)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        return failed(Area.CONFIGURATION, what, problem, "Enter the address again.")
    draft.values["halo", "url"] = url
    blank = {} if draft.value("halo", "client_id") else {"client_id": _UNKNOWN}
    try:
        endpoint, tenant = _with_parts(
            draft.config(**blank), lambda p, _: p.sink.sign_in.discover()
        )
    except Failure as error:
        return failed(
            Area.HALO,
            what,
            str(error),
            "Enter the address again, or press Enter to try this one again.",
        )
    named = f'tenant "{tenant}"' if tenant else "no tenant named"
    return passed(Area.HALO, what, f"{url} answers: {named}, sign-in at {endpoint}")


def _ask_application(draft: Draft, dialog: Dialog) -> None:
    """Ask for the application's id and secret until Halo lets the application read invoices."""
    dialog.say("\n2 of 4: the API application in Halo (Configuration, Integrations, Halo API)")
    while True:
        now = str(draft.value("halo", "client_id") or "")
        draft.values["halo", "client_id"] = dialog.ask(
            "Its client id", now, "SYNCD_HALO__CLIENT_ID"
        )
        _ask_secret(draft, dialog, "halo_client_secret", "Its client secret")
        lines = _looked(draft, dialog, "Asking Halo", lambda sides: sides.look_at_halo())
        shown = [one for one in lines if one.what.startswith("Halo: ") or _bad(one)]
        for line in shown:
            dialog.show(line)
        if not any(map(_bad, shown)):
            return
        _stop_script(dialog, shown)
        dialog.say("Correct this in Halo, then press Enter to try again; or enter other values.")


# --- Stripe ----------------------------------------------------------------------------------------


def _ask_stripe(draft: Draft, dialog: Dialog) -> None:
    """Ask for the key until Stripe lets it read what syncd needs."""
    dialog.say(
        "\n3 of 4: a restricted key of Stripe (rk_…) that may read Events and PaymentIntents; for refunds "
        "and disputes also Charges, Refunds and Disputes"
    )
    while True:
        draft.values.pop(("stripe", "mode"), None)
        _ask_secret(draft, dialog, "stripe_api_key", "Stripe's key")
        key = draft.secret("stripe_api_key") or ""
        dialog.say(f"  {_kind(key)}")
        if mode := mode_of_key(key):
            draft.values["stripe", "mode"] = str(mode)
        if is_organization_key(key):
            now = str(draft.value("stripe", "account") or "")
            draft.values["stripe", "account"] = dialog.ask(
                "The account whose payments Halo shows (acct_…)", now, "SYNCD_STRIPE__ACCOUNT"
            )
        lines = _looked(draft, dialog, "Asking Stripe", lambda sides: sides.look_at_stripe())
        for line in lines:
            dialog.show(line)
        if not any(map(_bad, lines)):
            return
        _stop_script(dialog, lines)
        dialog.say("Correct this in Stripe's dashboard, then press Enter to try again.")


def _kind(key: str) -> str:
    """The kind of this key, in a sentence."""
    mode = mode_of_key(key)
    of = f" of {mode} mode" if mode else ""
    if is_organization_key(key):
        return f"An organization's key{of}."
    if key.startswith("rk_"):
        return f"A restricted key{of}."
    if key.startswith("sk_"):
        return f"A secret key{of}, which may do everything; a restricted key is enough."
    return "A key of a type that syncd does not know."


# --- both ------------------------------------------------------------------------------------------


def _ask_secret(draft: Draft, dialog: Dialog, name: str, what: str) -> None:
    """Ask for a secret until its form is valid."""
    while True:
        answer = dialog.ask_secret(what, SECRETS[name], is_set=draft.secret(name) is not None)
        problems = secret_problems(name, answer) if answer else []
        if not problems:
            break
        for problem in problems:
            dialog.show(failed(Area.CONFIGURATION, what, problem, "Enter it again."))
    if answer:
        draft.secrets[name] = answer


def _learn_numbers(draft: Draft, dialog: Dialog) -> None:
    """Find the status numbers in Halo's rows; numbers that are set stay."""
    dialog.say("\n4 of 4: the status numbers of your Halo, learnt from its own rows")
    config = draft.config()
    survey = read_survey(config, ROWS_DEFAULT)
    findings = learn(survey.tally)
    change = change_of(findings, dict(config.halo.status.numbers))
    new = {} if change.sharing else dict(change.new)
    print_findings({**config.halo.status.numbers, **new}, survey, findings, change)
    for state, number in new.items():
        draft.values["halo", "status", str(state)] = number
    missing = [str(state) for state in PaymentState if state in change.missing]
    if missing:
        dialog.say(f"Without a number, payments are held: {', '.join(missing)}. See above.")


def _looked(
    draft: Draft, dialog: Dialog, what: str, look: Callable[[Sides], Awaitable[object]]
) -> list[Line]:
    """The lines of `check` about one side."""
    lines: list[Line] = []
    try:
        config = draft.config()
    except ConfigurationError as error:
        if dialog.scripted:
            raise
        return [failed(Area.CONFIGURATION, "the configuration", p, "") for p in error.problems]

    async def go(_parts: Parts, sides: Sides) -> None:
        sides.tell = lines.append
        await look(sides)

    _with_parts(config, go, what)
    return lines


def _with_parts(
    config: Config, work: Callable[[Parts, Sides], Awaitable[Result]], what: str = "Asking Halo"
) -> Result:
    """Run `work` with clients of both sides; each request is counted as any other."""

    async def go() -> Result:
        windows = {
            Side.STRIPE: stripe_window(read_limit(config, store, time.time())),
            Side.HALO: halo_window(config.halo.rate_limit),
        }
        parts = assemble(
            config,
            store,
            Telemetry(),
            Runtime(waiting=shown.waiting, retrying=shown.retrying),
            "init",
        )

        def left(side: Side) -> int:
            return windows[side].left(store.coordination.counts(side), time.time())

        sides = Sides(config, parts.source, parts.sink, store, left, lambda _line: None, False)
        try:
            return await work(parts, sides)
        finally:
            await parts.close()

    with counting(config) as store, bar() as shown:
        shown.begin(what)
        return asyncio.run(go())


def _bad(line: Line) -> bool:
    return line.level is Level.FAIL


def _stop_script(dialog: Dialog, lines: list[Line]) -> None:
    """A script cannot correct an answer: end with the exit code of `check`."""
    if dialog.scripted:
        dialog.say("Nothing was changed.")
        raise typer.Exit(exit_code(lines))


# --- the end ---------------------------------------------------------------------------------------


def _make_state_folder(config: Config, dialog: Dialog) -> None:
    """Create the folder of the database, which the service would create at its first start."""
    path = config.state.file
    if path is not None and path.parent.parent == Path("/var/lib") and not path.parent.exists():
        with suppress(OSError):
            path.parent.mkdir(mode=0o700)
            dialog.say(f"Made: {path.parent}")


def _polls(config: Config) -> str:
    """How often syncd will poll, and how to change that."""
    if config.poll.seconds is None:
        return (
            "syncd polls Stripe every few seconds while a payment is under way, and at least every 5 "
            f'minutes (poll.interval = "auto"), within {_budget(config)}. For fewer reads, set '
            'poll.interval = "5m".'
        )
    return (
        f"syncd polls Stripe every {span_text(config.poll.seconds)} (poll.interval). With "
        'poll.interval = "auto", it polls every few seconds while a payment is under way.'
    )


def _budget(config: Config) -> str:
    budget = config.stripe.read_budget
    return (
        f"{budget:,} reads in 30 days (stripe.read_budget)"
        if isinstance(budget, int)
        else "the reads that Stripe allows"
    )


def _next(draft: Draft, *, first: bool) -> list[str]:
    """The commands to run next."""
    at = "" if draft.file == SYSTEM / "config.toml" else f" --config {draft.file}"
    if not first:
        again = f"systemctl restart {draft.unit}" if draft.unit else f"syncd{at}"
        return ["", "Next:", f"  syncd check{at}", f"  {again}"]
    start = f"systemctl enable --now {draft.unit}" if draft.unit else f"syncd{at}"
    return [
        "",
        (
            "Next: write one payment's row and read it back (no money moves), then start the "
            "service:"
        ),
        f"  syncd prove{at}",
        f"  {start}",
    ]
