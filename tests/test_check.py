"""`syncd check`: what each line reports, when a line fails, and its API usage."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from syncd.core.payments import PaymentState
from syncd.preflight.check import Area, Level, Line, exit_code, failed, passed, warned
from syncd.preflight.local import database_lines, file_line, port_line, secret_lines
from syncd.preflight.remote import Sides
from syncd.preflight.survey import Survey
from syncd.preflight.verdicts import edit_line, halo_window_line, stripe_budget_line
from syncd.sandbox import Fault
from syncd.sync.build import Parts
from tests.conftest import Receiver, Rig
from tests.ports import free_port
from tests.test_process import daemon, until

NEEDED = {"events", "payment_intents"}


def _sides(rig: Rig) -> dict[str, Line]:
    """The lines about both sides, by what each line is about."""
    lines: list[Line] = []

    async def look(parts: Parts) -> None:
        store = parts.engine.store
        await Sides(
            parts.config, parts.source, parts.sink, store, lambda _side: 77, lines.append
        ).look()

    rig.run(look)
    assert len({line.what for line in lines}) == len(lines)
    return {line.what: line for line in lines}


def _levels(lines: Mapping[str, Line], level: Level) -> set[str]:
    return {what for what, line in lines.items() if line.level is level}


def _native(rig: Rig, state: str) -> str:
    payment = rig.pay(state)
    rig.box.halo.native_webhook(rig.box.stripe.events[-1])
    return payment


WATCHED = {"Stripe: read Charges", "Stripe: read Refunds", "Stripe: read Disputes"}
EDIT = "Halo: edit invoices"


# --- both sides ------------------------------------------------------------------------------------


def test_all_well(rig: Rig) -> None:
    """If everything is right, no line fails; only what `check` cannot know without writing is a warning."""
    rig.proven = False
    rig.box.stripe.permissions = set(NEEDED)
    for state in PaymentState:
        newest = _native(rig, state)
    lines = _sides(rig)
    assert _levels(lines, Level.FAIL) == set()
    assert _levels(lines, Level.WARN) == WATCHED | {EDIT}
    assert lines["Halo's mode"] == passed(
        Area.HALO, "Halo's mode", "events in its newest rows are of test mode"
    )
    assert lines["status succeeded"] == passed(
        Area.HALO, "status succeeded", "3, as in 1 row of Halo's own webhook"
    )
    assert lines["one account on both sides"].text == f"Stripe knows {newest}, of Halo's newest row"
    assert lines["Stripe API reads"].text == (
        "9,583 planned in 30 days, of 10,000 (stripe.read_budget); 77 left now"
    )
    assert "the webhook also writes: row 5" in lines["Halo's own webhook"].text


def test_what_looking_costs(rig: Rig) -> None:
    """`check` takes seven Stripe reads and three requests to Halo, counts them all, and writes nothing."""
    _native(rig, "succeeded")
    _sides(rig)
    stripe = [request.path.split("/")[2] for request in rig.box.stripe.requests]
    assert stripe == [
        "events",
        "payment_intents",
        "charges",
        "refunds",
        "disputes",
        "events",
        "payment_intents",
    ]
    assert [(r.method, r.path) for r in rig.box.halo.requests] == [
        ("GET", "/api/authinfo"),
        ("POST", "/auth/token"),
        ("GET", "/api/InvoicePayment"),
    ]
    assert rig.stored(lambda store: sum(store.coordination.counts("stripe").values())) == 7
    assert rig.stored(lambda store: sum(store.coordination.counts("halo").values())) == 3


def test_what_is_known_of_writes(rig: Rig) -> None:
    """`check` shows the proof of each kind of write, and what new rows may do in the accounting system."""
    rig.proven = False
    lines = _sides(rig)
    assert (
        lines["updates of rows"].text
        == "not proven yet: syncd sends the first one, reads it back, and only then sends others"
    )
    assert "Before you switch it on: Halo may book" in lines["new rows: accounting"].text
    assert lines["new rows: accounting"].level is Level.PASS
    payment = rig.pay("succeeded")
    rig.once()
    lines = _sides(rig)
    assert f"of {payment}; updates contain only the new status" in lines["updates of rows"].text
    assert lines[EDIT].level is Level.PASS
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    lines = _sides(rig)
    assert "not proven yet" in lines["new rows: proof"].text
    assert lines["new rows: accounting"].level is Level.WARN
    assert "Xero or QuickBooks" in lines["new rows: accounting"].text
    invoice = rig.box.halo.add_invoice(total=10.99)
    rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    rig.once()
    lines = _sides(rig)
    assert lines["new rows: proof"].text.startswith("proven on")
    assert lines["new rows: accounting"].level is Level.PASS


def test_writes_that_were_stopped_fail(rig: Rig) -> None:
    """While writes to the tenant are stopped, `check` fails for Halo and names the command to run."""
    rig.proven = False
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.pay("succeeded")
    rig.once()
    lines = _sides(rig)
    line = lines["updates of rows"]
    assert (line.level, line.area) == (Level.FAIL, Area.HALO)
    assert line.text.endswith(": writes_not_stored")
    assert line.remedy is not None
    assert "syncd attention" in line.remedy
    assert exit_code(list(lines.values())) == 69


@pytest.mark.parametrize(
    ("kind", "name"), [("events", "Events"), ("payment_intents", "PaymentIntents")]
)
def test_a_missing_permission_of_the_key_is_named(rig: Rig, kind: str, name: str) -> None:
    """The line of a permission that the key lacks fails with its name, and `check` tests the others."""
    rig.box.stripe.permissions = NEEDED - {kind}
    lines = _sides(rig)
    assert _levels(lines, Level.FAIL) == {f"Stripe: read {name}"}
    assert lines["Stripe: sign-in"].level is Level.PASS
    line = lines[f"Stripe: read {name}"]
    assert "rak_" in line.text
    assert "Give the key" not in line.text
    assert (
        line.remedy
        == f'In Stripe\'s dashboard, give the restricted key the permission "{name}": read.'
    )
    assert exit_code(list(lines.values())) == 69


def test_a_key_that_is_refused(rig: Rig) -> None:
    """If Stripe refuses the key, `check` reports this once, asks Stripe nothing more, and checks Halo."""
    rig.settings["SYNCD_STRIPE_API_KEY"] = "rk_test_another"
    lines = _sides(rig)
    assert _levels(lines, Level.FAIL) == {"Stripe: sign-in"}
    assert len(rig.box.stripe.requests) == 1
    assert lines["Halo: read invoices"].level is Level.PASS
    assert "rk_test_another" not in repr(lines)


def test_a_client_secret_that_is_refused(rig: Rig) -> None:
    """If Halo refuses the client secret, `check` reports this once, with Halo's error message."""
    rig.settings["SYNCD_HALO_CLIENT_SECRET"] = "another"
    lines = _sides(rig)
    assert _levels(lines, Level.FAIL) == {"Halo: sign-in"}
    assert "invalid_client" in lines["Halo: sign-in"].text
    assert {what for what in lines if what.startswith("Halo")} == {"Halo: sign-in"}


def test_a_role_that_may_not_read_invoices(rig: Rig) -> None:
    """If the role may not read invoices, the sign-in passes and the permission fails with its remedy."""
    rig.box.halo.permissions = set()
    lines = _sides(rig)
    assert lines["Halo: sign-in"].level is Level.PASS
    line = lines["Halo: read invoices"]
    assert line.level is Level.FAIL
    assert "(HTTP 403)" in line.text
    assert line.remedy == "Give the application and its agent role the permission to read invoices."
    assert "Give the application" not in line.text


@pytest.mark.parametrize("side", ["stripe", "halo"])
def test_a_side_out_of_reach(rig: Rig, side: str) -> None:
    """If one side answers with HTML, the line of its connection fails, and `check` tests the other side."""
    getattr(rig.box, side).faults.append(Fault("html", times=None))
    lines = _sides(rig)
    assert _levels(lines, Level.FAIL) == {f"{side.capitalize()}: connection"}
    assert exit_code(list(lines.values())) == 69


def test_wrong_numbers(rig: Rig) -> None:
    """A status number that Halo's webhook contradicts fails, with a row as an example."""
    rig.settings |= {
        "SYNCD_HALO__STATUS__SUCCEEDED": "33",
        "SYNCD_HALO__STATUS__CANCELED": "",
        "SYNCD_HALO__STATUS__PROCESSING": "5",
    }
    for state in ("succeeded", "succeeded", "canceled", "processing"):
        _native(rig, state)
    odd = _native(rig, "processing")
    rig.box.halo.rows_of(odd)[0]["status"] = 9
    lines = _sides(rig)
    assert lines["status succeeded"] == failed(
        Area.CONFIGURATION,
        "status succeeded",
        "33, but Halo's own webhook wrote 3 in 2 rows (such as row 2)",
        "Look at those rows in Halo, then set halo.status.succeeded; see syncd calibrate.",
    )
    assert lines["status processing"].level is Level.WARN
    assert "wrote 9 in 1 row (such as row 5), and 5 in 1 row" in lines["status processing"].text
    assert lines["status canceled"].text == "not set; Halo's rows show 6"
    assert lines["status payment_failed"].text.startswith("4; none of Halo's newest")
    assert lines["status requires_action"].text.startswith("7; none of Halo's newest")
    assert exit_code(list(lines.values())) == 78


def test_numbers_are_compared_after_polls_too(rig: Rig) -> None:
    """After polls, numbers are still compared; rows that syncd may have written are left out and counted."""
    for state in PaymentState:
        _native(rig, state)
    rig.once()
    lines = _sides(rig)
    assert {lines[f"status {state}"].level for state in PaymentState} == {Level.PASS}
    for row in rig.box.halo.rows_of(_native(rig, "succeeded")):
        row["status"] = 1
    (rig.folder / "syncd.db").unlink()
    rig.settings["SYNCD_PUSH__TRACE"] = "false"
    rig.box.halo.status["succeeded"] = 8
    rig.settings["SYNCD_HALO__STATUS__SUCCEEDED"] = "8"
    rig.once()
    lines = _sides(rig)
    assert lines["status succeeded"] == warned(
        Area.HALO,
        "status succeeded",
        "8; none of Halo's newest 6 rows shows what Halo's own webhook writes (2 rows left out that "
        "syncd may have written)",
        "Run syncd calibrate: the command reads all rows, and shows how to prove the number.",
    )


def test_numbers_that_were_proven_stay_so(rig: Rig) -> None:
    """Numbers that an earlier check confirmed stay confirmed, although newer rows are syncd's."""
    for state in PaymentState:
        _native(rig, state)
    rig.open().close()
    _sides(rig)
    for state in PaymentState:
        rig.pay(state)
    rig.once()
    for number in range(1, 6):
        del rig.box.halo.rows[number]
    lines = _sides(rig)
    assert {lines[f"status {state}"].level for state in PaymentState} == {Level.PASS}
    assert lines["status processing"].text == (
        "5, as Halo's own webhook wrote in rows that an earlier check read"
    )
    assert lines[EDIT].level is Level.PASS
    rig.settings["SYNCD_HALO__STATUS__PROCESSING"] = "55"  # another number is not confirmed
    assert _sides(rig)["status processing"].level is Level.WARN


def test_a_test_key_and_live_payments(rig: Rig) -> None:
    """If Halo's rows have live events, a test key is a warning; without events the mode is unknown."""
    assert _sides(rig)["Halo's mode"].text.startswith("unknown: ")
    payment = _native(rig, "succeeded")
    row = rig.box.halo.rows_of(payment)[0]
    row["webhook_payload"] = json.dumps(json.loads(row["webhook_payload"]) | {"livemode": True})
    line = _sides(rig)["Halo's mode"]
    assert (line.level, line.text) == (
        Level.WARN,
        "events in its newest rows are of live mode, but the key is of test mode",
    )


def test_a_row_of_another_account(rig: Rig) -> None:
    """If the key does not know a payment in Halo's rows, `check` warns."""
    rig.box.halo.add_row("pi_of_another_account", 1001, 5.0)
    line = _sides(rig)["one account on both sides"]
    assert (line.level, line.area) == (Level.WARN, Area.CONFIGURATION)
    assert "pi_of_another_account" in line.text


def test_what_new_rows_carry(rig: Rig) -> None:
    """With `push.create_missing`, `check` compares new rows' method and module with Stripe's rows in Halo."""
    _native(rig, "succeeded")
    assert "new rows" not in _sides(rig)
    rig.settings |= {"SYNCD_PUSH__CREATE_MISSING": "true", "SYNCD_HALO__NEW_ROW__MODULE_ID": "232"}
    line = _sides(rig)["new rows"]
    assert (line.level, line.text) == (
        Level.WARN,
        "method 12, module_id 232; rows of Stripe's payments in Halo have method 12, module_id 231 (Stripe Payments) in 1 row",
    )
    rig.settings["SYNCD_HALO__NEW_ROW__MODULE_ID"] = "231"
    assert _sides(rig)["new rows"].level is Level.PASS


@pytest.mark.parametrize(
    ("skew", "level", "text"),
    [(2, Level.PASS, "right"), (-60, Level.WARN, "60 s ahead"), (900, Level.FAIL, "900 s behind")],
)
def test_clocks(rig: Rig, skew: float, level: Level, text: str) -> None:
    """`check` compares this machine's clock with the dates in the answers of Stripe and Halo."""
    rig.box.stripe.clock_skew = rig.box.halo.clock_skew = skew
    lines = _sides(rig)
    for side in ("Stripe", "Halo"):
        line = lines[f"the clock, by {side}"]
        assert (line.level, line.text) == (level, text)
    assert exit_code(list(lines.values())) == (1 if level is Level.FAIL else 0)


def test_a_halo_that_says_no_date(rig: Rig) -> None:
    """If Halo's answer has no date, `check` warns that it cannot compare the clock."""
    rig.box.halo.clock_skew = None
    assert _sides(rig)["the clock, by Halo"].level is Level.WARN


def test_whether_halos_webhook_writes_too(rig: Rig) -> None:
    """Rows that syncd wrote are no sign of Halo's own webhook, but show that syncd may edit invoices."""
    assert "no sign of the webhook" in _sides(rig)["Halo's own webhook"].text
    rig.pay("succeeded")
    rig.once()
    lines = _sides(rig)
    assert lines["Halo's own webhook"].text == "no sign of the webhook in Halo's newest 1 rows"
    assert lines[EDIT] == passed(
        Area.HALO, EDIT, "row 1 contains an event in the form that syncd writes"
    )
    (rig.folder / "syncd.db").unlink()
    assert "1 row may be its own or syncd's" in _sides(rig)["Halo's own webhook"].text


@pytest.mark.parametrize(
    ("asked", "granted", "level", "text"),
    [
        ("read:invoices", None, Level.FAIL, "without edit:invoices"),
        ("read:invoices edit:invoices", "read:invoices", Level.FAIL, 'allows only "read:invoices"'),
        ("read:invoices edit:invoices", "all", Level.WARN, "the agent role may lack it"),
        ("all", None, Level.WARN, "Halo does not say"),
    ],
)
def test_the_permission_to_edit(asked: str, granted: str | None, level: Level, text: str) -> None:
    """Without writing, `check` judges the edit permission by the requested and the granted scope."""
    scopes = None if granted is None else frozenset(granted.split())
    line = edit_line(asked, scopes, Survey())
    assert (line.level, text in line.text) == (level, True)


def test_the_scope_that_came_with_the_token(rig: Rig) -> None:
    """`check` uses the scope that Halo granted with the sign-in."""
    rig.box.halo.granted_scope = "read:invoices"
    assert _sides(rig)[EDIT].level is Level.FAIL


# --- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "budget", "level", "remedy"),
    [
        ("5m", 10_000, Level.PASS, None),
        ("1m", 10_000, Level.WARN, 'syncd polls less often once half of the reads are used. Set poll.interval = "263s" or longer.'),
        ("1m", 50_000, Level.WARN, 'Stripe allows 10,000 a month, and 500 more for each transaction. Set poll.interval = "263s" or longer.'),
    ],
)  # fmt: skip
def test_reads_of_stripe(
    rig: Rig, interval: str, budget: int, level: Level, remedy: str | None
) -> None:
    """`check` computes the Stripe reads in 30 days, and warns if they are too many."""
    rig.settings |= {
        "SYNCD_POLL__INTERVAL": interval,
        "SYNCD_STRIPE__READ_BUDGET": str(budget),
    }
    line = stripe_budget_line(rig.config(), 5)
    assert (line.level, line.remedy) == (level, remedy)


@pytest.mark.parametrize(
    ("rows", "sweep", "level"),
    [
        (None, "1d", Level.PASS),
        (29_900, "1d", Level.PASS),
        (100_000, "1d", Level.WARN),
        (100_000, "10m", Level.WARN),
    ],
)
def test_requests_to_halo(rig: Rig, rows: int | None, sweep: str, level: Level) -> None:
    """`check` computes the requests of a sweep from the number of rows, and warns if they are too many."""
    rig.settings["SYNCD_POLL__SWEEP"] = sweep
    line = halo_window_line(rig.config(), rows, 300)
    assert line.level is level
    assert ("takes longer than poll.sweep" in (line.remedy or "")) == (sweep == "10m")


# --- this machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "level"), [(0o644, Level.PASS), (0o664, Level.WARN), (0o666, Level.FAIL)]
)
def test_who_can_change_the_file(tmp_path: Path, mode: int, level: Level) -> None:
    """`check` warns if a group can change the configuration file, and fails if everyone can."""
    file = tmp_path / "config.toml"
    file.touch()
    file.chmod(mode)
    assert file_line(file).level is level
    assert file_line(None).level is Level.PASS


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, Level.PASS), (0o640, Level.WARN), (0o644, Level.FAIL)]
)
def test_who_can_read_a_secret(tmp_path: Path, mode: int, level: Level) -> None:
    """`check` judges a secret by its file's mode, and warns of a secret in the environment."""
    secret = tmp_path / "stripe_api_key"
    secret.write_text("rk_test_x")
    secret.chmod(mode)
    environment = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "SYNCD_STRIPE_API_KEY": "rk_test_y",
        "SYNCD_HALO_CLIENT_SECRET": "a-secret",
    }
    key, halo = secret_lines(environment)
    assert (key.what, key.level) == ("secret stripe_api_key", level)
    assert (halo.what, halo.level) == ("secret halo_client_secret", Level.WARN)
    assert "rk_test" not in repr([key, halo])


def test_the_database(rig: Rig, tmp_path: Path) -> None:
    """`check` reports a new, sound, damaged or readable database, and a folder that is missing or unsafe."""

    def database() -> Line:
        return next(line for line in database_lines(rig.url) if line.what == "the database")

    path = rig.folder / "syncd.db"
    assert database().text == f"{path} is created on the first start"
    assert not path.exists()
    rig.once()
    assert database().text.endswith("MiB, sound")
    path.chmod(0o644)
    assert "other accounts may read" in database().text
    path.write_bytes(b"not a database" * 100)
    assert (database().level, database().area) == (Level.FAIL, Area.CONFIGURATION)
    (missing,) = database_lines(f"sqlite:///{tmp_path}/no/syncd.db")
    assert missing.level is Level.FAIL
    (unseen,) = database_lines(f"sqlite:///{tmp_path}/{'x' * 300}/syncd.db")
    assert "this account cannot read" in unseen.text
    tmp_path.chmod(0o777)
    folder = database_lines(rig.url)[1]
    assert (folder.what, folder.level) == ("the database's folder", Level.FAIL)


def test_the_port(live: Rig) -> None:
    """The port of `web.listen` may be free or used by this syncd; any other program there is a failure."""
    assert port_line(live.config()).level is Level.PASS
    live.settings["SYNCD_WEB__LISTEN"] = live.box.halo.url.removeprefix("http://")
    taken = port_line(live.config())
    assert (taken.level, taken.area) == (Level.FAIL, Area.CONFIGURATION)
    assert "cannot listen on" in taken.text
    live.settings |= {"SYNCD_WEB_TOKEN": "a-token-of-ours", "SYNCD_WEB__LISTEN": "127.0.0.1:0"}
    with daemon(live) as running:
        listen = running.url.removeprefix("http://")
        live.settings["SYNCD_WEB__LISTEN"] = listen
        line = until(lambda: port_line(live.config()))
        assert line.text == f"{listen}: syncd is running there"


# --- the command -----------------------------------------------------------------------------------


def test_the_command(live: Rig) -> None:
    """`check` prints lines with remedies, or JSON, without secrets, and creates no database."""
    for state in PaymentState:
        _native(live, state)
    done = live.command("check")
    assert done.returncode == 0, done.stdout
    assert "pass  Stripe: read Events: allowed\n" in done.stdout
    assert "warn  secret stripe_api_key: in the environment" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" 0 fail")
    assert not (live.folder / "syncd.db").exists()
    read = json.loads(live.command("check", "--json").stdout)
    assert read["exit"] == 0
    assert read["lines"][0] == {
        "level": "warn",
        "area": "configuration",
        "what": "secret stripe_api_key",
        "text": "in the environment (SYNCD_STRIPE_API_KEY): child processes and crash reports get it too",
        "remedy": "Use a file with mode 600 and LoadCredential= (systemd) instead.",
    }
    for secret in (live.box.stripe.api_key, live.box.halo.client_secret):
        assert secret not in done.stdout + done.stderr


def test_a_configuration_that_can_not_be_used(live: Rig) -> None:
    """If the configuration is invalid, each problem is a failing line, and `check` exits with 78."""
    live.settings |= {"SYNCD_HALO__URL": "ftp://x", "SYNCD_POLL__INTERVAL": "often"}
    done = live.command("check", "--json")
    assert done.returncode == 78
    texts = [line["text"] for line in json.loads(done.stdout)["lines"] if line["level"] == "fail"]
    assert [text.split(":")[0] for text in texts] == [
        "halo.url (SYNCD_HALO__URL)",
        "poll.interval (SYNCD_POLL__INTERVAL)",
    ]


def test_a_damaged_database_does_not_end_the_check(live: Rig) -> None:
    """If the database is damaged, its line fails, and `check` still tests both sides."""
    (live.folder / "syncd.db").write_bytes(b"not a database" * 100)
    done = live.command("check")
    assert done.returncode == 78
    assert "fail  the database: " in done.stdout
    assert "pass  Halo: read invoices: allowed" in done.stdout
    text = "not compared, because the database that lists syncd's own rows can't be read"
    assert f"warn  status succeeded: 3; {text}\n" in done.stdout
    assert done.stdout.endswith("Correct what failed, then run syncd check again.\n")
    assert done.stdout.count("check again") == 1
    (remedy,) = re.findall(r"^fail  the database: .*\n {6}→ (.*)$", done.stdout, re.MULTILINE)
    assert "Restore a copy; or move the file away" in remedy


def test_a_database_server_that_does_not_answer(live: Rig) -> None:
    """If PostgreSQL does not answer, `check` warns, and the remedy does not say to run `check` again."""
    live.settings["SYNCD_STATE__URL"] = f"postgresql://syncd@127.0.0.1:{free_port()}/syncd"
    done = live.command("check")
    assert done.returncode == 0, done.stdout
    (remedy,) = re.findall(r"^warn  the database: .*\n {6}→ (.*)$", done.stdout, re.MULTILINE)
    assert remedy.endswith(
        "Check that PostgreSQL runs, accepts connections, and has room on its disk."
    )
    assert "check again" not in done.stdout


def test_no_configuration(live: Rig) -> None:
    """If there is no configuration file, `check` reports this and exits with 78."""
    ours = dict.fromkeys(
        (name for name in live.environment() if name.startswith("SYNCD_HALO__")), ""
    )
    done = live.command("check", extra=ours)
    assert done.returncode == 78
    assert (
        "fail  the configuration: there is no /etc/syncd/config.toml and no config.toml. "
        in done.stdout
    )


@pytest.mark.parametrize(
    ("areas", "code"),
    [
        ([], 0),
        ([Area.MACHINE], 1),
        ([Area.MACHINE, Area.HALO], 69),
        ([Area.STRIPE], 69),
        ([Area.STRIPE, Area.CONFIGURATION], 78),
    ],
)
def test_exit_codes(areas: list[Area], code: int) -> None:
    """Warnings do not change the exit code; configuration failures come before failures of a side."""
    lines = [warned(area, "a", "b", "c") for area in Area]
    assert exit_code([*lines, *(failed(area, "a", "b", "c") for area in areas)]) == code


# --- notifications ---------------------------------------------------------------------------------


def test_a_test_message_is_sent_where_it_is_asked_for(live: Rig, receiver: Receiver) -> None:
    """--test-message sends each address a message, pings the heartbeat, and hides secrets in failures."""
    live.settings |= {
        "SYNCD_NOTIFY_URLS": f"{receiver.notify_url}\njson://127.0.0.1:9/a-dead-token",
        "SYNCD_HEARTBEAT_URL": f"http://{receiver.url}/ping/a-secret-uuid",
    }
    assert live.command("check", "--json").returncode == 0
    assert (receiver.messages, receiver.pings) == ([], [])
    done = live.command("check", "--test-message", "--json")
    lines = [line for line in json.loads(done.stdout)["lines"] if line["area"] == "messages"]
    assert [(line["level"], line["what"], line["text"]) for line in lines] == [
        (
            "pass",
            "message 1 (json)",
            "the notification service accepted the test message; check that you received it",
        ),
        (
            "fail",
            "message 2 (json)",
            "the service did not accept the test message: the notification service refused it or cannot be reached",
        ),
        ("pass", "heartbeat", "the address accepted the request"),
    ]
    assert done.returncode == 1
    assert len(receiver.messages) == 1
    assert receiver.messages[0]["title"].endswith("): test")
    assert receiver.pings == ["/ping/a-secret-uuid"]
    assert not any(secret in done.stdout + done.stderr for secret in ("a-secret", "a-dead"))


def test_a_test_message_to_nobody(live: Rig) -> None:
    """If no notification address is configured, `check` warns and exits with 0."""
    done = live.command("check", "--test-message")
    assert done.returncode == 0
    assert "warn  messages: no address is set" in done.stdout
    assert "warn  heartbeat: no address is set" in done.stdout
