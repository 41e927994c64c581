"""`syncd prove`: writes one row on command, over HTTP to the sandbox; the question on a real terminal."""

import json
import re
import signal
from typing import Any

import pytest

from syncd.cli import shared
from syncd.core.records import Condition
from syncd.core.rules.proof import UpdateMode, WriteKind
from syncd.core.rules.proof_notes import read_proof, read_trouble
from syncd.sandbox import Fault
from tests.conftest import Rig
from tests.terminals import INTERRUPTED, on_terminal


@pytest.fixture
def fresh(live: Rig) -> Rig:
    """A tenant to which syncd has not written yet."""
    live.proven = False
    return live


def tenant(rig: Rig) -> str:
    return f"{rig.box.halo.url} {rig.box.halo.client_id}"


def proof(rig: Rig, kind: WriteKind = WriteKind.UPDATE) -> Any:
    return read_proof(rig.stored(lambda store: store.note(f"write_proof {kind}")), tenant(rig))


def trouble(rig: Rig, kind: WriteKind = WriteKind.UPDATE) -> Any:
    return read_trouble(rig.stored(lambda store: store.note(f"write_trouble {kind}")), tenant(rig))


def shown(text: str) -> str:
    """What a terminal shows, as one line without colours and frames."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[│┃┡━┩┏┳┓├┼┤─└┴┘]", " ", text).split())


def test_the_question(fresh: Rig) -> None:
    """On a terminal `prove` shows payment, row, invoice and the planned change, and asks; then the result."""
    named, other = fresh.pay("succeeded"), fresh.pay("succeeded")
    (row,) = fresh.box.halo.rows_of(named)
    no = on_terminal(fresh.environment(), fresh.folder, "prove", named, typed="n\n")
    assert no.code == 1
    assert fresh.posts() == []
    assert f"Payment {named}: Stripe says succeeded, 10.99 USD." in shown(no.text)
    assert f"Invoice {row['invoice_id']}" in no.text
    assert "Nothing was changed." in no.text
    assert fresh.condition(named) == Condition.DUE

    yes = on_terminal(fresh.environment(), fresh.folder, "prove", named, typed="y\n")
    assert yes.code == 0, yes.text
    assert "Proven: Halo stored what syncd sent, and nothing else of the row changed." in shown(
        yes.text
    )
    assert re.search(r"status +1 +3 +changed", shown(yes.text))
    assert re.search(r"amountdue +10\.99 +0(\.0)? +changed", shown(yes.text))
    assert "Halo's own record of the invoice's changes" in shown(yes.text)
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in yes.lines]
    assert max(len(line) for line in lines if "│" in line) <= 80
    found = proof(fresh)
    assert (found.intent_id, found.row_id, found.mode) == (named, row["id"], UpdateMode.CHANGES)
    assert [len(post.json()) for post in fresh.posts()] == [1]
    assert fresh.statuses(other) == [1]
    assert fresh.condition(named) == Condition.IN_STEP
    assert fresh.box.stripe.api_key not in yes.text
    assert "_secret_" not in yes.text


@pytest.mark.parametrize("path", ["/api/InvoicePayment", "/api/Invoice/"])
def test_interrupted_before_the_answer(fresh: Rig, path: str) -> None:
    """Ctrl-C while the command reads or asks: nothing is written, exit code 130, and the lease is free."""
    named = fresh.pay("succeeded")
    asked = fresh.box.halo.requests
    stopped = on_terminal(
        fresh.environment(),
        fresh.folder,
        "prove",
        named,
        when=lambda: any(one.path.startswith(path) for one in asked),
    )
    assert stopped.code == INTERRUPTED
    assert fresh.posts() == []
    assert fresh.command("prove", named, "--yes").returncode == 0


def test_a_signal_that_came_before_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C arrives as the last request ends, the command stops and does not ask the question."""
    monkeypatch.setattr(shared.stop_signals, "received", signal.SIGINT)
    for yes in (False, True):
        with pytest.raises(KeyboardInterrupt):
            shared.confirm("Write this to Halo?", yes=yes)


def test_another_process_pushes_during_the_question(fresh: Rig) -> None:
    """While the question waits for an answer, another process can push, and no row is sent twice."""
    named, other = fresh.pay("succeeded"), fresh.pay("succeeded")
    codes: list[int] = []

    def push() -> None:
        codes.append(fresh.command("--once").returncode)

    done = on_terminal(
        fresh.environment(),
        fresh.folder,
        "prove",
        named,
        typed="y\n",
        asked="[y/N]",
        meanwhile=push,
    )
    assert codes == [0]
    assert (fresh.statuses(named), fresh.statuses(other)) == ([3], [3])
    assert sorted(row["id"] for post in fresh.posts() for row in post.json()) == [1, 2]
    assert done.code == 1, done.text
    assert "the payment is in step" in shown(done.text)


def test_prove_says_what_it_does(fresh: Rig) -> None:
    """While `prove` waits for a slow Halo, it shows on the terminal what it is doing."""
    named = fresh.pay("succeeded")
    fresh.box.halo.faults.append(Fault("429", method="GET", path="InvoicePayment", retry_after=3))
    done = on_terminal(
        fresh.environment(), fresh.folder, "prove", named, typed="y\n", asked="[y/N]"
    )
    assert done.code == 0, done.text
    assert "Reading Stripe and Halo" in shown(done.text)
    assert "Writing and reading back" in shown(done.text)


def test_without_a_terminal(fresh: Rig) -> None:
    """Without a terminal, `prove` requires --yes, also with --json, and sends no request without it."""
    fresh.pay("succeeded")
    for more in ((), ("--json",)):
        done = fresh.command("prove", *more)
        assert done.returncode == 2
        assert "--yes" in done.stderr
    assert fresh.box.halo.requests == []
    assert fresh.box.stripe.requests == []


def test_the_simplest_payment(fresh: Rig) -> None:
    """Without an id, `prove` reads Stripe's events and writes only the payment with the fewest rows."""
    fresh.pay("succeeded", rows=(5.0, 5.99))
    simple = fresh.pay("succeeded")
    done = fresh.command("prove", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["intent_id"], told["verdict"], told["kind"]) == (simple, "proven", "update")
    (row,) = fresh.box.halo.rows_of(simple)
    assert told["before"]["rows"][str(row["id"])]["status"] == "1"
    assert told["after"]["rows"][str(row["id"])]["status"] == "3"
    assert {one["field"] for one in told["invoice_changes"]} >= {"amountdue", "amountpaid"}
    assert len(fresh.posts()) == 1

    again = fresh.command("prove", "--yes")
    assert again.returncode == 0
    assert f"with row {row['id']} of {simple}" in again.stdout
    assert len(fresh.posts()) == 1


@pytest.mark.parametrize(("number", "paid"), [("3", True), ("8", False)])
def test_the_number_for_succeeded(fresh: Rig, number: str, *, paid: bool) -> None:
    """The result says whether the invoice changed, so whether the number for succeeded is right."""
    fresh.pay("succeeded")
    extra = {"SYNCD_HALO__STATUS__SUCCEEDED": number}
    done = fresh.command("prove", "--yes", extra=extra)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert ("if it is paid now, the number in halo.status.succeeded is right" in words) is paid
    assert ("did not change. If it was open before" in words) is not paid
    checked = fresh.command("check", "--json", extra=extra).stdout
    [line] = [one for one in json.loads(checked)["lines"] if one["what"] == "status succeeded"]
    assert line["level"] == ("pass" if paid else "warn")
    assert ("when syncd prove wrote it" in line["text"]) is paid
    fresh.pay("succeeded")
    again = fresh.pay("succeeded")
    as_json = fresh.command("prove", again, "--yes", "--json", extra=extra)
    assert json.loads(as_json.stdout)["invoice_changed"] is paid


def test_a_failed_payment_proves_no_number_for_succeeded(fresh: Rig) -> None:
    """The proof of another state says nothing about the number for succeeded."""
    fresh.pay("payment_failed")
    done = fresh.command("prove", "--yes")
    assert done.returncode == 0, done.stderr
    assert "Proven" in done.stdout
    assert "halo.status.succeeded" not in done.stdout


def test_proven_again(fresh: Rig) -> None:
    """With an id, `prove` proves again; it refuses a payment in step, which would prove nothing."""
    first, second = fresh.pay("succeeded"), fresh.pay("succeeded")
    assert fresh.command("prove", first, "--yes").returncode == 0
    done = fresh.command("prove", second, "--yes")
    assert done.returncode == 0, done.stderr
    assert "Already proven" in done.stdout
    assert proof(fresh).intent_id == second
    none = fresh.command("prove", first, "--yes")
    assert none.returncode == 1
    assert "A write would prove nothing" in none.stdout
    assert len(fresh.posts()) == 2
    assert proof(fresh).intent_id == second


def test_nothing_due(fresh: Rig) -> None:
    """If no payment is due, `prove` shows the command that finds one and exits with 1."""
    done = fresh.command("prove", "--yes")
    assert done.returncode == 1
    assert "syncd --backfill 90d --dry-run" in done.stdout
    assert fresh.posts() == []


def test_a_tenant_that_empties(fresh: Rig) -> None:
    """If Halo empties columns, `prove` restores the row and says that syncd sends whole rows from now on."""
    named = fresh.pay("succeeded")
    before = dict(fresh.box.halo.rows_of(named)[0])
    fresh.box.halo.keeps.partial = "empty"
    done = fresh.command("prove", named, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "syncd sends whole rows" in " ".join(done.stdout.split())
    assert proof(fresh).mode is UpdateMode.EVERYTHING
    (row,) = fresh.box.halo.rows_of(named)
    assert (row["amount"], row["invoice_id"]) == (before["amount"], before["invoice_id"])


def test_a_tenant_that_drops(fresh: Rig) -> None:
    """Halo does not store the status: exit code 1, with the reason, the row's contents and how to retry."""
    named = fresh.pay("succeeded")
    fresh.box.halo.keeps.drops = frozenset({"status"})
    done = fresh.command("prove", named, "--yes")
    assert done.returncode == 1
    assert "Stopped (writes_not_stored)" in done.stdout
    assert "  amount: 10.99" in done.stdout
    assert f"syncd prove {named}" in done.stdout
    assert trouble(fresh).intent_id == named
    fresh.box.halo.keeps.drops = frozenset()
    assert fresh.command("prove", named, "--yes").returncode == 0
    assert trouble(fresh) is None


def test_one_refused_row_of_a_proven_tenant(fresh: Rig) -> None:
    """Once updates are proven, a row that Halo refuses fails only its payment: the proof stays valid."""
    good, bad = fresh.pay("succeeded"), fresh.pay("succeeded")
    assert fresh.command("prove", good, "--yes").returncode == 0
    fresh.box.halo.poison(bad, "The accounting period is closed.")
    done = fresh.command("prove", bad, "--yes")
    assert done.returncode == 1
    assert "The accounting period is closed." in done.stdout
    assert proof(fresh).intent_id == good
    assert trouble(fresh) is None
    assert fresh.condition(bad) == Condition.FAILED


def test_a_new_row(fresh: Rig) -> None:
    """--insert needs push.create_missing; `prove` then creates one new row and reads it back."""
    invoice = fresh.box.halo.add_invoice(total=10.99)
    named = fresh.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    refused = fresh.command("prove", named, "--insert", "--yes")
    assert refused.returncode == 78
    assert "push.create_missing" in refused.stderr
    fresh.settings |= {
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__NEW_ROW__METHOD": "12",
        "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
    }
    other = fresh.command("prove", named, "--yes")
    assert other.returncode == 1
    assert f"syncd prove --insert {named}" in " ".join(other.stdout.split())
    done = fresh.command("prove", named, "--insert", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Xero or QuickBooks" in done.stdout
    assert "Proven" in done.stdout
    (row,) = fresh.box.halo.rows_of(named)
    assert (row["invoice_id"], row["method"], row["module_id"]) == (invoice, 12, 231)
    assert proof(fresh, WriteKind.INSERT).row_id == row["id"]
    assert fresh.condition(named) == Condition.IN_STEP


def test_a_side_that_fails(fresh: Rig) -> None:
    """If Halo is down, `prove` exits with 69 and writes nothing; for an unknown payment it exits with 1."""
    named = fresh.pay("succeeded")
    unknown = fresh.command("prove", "pi_nobody", "--yes")
    assert unknown.returncode == 1
    assert "pi_nobody" in unknown.stderr
    fresh.box.halo.faults.append(Fault("500", times=None))
    done = fresh.command("prove", named, "--yes")
    assert done.returncode == 69
    assert fresh.posts() == []
    assert proof(fresh) is None


@pytest.mark.parametrize("wrong", ["ch_1", "pi_1_secret_x"])
def test_a_wrong_id(fresh: Rig, wrong: str) -> None:
    """`prove` refuses an id that is not a payment intent's, before any request to Stripe."""
    done = fresh.command("prove", wrong, "--yes")
    assert done.returncode == 2
    assert fresh.box.stripe.requests == []
