"""The attention list: the invoice and row of each entry, text that can be copied, retry and dismiss."""

import fcntl
import json
import os
import pty
import re
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from contextlib import closing
from datetime import datetime

import pytest

from syncd.core.records import Condition
from syncd.sandbox.faults import Fault
from tests.conftest import ROOT, Rig
from tests.terminals import on_terminal


def on_a_terminal(rig: Rig, columns: int, *arguments: str) -> list[str]:
    """What the command shows on a terminal of this width, line by line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SYNCD_") and k != "COLUMNS"}
    chosen = {k: v for k, v in rig.environment().items() if v}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.alone", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, **chosen, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        cwd=rig.folder,
    ):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:  # reading ends with OSError when the terminal closes
            os.close(ours)
    return shown.decode().replace("\r\n", "\n").split("\n")


def a_full_list(rig: Rig) -> tuple[str, str, str]:
    """Create a payment that is held, a payment in step, and a refund."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    held = rig.pay("succeeded", amount=1_234_500, rows=(5.0, 6.0))
    quiet = rig.pay("requires_action")
    paid = rig.pay("succeeded")
    rig.once()
    refund = rig.box.stripe.refund(paid, 500)
    rig.once()
    return held, quiet, refund


# --- the invoice and the row -----------------------------------------------------------------------


def test_a_hold_names_rows_and_invoices(rig: Rig) -> None:
    """A hold's entry shows the rows and invoices that syncd read for its decision."""
    held = rig.pay("succeeded", rows=(5.0, 6.0))
    rig.once()
    rows = rig.box.halo.rows_of(held)
    ids = [row["invoice_id"] for row in rows]
    [entry] = json.loads(rig.command("attention", "--json").stdout)
    assert (entry["id"], entry["intent_id"], entry["rows"]) == (held, held, [r["id"] for r in rows])
    assert entry["invoices"] == [{"id": i, "number": f"INV-{i}"} for i in ids]
    assert entry["links"] == {
        "stripe": f"https://dashboard.stripe.com/test/payments/{held}",
        "halo": [f"{rig.box.halo.url}/invoices?mainview=invoices&invoiceid={i}" for i in ids],
    }
    # syncd wrote nothing and found nothing in step, so these columns stay empty.
    found = rig.stored(lambda store: store.payment(held))
    assert (found["rows"], found["acked_state"]) == (None, None)
    assert json.loads(found["seen_rows"]) == [
        [row["id"], row["invoice_id"], f"INV-{row['invoice_id']}", "A customer"] for row in rows
    ]


def test_a_refused_row_names_its_invoice(rig: Rig) -> None:
    """If Halo refuses an update or a new row, the entry names the invoice."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = rig.box.halo.add_invoice()
    made = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    known = rig.pay("succeeded")
    [row] = rig.box.halo.rows_of(known)
    rig.box.halo.poison(row["id"], "The period is closed.")
    rig.box.halo.poison(made, "The period is closed.")
    rig.once()
    shown = {e.id: (e.code, e.rows, [i.name for i in e.invoices]) for e in rig.attention()}
    assert shown == {
        known: ("halo_refuses", (row["id"],), [f"INV-{row['invoice_id']}"]),
        made: ("halo_refuses", (), [f"invoice {invoice}"]),
    }


def test_a_deleted_row_leaves_its_invoice(rig: Rig) -> None:
    """If the row in Halo was deleted, the entry still names its invoice."""
    payment = rig.pay("processing")
    rig.once()
    [row] = rig.box.halo.rows_of(payment)
    rig.box.halo.delete_row(row["id"])
    rig.clock.seconds += 60
    rig.box.stripe.advance(payment, "succeeded")
    rig.once()
    [entry] = rig.attention()
    assert (entry.code, [one.name for one in entry.invoices]) == (
        "row_deleted",
        [f"INV-{row['invoice_id']}"],
    )
    rig.stored(lambda store: store.people.retry([payment], rig.clock()))
    assert rig.stored(lambda store: store.payment(payment))["seen_rows"] is None  # counts as new


def test_a_refund_names_payment_and_invoice(rig: Rig) -> None:
    """The entry of a refund names its payment and invoice, also if syncd has no event of the payment."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    old = rig.pay("succeeded", created=rig.clock() - 100 * 86_400)
    rig.box.stripe.events.clear()
    recent = rig.pay("succeeded")
    rig.once()
    refunds = {rig.box.stripe.refund(name, 500): name for name in (recent, old)}
    rig.once()
    entries = {e["id"]: e for e in json.loads(rig.command("attention", "--json").stdout)}
    assert set(entries) == set(refunds)
    for refund, payment in refunds.items():
        [row] = rig.box.halo.rows_of(payment)
        entry, number = entries[refund], row["invoice_id"]
        assert (entry["intent_id"], entry["rows"]) == (payment, [row["id"]])
        assert entry["invoices"] == [{"id": number, "number": f"INV-{number}"}]
        assert entry["links"]["stripe"].endswith(f"/test/payments/{payment}")


def test_a_row_that_was_made_is_known(rig: Rig) -> None:
    """After an insert, syncd stores the row's id and invoice from Halo's answer."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = rig.box.halo.add_invoice()
    made = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    rig.once()
    [row] = rig.box.halo.rows_of(made)
    [[seen, place, _, _]] = json.loads(rig.stored(lambda store: store.payment(made))["seen_rows"])
    assert (rig.condition(made), seen, place) == (Condition.IN_STEP, row["id"], invoice)


# --- text that can be copied -----------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_nothing_that_is_copied_is_broken(rig: Rig, columns: int) -> None:
    """Ids, amounts, states and invoices stay on one line, and sentences fit the width of the terminal."""
    held, quiet, refund = a_full_list(rig)
    lines = on_a_terminal(rig, columns, "attention")
    assert lines[0] == "1 payment and 1 refund need attention"
    assert max(map(len, lines)) <= columns
    [head] = [line for line in lines if line.startswith(held)]
    names = ", ".join(f"INV-{row['invoice_id']}" for row in rig.box.halo.rows_of(held))
    assert head.split(maxsplit=4)[1:] == ["succeeded", "12345.00", "USD", names]
    assert any(line.startswith(f"{refund} ") for line in lines)
    assert not any(quiet in line for line in lines)
    assert "Correct the amounts of the rows in Halo. Then run: syncd attention retry" in " ".join(
        " ".join(lines).split()
    )
    assert [line for line in lines if len(line) > 100] == []


def test_a_narrow_terminal(rig: Rig) -> None:
    """On a terminal of 50 columns, each id is unbroken on a line of its own."""
    held, _, refund = a_full_list(rig)
    lines = on_a_terminal(rig, 50, "attention")
    assert {held, refund} <= set(lines)


def test_into_a_pipe(rig: Rig) -> None:
    """Into a pipe, each sentence is one line, so that grep finds it."""
    held, _, _ = a_full_list(rig)
    lines = rig.command("attention").stdout.splitlines()
    [number] = [n for n, line in enumerate(lines) if line.startswith(held)]
    assert lines[number + 1].startswith("    Stripe received 12,345.00 USD for")
    assert lines[number + 1].endswith(f"Then run: syncd attention retry {held}")
    rows = ", ".join(str(row["id"]) for row in rig.box.halo.rows_of(held))
    assert lines[number + 2] == f"    A customer; since 2026-11-24T06:00:00Z; Halo's rows {rows}."


# --- retry and dismiss -----------------------------------------------------------------------------


def test_why_not(rig: Rig) -> None:
    """`attention retry` distinguishes a refund, which cannot be retried, from an id that is not listed."""
    held, _, refund = a_full_list(rig)
    done = rig.command("attention", "retry", held, refund, "pi_unknown")
    assert (done.returncode, done.stdout) == (1, f"{held}: syncd will retry at its next push\n")
    assert done.stderr.splitlines() == [
        f"{refund}: is a refund, not a payment; a refund cannot be retried, only dismissed",
        "pi_unknown: is not on the list",
    ]


def test_dismiss_all(rig: Rig) -> None:
    """`attention dismiss --all` dismisses every entry and names each; --all together with an id is wrong."""
    held, _, refund = a_full_list(rig)
    assert rig.command("attention", "dismiss", "--all", held).returncode == 2
    assert rig.command("attention", "dismiss").returncode == 2
    done = rig.command("attention", "dismiss", "--all")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [f"{held}: dismissed", f"{refund}: dismissed"],
    )
    assert rig.attention() == []


# --- payments that aren't Halo's -------------------------------------------------------------------


def test_payments_that_are_not_halos(rig: Rig) -> None:
    """`status --unmatched` lists the payments without a row, and whether syncd still looks for the row."""
    given_up = rig.pay("succeeded", rows=())
    rig.pay("succeeded")
    rig.once()
    for hours in (1, 3, 9, 27, 54):
        rig.clock.seconds += hours * 3_600
        rig.once()
    new = rig.pay("processing", amount=500, rows=(), currency="jpy")
    rig.once()
    done = rig.command("status", "--unmatched", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [
        {"id": new, "state": "processing", "amount": 500, "currency": "jpy",
         "made": "2026-11-28T04:00:00Z", "next_look": "2026-11-28T04:10:00Z"},
        {"id": given_up, "state": "succeeded", "amount": 1_099, "currency": "usd",
         "made": "2026-11-24T06:00:00Z", "next_look": None},
    ])  # fmt: skip
    assert on_a_terminal(rig, 80, "status", "--unmatched") == [
        "Halo has no row for 2 payments",
        "",
        f"{new}  processing  500 JPY    2026-11-28  looked for",
        f"{given_up}  succeeded   10.99 USD  2026-11-24  given up",
        "",
    ]


def test_every_payment_is_halos(rig: Rig) -> None:
    """If every payment has a row, `status --unmatched` says so."""
    rig.pay("succeeded")
    rig.once()
    done = rig.command("status", "--unmatched")
    assert (done.returncode, done.stdout) == (
        0,
        "Halo has a row for every payment that syncd knows.\n",
    )


# --- status ----------------------------------------------------------------------------------------


def test_status_judges_as_readyz_does(rig: Rig) -> None:
    """If no poll and push has worked for `web.stale_after`, `syncd status` calls both sides failing."""
    rig.open().close()
    young = " ".join(rig.command("status").stdout.split())
    assert f"Halo │ {rig.box.halo.url}, no push has worked yet │" in young
    rig.clock.seconds = time.time() - 100
    rig.pay("succeeded")
    rig.cycle()
    assert json.loads(rig.command("status", "--json").stdout)["checks"]["halo"]["ok"] is True
    long = {"SYNCD_WEB__STALE_AFTER": "10s", "SYNCD_POLL__INTERVAL": "10s"}
    assert rig.command("status").returncode == 0
    done = rig.command("status", "--json", extra=long)
    assert done.returncode == 1
    read = json.loads(done.stdout)
    # The number of minutes depends on how long the commands above took.
    for side, step in (("stripe", "poll"), ("halo", "push")):
        assert read["checks"][side]["ok"] is False
        assert re.fullmatch(rf"no {step} has worked for \d+ min", read["checks"][side]["text"])
    assert set(read["checks"]) == {"stripe", "halo"}
    shown = " ".join(rig.command("status", extra=long).stdout.split())
    assert f"{rig.box.halo.url}, FAILING: no push has worked for " in shown
    assert "┃" not in shown  # no header row without column names


def test_status_ends_with_69_while_a_side_fails(rig: Rig) -> None:
    """While Halo fails, `syncd status` exits with 69; when Halo works again, with 0."""
    rig.clock.seconds = time.time() - 4_000
    rig.pay("succeeded")
    rig.box.halo.faults.append(Fault("503", times=99))
    rig.cycle()
    assert rig.command("status").returncode == 69
    rig.box.halo.faults.clear()
    rig.clock.seconds = time.time() - 10
    rig.cycle()
    assert rig.command("status").returncode == 0


@pytest.mark.parametrize("by", ["service", "single run"])
def test_status_hears_that_a_side_works_again(rig: Rig, by: str) -> None:
    """After a restart, a successful cycle or single run ends the failure that `syncd status` shows."""
    rig.clock.seconds = time.time() - 4_000
    rig.pay("succeeded")
    rig.cycle()
    rig.box.halo.faults.append(Fault("503", times=None, path="InvoicePayment"))
    rig.sweep()
    assert rig.command("status").returncode == 69
    rig.box.halo.faults.clear()
    rig.clock.seconds = time.time() - 10
    (rig.cycle if by == "service" else rig.once)()
    assert rig.command("status").returncode == 0


def test_status_hears_it_of_a_backfill(live: Rig) -> None:
    """A successful backfill ends the failures of both sides that `syncd status` shows."""
    payment = live.pay("succeeded")
    note = json.dumps({"reason": "Halo answered 503", "since": time.time() - 86_400})
    live.stored(lambda store: store.write_notes({"link halo": note, "link stripe": note}))
    assert live.command("status").returncode == 69
    assert (live.command("--backfill", "1d").returncode, live.statuses(payment)) == (0, [3])
    assert live.command("status").returncode == 0


def test_status_knows_the_keys_mode(rig: Rig) -> None:
    """`syncd status` without a key shows the mode of the key that the service used."""
    rig.pay("succeeded")
    rig.once()
    keyless = {"SYNCD_STRIPE_API_KEY": ""}
    assert (
        json.loads(rig.command("status", "--json", extra=keyless).stdout)["stripe_mode"] == "test"
    )
    rig.stored(lambda store: store.write_notes({"stripe_mode": None}))
    assert "mode not known yet" in rig.command("status", extra=keyless).stdout


# --- show, dismiss and override --------------------------------------------------------------------


def test_one_entry_whole(rig: Rig) -> None:
    """`attention show` prints all details of one entry, also of a payment that is not on the list."""
    held, quiet, refund = a_full_list(rig)
    shown = rig.command("attention", "show", held).stdout
    for text in (
        held,
        "12345.00 USD",
        "amount_mismatch",
        "https://dashboard.stripe.com/test/payments/",
    ):
        assert text in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "amount 12345.00 USD" in lines
    assert "invoices 1001, INV-1001" in lines
    assert "currency usd" not in lines
    read = json.loads(rig.command("attention", "show", refund, "--json").stdout)
    assert (read["id"], read["kind"], read["money"]) == (refund, "refunded", "5.00 USD")
    assert (
        json.loads(rig.command("attention", "show", quiet, "--json").stdout)["condition"]
        == "in_step"
    )
    done = rig.command("attention", "show", "pi_unknown")
    assert (done.returncode, done.stderr) == (1, "pi_unknown: syncd does not know this id\n")
    narrow = on_a_terminal(rig, 50, "attention", "show", held)
    assert any(line.endswith(held) for line in narrow)


def test_what_was_dismissed(rig: Rig) -> None:
    """`attention --dismissed` lists entries with time and note; `attention retry` brings a refund back."""
    held, _, refund = a_full_list(rig)
    assert rig.command("attention", "--dismissed").stdout == "Nothing was dismissed.\n"
    rig.command("attention", "dismiss", held, refund, "--note", "booked by hand")
    done = rig.command("attention", "--dismissed")
    assert done.returncode == 0
    assert done.stdout.count(": booked by hand.") == 2
    found = {
        e["id"]: e for e in json.loads(rig.command("attention", "--dismissed", "--json").stdout)
    }
    assert {found[held]["note"], found[refund]["note"]} == {"booked by hand"}
    assert abs(_unix(found[refund]["dismissed_at"]) - time.time()) < 60
    done = rig.command("attention", "retry", refund, held)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [f"{refund}: is on the attention list again", f"{held}: syncd will retry at its next push"],
    )
    assert [entry.id for entry in rig.attention()] == [refund]
    assert json.loads(rig.command("attention", "--dismissed", "--json").stdout) == []


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_dismiss_all_asks_on_a_terminal(rig: Rig) -> None:
    """On a terminal, `attention dismiss --all` asks for confirmation first."""
    held, _, refund = a_full_list(rig)
    environment = {k: v for k, v in rig.environment().items() if v}
    no = on_terminal(environment, rig.folder, "attention", "dismiss", "--all", typed="n\n")
    assert "1 payment and 1 refund need attention. Dismiss 2 entries? [y/N]" in no.text
    assert (no.code, len(rig.attention())) == (1, 2)
    yes = on_terminal(environment, rig.folder, "attention", "dismiss", "--all", typed="y\n")
    assert (yes.code, rig.attention()) == (0, [])
    assert f"{held}: dismissed" in yes.text
    assert f"{refund}: dismissed" in yes.text


def test_one_payment_is_pushed_although_its_amounts_differ(rig: Rig) -> None:
    """`attention push` overrides the amount check of one payment only."""
    wanted, other = rig.pay("succeeded", rows=(5.0,)), rig.pay("succeeded", rows=(6.0,))
    rig.once()
    assert {entry.code for entry in rig.attention()} == {"amount_mismatch"}
    done = rig.command("attention", "push", wanted)
    assert (done.returncode, done.stdout) == (
        0,
        f"{wanted}: will be pushed at the next push although its amounts differ\n",
    )
    rig.once()
    assert (rig.statuses(wanted), [e.id for e in rig.attention()]) == ([3], [other])
    rig.sweep()
    assert rig.condition(wanted) is Condition.IN_STEP


def test_an_override_is_for_the_amounts_that_were_seen(rig: Rig) -> None:
    """If an amount changes after `attention push`, the payment is held again."""
    payment = rig.pay("succeeded", rows=(5.0,))
    rig.once()
    assert rig.command("attention", "push", payment).returncode == 0
    rig.box.halo.rows_of(payment)[0]["amount"] = 4.0
    rig.once()
    [entry] = rig.attention()
    assert (entry.code, rig.statuses(payment)) == ("amount_mismatch", [1])
    assert "4" in entry.reason
    quiet = rig.pay("processing")
    rig.once()
    for name in (quiet, "pi_unknown"):
        done = rig.command("attention", "push", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert "attention push is only for payments whose amounts differ." in done.stderr


def copy_payment(rig: Rig, intent_id: str, number: int) -> None:
    """Store copies of a payment in the database."""
    with closing(sqlite3.connect(rig.folder / "syncd.db")) as database, database:
        names = [row[1] for row in database.execute("PRAGMA table_info(payments)")]
        others = ", ".join(name for name in names if name != "intent_id")
        statement = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO payments (intent_id, {others}) SELECT 'pi_copy' || n.i, {others} "
            "FROM n, payments WHERE intent_id = ?"
        )
        database.execute(statement.format(others=others), [number, intent_id])


def test_ten_thousand_entries(live: Rig) -> None:
    """A list of 10,001 entries shows 50 of them, the refund included, and how to list all."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    held = live.pay("succeeded", rows=(5.0,))
    paid = live.pay("succeeded")
    live.once()
    refund = live.box.stripe.refund(paid, 500)
    live.once()
    copy_payment(live, held, 9_999)
    begins = time.monotonic()
    done = live.command("attention")
    assert time.monotonic() - begins < 20
    heads = [line for line in done.stdout.splitlines() if re.match(r"(pi|re)_", line)]
    assert len(heads) == 50
    assert any(line.startswith(refund) for line in heads)
    assert "Listed 50 of 10,001 entries. To list all: syncd attention --all" in done.stdout
    everything = live.command("attention", "--all").stdout
    assert len(re.findall(r"(?m)^(?:pi|re)_", everything)) == 10_001
    assert len(json.loads(live.command("attention", "--json").stdout)) == 10_001
    retried = live.command("attention", "retry", "--all").stdout
    assert retried == "10,000 entries: syncd will retry at its next push\n"
