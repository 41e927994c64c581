"""syncd sends the first write to a tenant alone and reads the row back: each behaviour of Halo, over HTTP."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from syncd.config.model import Push
from syncd.core.errors import LinkFailure
from syncd.core.holds import HoldCode
from syncd.core.records import Condition
from syncd.core.rules.proof import UpdateMode, WriteKind
from syncd.core.rules.proof_notes import read_proof, read_trouble
from syncd.sandbox import Fault, SandboxHalo
from syncd.sandbox.halo.tenant import NEVER
from syncd.sync.push.proof.reading import RowReader
from syncd.sync.push.proof.verify import Verifier
from syncd.sync.push.update import HELD_BACK_MAX
from tests.conftest import Rig
from tests.test_process import until

KEPT = (
    "invoice_id", "date", "amount", "method", "module_id", "intent_id", "intent_date", "client_id",
    "thirdpartyid", "reference", "type", "posted", "dateposted",
)  # fmt: skip

READS_BACK = 2
"""How often syncd reads a row back if the update did not change the row."""

CHANGED = {"id", "status", "webhook_payload", "webhook_received_date"}


Rows = dict[int, dict[str, Any]]
"""Rows of Halo by their ids."""

Paid = tuple[Rig, list[str], Rows]
"""A rig with payments that succeeded, their ids, and their rows as they were."""

Missing = tuple[Rig, list[str]]
"""A rig with payments that need a new row, and their ids."""


@pytest.fixture
def paid(rig: Rig) -> Paid:
    """Thirty payments that succeeded, and a copy of their rows before any write."""
    rig.proven = False
    intents = [rig.pay("succeeded") for _ in range(30)]
    for row in rig.box.halo.rows.values():
        row.update(thirdpartyid=f"x-{row['id']}", reference=f"R-{row['id']}")
    return rig, intents, copy.deepcopy(rig.box.halo.rows)


def proven_with_whole_rows(rig: Rig) -> None:
    """Let a first update prove that this tenant needs whole rows."""
    rig.proven = False
    rig.pay("succeeded")
    rig.box.halo.keeps.partial = "refuse"
    rig.once()


def watch(halo: SandboxHalo, look: Callable[[Any], bool]) -> None:
    """Call a function with each request to Halo, before Halo answers it."""
    halo.faults.append(Fault("500", times=None, match=look))


def tenant(rig: Rig) -> str:
    return f"{rig.box.halo.url} {rig.box.halo.client_id}"


def proof(rig: Rig, kind: WriteKind = WriteKind.UPDATE) -> Any:
    return read_proof(rig.stored(lambda store: store.note(f"write_proof {kind}")), tenant(rig))


def trouble(rig: Rig, kind: WriteKind = WriteKind.UPDATE) -> Any:
    return read_trouble(rig.stored(lambda store: store.note(f"write_trouble {kind}")), tenant(rig))


def harmed(rig: Rig, before: Rows) -> dict[int, list[str]]:
    """The columns that changed in each row, except those that syncd writes."""
    return {
        name: bad
        for name, row in rig.box.halo.rows.items()
        if (bad := [k for k in KEPT if (row.get(k) or None) != (before[name].get(k) or None)])
    }


def written(rig: Rig) -> list[list[int]]:
    """The ids of the rows in each POST."""
    return [[row["id"] for row in post.json()] for post in rig.posts()]


def empties_late(halo: SandboxHalo) -> None:
    """Halo empties columns that an update leaves out; the first update times out and is applied later."""
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault("applied_late", times=1, method="POST", path="/api/InvoicePayment", seconds=1)
    )


def test_one_row_first(paid: Paid) -> None:
    """The first row goes alone, and syncd reads it and its invoice back; then all others go in lists."""
    rig, intents, before = paid
    rig.once()
    first, *others = written(rig)
    assert len(first) == 1
    assert sorted(row for post in others for row in post) == sorted(set(before) - set(first))
    asked = [(r.method, r.path) for r in rig.box.halo.requests]
    posts = [place for place, one in enumerate(asked) if one == ("POST", "/api/InvoicePayment")]
    alone = ("GET", f"/api/InvoicePayment/{first[0]}")
    assert alone in asked[: posts[0]]
    assert alone in asked[posts[0] : posts[1]]
    invoice = before[first[0]]["invoice_id"]
    assert asked.count(("GET", f"/api/Invoice/{invoice}")) == 2
    found = proof(rig)
    assert (found.row_id, found.invoice_id, found.mode) == (first[0], invoice, UpdateMode.CHANGES)
    assert {one.name for one in found.invoice} >= {"amountdue", "amountpaid"}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert harmed(rig, before) == {}
    (line,) = rig.told.events("write_proven")
    assert (line["row"], line["mode"]) == (first[0], "changes")


def test_a_tenant_that_empties(paid: Paid) -> None:
    """Halo empties columns that an update leaves out: syncd restores the row, then sends whole rows."""
    rig, intents, before = paid
    rig.box.halo.keeps.partial = "empty"
    rig.once()
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert [len(post) for post in written(rig)[:2]] == [1, 1]
    assert {tuple(rig.statuses(name)) for name in intents} == {(3,)}


@pytest.mark.parametrize("partial", ["empty", "refuse"])
def test_a_tenant_that_shows_numbers_as_text(paid: Paid, partial: str) -> None:
    """Halo shows amounts and numbers as text but accepts only numbers: syncd sends numbers in whole rows."""
    rig, intents, _ = paid
    for row in rig.box.halo.rows.values():
        row.update(amount="10.99", method="12", module_id="231", invoice_id=row["invoice_id"])
    rig.box.halo.keeps.partial = partial
    rig.once()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert {tuple(rig.statuses(name)) for name in intents} == {(3,)}
    assert {float(row["amount"]) for row in rig.box.halo.rows.values()} == {10.99}
    whole = [row for post in rig.posts() for row in post.json() if "amount" in row]
    assert {(row["amount"], row["method"], row["module_id"]) for row in whole} == {(10.99, 12, 231)}
    assert rig.attention() == []


def test_a_tenant_that_refuses(paid: Paid) -> None:
    """Halo refuses an update without the required columns: syncd adds them, in this and all other rows."""
    rig, intents, before = paid
    rig.box.halo.keeps.partial = "refuse"
    rig.once()
    assert proof(rig).mode is UpdateMode.REQUIRED
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_required_columns_are_not_enough(paid: Paid) -> None:
    """Halo demands required columns and empties all others that are left out: syncd sends whole rows."""
    rig, intents, _ = paid
    for number, row in rig.box.halo.rows.items():
        row.update(reference=f"R-{number}", thirdpartyid=f"x-{number}", posted=True)
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "refuse"
    rig.box.halo.keeps.empties = frozenset({"reference", "thirdpartyid", "posted", "dateposted"})
    rig.once()
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


@pytest.mark.parametrize("posted", [False, True, None])
def test_what_the_accounting_sync_sets_is_kept(paid: Paid, posted: bool | None) -> None:
    """Halo empties the columns that an update leaves out: syncd keeps `posted` and `dateposted`."""
    rig, intents, _ = paid
    for row in rig.box.halo.rows.values():
        row.update(posted=posted, dateposted="2026-11-20T10:00:00" if posted else NEVER)
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.once()
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_retry_harms_no_other_row(paid: Paid) -> None:
    """Each retry uses the row that is already damaged; syncd restores it once Halo accepts the write."""
    rig, intents, before = paid
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.keeps.drops = frozenset({"amount"})
    rig.once()
    first = trouble(rig)
    for _ in range(3):
        assert rig.command("attention", "retry", "writes_have_side_effects").returncode == 0
        rig.cycle()
        rig.clock.seconds += 90_000
        rig.cycle()
    assert list(harmed(rig, before)) == [first.row_id]
    assert {row for post in written(rig) for row in post} == {first.row_id}
    found = trouble(rig)
    assert (found.row_id, found.before) == (first.row_id, first.before)
    assert found.reason.count("Later, syncd sent row") == 1
    rig.box.halo.keeps.drops = frozenset()
    rig.clock.seconds += 90_000
    rig.cycle()
    assert harmed(rig, before) == {}
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert rig.attention() == []
    rig.sweep()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_what_a_person_filled_in_stays(paid: Paid) -> None:
    """A person corrects a damaged row before the retry: syncd keeps the correction, and the entry stays."""
    rig, _, before = paid
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.keeps.drops = frozenset({"amount"})
    rig.once()
    number = trouble(rig).row_id
    rig.box.halo.keeps.drops = frozenset()
    rig.box.halo.rows[number]["amount"] = 12.5
    rig.clock.seconds += 90_000
    rig.cycle()
    assert rig.box.halo.rows[number]["amount"] == 12.5
    assert harmed(rig, before) == {number: ["amount"]}
    assert proof(rig) is not None
    (entry,) = [one for one in rig.attention() if one.kind == "tenant"]
    assert entry.id == f"row_{number}"
    assert "amount: 10.99" in entry.reason
    assert f"syncd attention dismiss row_{number}" in entry.reason
    assert rig.command("attention", "dismiss", f"row_{number}").returncode == 0
    assert not [one for one in rig.attention() if one.kind == "tenant"]


def test_a_tenant_that_drops(paid: Paid) -> None:
    """Halo's answer shows the new status, the row does not: syncd stops all updates and logs why."""
    rig, intents, before = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    rig.once()
    found = trouble(rig)
    assert found.code == "writes_not_stored"
    assert {row for post in written(rig) for row in post} == {found.row_id}
    assert len(written(rig)) == 2  # with the new status alone, and with all columns
    assert harmed(rig, before) == {}
    assert "status (sent: 3, found: 1)" in found.reason
    assert {rig.condition(name) for name in intents} == {Condition.DUE}
    (line,) = rig.told.events("writes_stopped")
    assert line["code"] == "writes_not_stored"


@pytest.mark.parametrize("status", [403, 429])
def test_a_first_update_that_is_not_stored_is_finished_first(paid: Paid, status: int) -> None:
    """Halo does not store the first update and refuses the next one: syncd tries no other row."""
    rig, _intents, _before = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.box.halo.faults.append(
        Fault(str(status), times=9, method="POST", path="/api/InvoicePayment", after=1)
    )
    rig.cycle()
    first = rig.posts()[0].json()[0]["id"]
    rig.pay("succeeded")  # a newer payment, which a new process would try first
    rig.box.halo.faults.clear()
    rig.clock.seconds += 600
    rig.once()
    assert {row for post in written(rig) for row in post} == {first}
    assert trouble(rig).code == "writes_not_stored"


def test_the_tenant_is_remembered_after_its_row_was_restored(paid: Paid) -> None:
    """After syncd has restored a damaged row, Halo refuses all other rows: no retry damages a row."""
    rig, _, before = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.keeps.drops = frozenset({"amount"})
    rig.once()
    number = trouble(rig).row_id
    halo.keeps.drops = frozenset()
    for row in before:
        if row != number:
            halo.poison(row, "This row is locked.")
    halo.keeps.drops = frozenset({"status"})
    rig.clock.seconds += 90_000
    rig.cycle()
    assert harmed(rig, before) == {}
    for _ in range(2):
        rig.clock.seconds += 90_000
        rig.cycle()
    assert trouble(rig).code in {"writes_refused", "writes_not_stored"}
    for row in before:
        halo.unpoison(row)
    rig.clock.seconds += 90_000
    posts = len(rig.posts())
    rig.cycle()
    assert harmed(rig, before) == {}
    assert all("amount" in row for post in rig.posts()[posts:] for row in post.json())


def test_harm_that_cannot_be_undone(paid: Paid) -> None:
    """Halo does not store the amount that syncd restores: one row is damaged, and syncd stops all updates."""
    rig, _, before = paid
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.keeps.drops = frozenset({"amount"})
    for row in rig.box.halo.rows.values():
        row["amount"] = 10.99
    rig.once()
    rig.cycle()
    found = trouble(rig)
    assert found.code == "writes_have_side_effects"
    assert harmed(rig, before) == {found.row_id: ["amount"]}
    assert found.before["amount"] == "10.99"
    assert {row for post in written(rig) for row in post} == {found.row_id}


def test_a_tenant_that_refuses_everything(paid: Paid) -> None:
    """Halo refuses three payments in both ways: syncd blames the tenant, and no payment counts as failed."""
    rig, intents, before = paid
    for name in before:
        rig.box.halo.poison(name, "No more writing here.")
    rig.once()
    found = trouble(rig)
    assert found.code == "writes_refused"
    assert len(found.tried) == 3
    assert "No more writing here." in found.reason
    assert {rig.condition(name) for name in intents} == {Condition.DUE}


def test_one_payment_that_is_refused(paid: Paid) -> None:
    """If Halo refuses one payment, syncd proves updates with another and blames only that payment."""
    rig, intents, before = paid
    newest = max(before)
    rig.box.halo.poison(newest, "This row is locked.")
    rig.box.halo.poison(min(before), "This row is locked.")
    rig.once()
    assert proof(rig) is not None
    failed = [name for name in intents if rig.condition(name) is Condition.FAILED]
    assert len(failed) == 2
    assert trouble(rig) is None


def test_tried_again_once_a_day(paid: Paid) -> None:
    """After a stop syncd writes nothing for a day, and then tries again."""
    rig, intents, _ = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    posts, asked = len(rig.posts()), len(rig.box.halo.requests)
    rig.clock.seconds += 3_600
    rig.cycle()
    assert len(rig.posts()) == posts
    asked_rows = [r for r in rig.box.halo.requests[asked:] if "InvoicePayment" in r.path]
    assert len(asked_rows) <= 1
    rig.box.halo.keeps.drops = frozenset()
    rig.clock.seconds += 86_400
    rig.cycle()
    assert proof(rig) is not None
    assert trouble(rig) is None
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_stop_holds_on_a_host_whose_clock_is_behind(paid: Paid) -> None:
    """A second host whose clock is hours behind does not retry before the stop ends."""
    rig, _, _ = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    sent = len(rig.posts())
    rig.clock.seconds -= 21_600
    rig.cycle()
    assert len(rig.posts()) == sent


def test_tried_again_after_a_change_of_the_configuration(paid: Paid) -> None:
    """A change of the configuration, here push.trace, makes syncd retry at once."""
    rig, intents, _ = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    rig.box.halo.keeps.drops = frozenset()
    rig.settings["SYNCD_PUSH__TRACE"] = "false"
    rig.once()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_trace_that_is_not_stored(paid: Paid) -> None:
    """Halo stores the status but not the trace: updates are proven, and syncd sends no more traces."""
    rig, intents, _ = paid
    rig.box.halo.keeps.drops = frozenset({"webhook_payload"})
    rig.once()
    assert not proof(rig).trace
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert "webhook_payload" not in rig.posts()[1].json()[0]


@pytest.mark.parametrize("kind", ["401", "403", "404", "400", "html"])
def test_a_row_that_cannot_be_read_alone(paid: Paid, kind: str) -> None:
    """If Halo does not show a single row, syncd uses Halo's list of the payment's rows for the proof."""
    rig, intents, before = paid
    status = 404 if kind == "404" else None
    alone = Fault(
        "403" if kind == "404" else kind,
        times=None,
        method="GET",
        path="/api/InvoicePayment/",
        body=b"" if kind == "404" else None,
        status=status,
    )
    rig.box.halo.faults.append(alone)
    rig.box.halo.keeps.partial = "empty"
    rig.once()
    assert not proof(rig).alone
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


@pytest.mark.parametrize("body", [b"[]", b'{"payments": []}', b'{"id": 999999}'])
def test_another_answer_than_a_row(paid: Paid, body: bytes) -> None:
    """Halo answers something else than the row that was asked for: the list of its payment counts."""
    rig, intents, before = paid
    rig.box.halo.faults.append(
        Fault("200", times=None, method="GET", path="/api/InvoicePayment/", body=body)
    )
    rig.once()
    assert not proof(rig).alone
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


@pytest.mark.parametrize("kind", ["401", "403", "html"])
def test_a_row_that_its_list_no_longer_shows(paid: Paid, kind: str) -> None:
    """Rows are shown in lists only, and the first update empties intent_id: syncd restores that row."""
    rig, intents, before = paid
    rig.box.halo.faults.append(Fault(kind, times=None, method="GET", path="/api/InvoicePayment/"))
    rig.box.halo.keeps.empties = frozenset({"intent_id", "amount", "reference"})
    rig.once()
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_restart_before_an_emptied_row_is_read_back_in_its_list(paid: Paid) -> None:
    """Rows are shown in lists only: after a restart, syncd still restores the row that it emptied."""
    rig, intents, before = paid
    halo = rig.box.halo
    halo.faults.append(Fault("401", times=None, method="GET", path="/api/InvoicePayment/"))
    halo.keeps.empties = frozenset({"intent_id", "amount", "reference"})
    # Right after the first update, Halo shows nothing: the process ends before it has read the row back.
    halo.faults.insert(0, Fault("500", times=None, method="GET", match=lambda _: bool(rig.posts())))
    rig.cycle()
    assert len(rig.posts()) == 1
    del halo.faults[0]
    for _ in range(3):
        rig.clock.seconds += 400
        rig.cycle()
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_row_that_its_list_never_shows_again(paid: Paid) -> None:
    """If intent_id is emptied whatever is sent, one row is at risk, and a person gets its contents."""
    rig, intents, before = paid
    halo = rig.box.halo
    halo.faults.append(Fault("401", times=None, method="GET", path="/api/InvoicePayment/"))
    halo.keeps.empties = frozenset({"intent_id"})
    halo.keeps.drops = frozenset({"intent_id"})
    rig.once()
    rig.once()
    assert len(harmed(rig, before)) == 1
    [entry] = [line for line in rig.attention() if line.kind == "tenant"]
    assert entry.code == "writes_have_side_effects"
    assert any(name in entry.reason for name in intents)


@pytest.mark.parametrize("kind", ["403", "html", "400"])
def test_an_invoice_that_cannot_be_read(paid: Paid, kind: str) -> None:
    """If Halo does not show the invoice, updates are proven without the invoice."""
    rig, intents, _ = paid
    rig.box.halo.faults.append(Fault(kind, times=None, path="/api/Invoice/"))
    rig.once()
    assert proof(rig).invoice == ()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


@pytest.mark.parametrize("shape", ["empty", "no_json", "error_in_200", "other_rows"])
def test_answers_without_rows(paid: Paid, shape: str) -> None:
    """If Halo's answer lists no rows or other rows, syncd reads the rows back and proves updates."""
    rig, intents, _ = paid
    rig.box.halo.answer_shape = shape
    rig.once()
    assert proof(rig) is not None
    assert {tuple(rig.statuses(name)) for name in intents} == {(3,)}
    lines = rig.told.events("pushed")
    assert {line["intent"] for line in lines} == set(intents)
    assert {tuple(line["old"]) for line in lines} == {
        ("status 1",)
    }  # also if syncd reads the row back


PROOFLESS = [(202, b""), (204, b""), (200, b"null"), (202, b"null"), (201, b"{}")]


def proofless(rig: Rig, status: int, body: bytes, *, applied: bool) -> None:
    """From now on Halo gives this answer to each write; Halo stores the write only if `applied`."""
    rig.box.halo.faults.append(
        Fault(
            "500_after" if applied else "500",
            times=None,
            method="POST",
            path="InvoicePayment",
            body=body,
            status=status,
        )
    )


@pytest.mark.parametrize(("status", "body"), PROOFLESS)
def test_answers_that_prove_nothing(paid: Paid, status: int, body: bytes) -> None:
    """Halo answers 202, 204 or null: syncd reads every row back and logs each payment as pushed once."""
    rig, intents, _ = paid
    proofless(rig, status, body, applied=True)
    rig.once()
    assert proof(rig) is not None
    assert {tuple(rig.statuses(name)) for name in intents} == {(3,)}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert sorted(line["intent"] for line in rig.told.events("pushed")) == sorted(intents)
    assert pushes(rig) == {"updated": 30.0}
    assert rig.attention() == []


@pytest.mark.parametrize(("status", "body"), PROOFLESS)
def test_answers_that_prove_nothing_and_store_nothing(paid: Paid, status: int, body: bytes) -> None:
    """If Halo answers 202, 204 or null and stores nothing, syncd stops with one entry and one log line."""
    rig, intents, _ = paid
    proofless(rig, status, body, applied=False)
    rig.once()
    assert trouble(rig).code == "writes_not_stored"
    assert [(line.id, line.kind) for line in rig.attention()] == [("writes_not_stored", "tenant")]
    assert len(rig.told.events("writes_stopped")) == 1
    assert {rig.condition(name) for name in intents} == {Condition.DUE}
    sent = len(rig.posts())
    rig.clock.seconds += 600
    rig.cycle()
    assert len(rig.posts()) == sent


@pytest.mark.parametrize(("status", "body"), PROOFLESS)
def test_a_proven_tenant_that_stores_nothing_more(rig: Rig, status: int, body: bytes) -> None:
    """Once updates are proven, a write that Halo does not store is listed, counted and logged once."""
    payment = rig.pay("succeeded")
    proofless(rig, status, body, applied=False)
    rig.once()
    rig.once()
    assert [(line.id, line.code) for line in rig.attention()] == [(payment, "halo_refuses")]
    assert [line["intent"] for line in rig.told.events("push_failed")] == [payment]
    assert pushes(rig) == {"failed": 1.0}


def pushes(rig: Rig) -> dict[str, float]:
    """The counter of pushes, by outcome."""
    text = rig.told.page({}, 0, {}).decode()
    found = re.findall(r'^syncd_pushes_total\{outcome="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {outcome: float(number) for outcome, number in found if float(number)}


def test_web_pages_prove_nothing(paid: Paid) -> None:
    """A sign-in page instead of Halo's answer is no evidence: syncd sends no whole row and does not stop."""
    rig, intents, before = paid
    page = Fault("html", times=None, method="POST", path="InvoicePayment")
    rig.box.halo.faults.append(page)
    rig.cycle()
    assert trouble(rig) is None
    assert proof(rig) is None
    assert all(set(row) <= CHANGED for post in rig.posts() for row in post.json())
    rig.box.halo.faults.clear()
    for _ in range(3):
        rig.clock.seconds += 600
        rig.cycle()
    assert proof(rig).mode is UpdateMode.CHANGES
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_an_error_in_an_answer_of_success(paid: Paid) -> None:
    """If Halo answers 200 with an error and did not change the row, only this payment counts as refused."""
    rig, intents, _ = paid
    rig.box.halo.faults.append(Fault("200", times=2, method="POST", path="InvoicePayment"))
    rig.once()
    assert trouble(rig) is None
    assert proof(rig).mode is UpdateMode.CHANGES
    (entry,) = rig.attention()  # refused once, and not sent again in the same push
    assert (entry.condition, entry.attempts) == ("failed", 1)
    rig.clock.seconds += 700
    rig.cycle()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_row_that_is_deleted_meanwhile(paid: Paid) -> None:
    """A person deletes the row between the write and the read: syncd proves updates with another payment."""
    rig, _, _ = paid
    halo = rig.box.halo

    def gone(request: Any) -> bool:
        if request.method == "GET" and rig.posts() and len(halo.writes) == 1:
            halo.rows.pop(halo.writes[0][0], None)
        return False

    watch(halo, gone)
    rig.once()
    assert proof(rig) is not None
    assert trouble(rig) is None


def test_a_status_that_is_set_while_the_row_is_read(rig: Rig) -> None:
    """Halo's row becomes paid between the decision and the read: syncd does not write the older state."""
    rig.proven = False
    intent = rig.pay("processing")
    halo = rig.box.halo
    (row,) = halo.rows_of(intent)

    def paid_meanwhile(_request: object) -> bool:
        row.update(status=halo.status["succeeded"])
        return False

    halo.faults.append(
        Fault("503", times=1, path=f"/api/InvoicePayment/{row['id']}", match=paid_meanwhile)
    )
    rig.cycle()
    rig.cycle()
    assert rig.posts() == []
    assert rig.statuses(intent) == [halo.status["succeeded"]]


def test_a_row_that_shows_no_status_alone(paid: Paid) -> None:
    """Halo shows a single row without its status: syncd tries one row, then stops with one entry."""
    rig, intents, _ = paid
    rig.box.halo.shows.alone_hides = frozenset({"status"})
    rig.once()
    assert len({row for post in written(rig) for row in post}) == 1
    assert trouble(rig).code == "writes_not_stored"
    assert [(line.id, line.kind) for line in rig.attention()] == [("writes_not_stored", "tenant")]
    assert {rig.condition(name) for name in intents} == {Condition.DUE}


def test_a_change_between_two_first_writes_holds_up_nobody(paid: Paid) -> None:
    """Halo refuses the first update and a person changes that row: another row proves updates at once."""
    rig, intents, _ = paid
    halo = rig.box.halo
    halo.keeps.partial = "refuse"

    def person(_request: object) -> bool:
        if len(rig.posts()) == 1:
            halo.rows[rig.posts()[0].json()[0]["id"]].update(status=5)
        return False

    halo.faults.append(Fault("500", times=None, method="POST", match=person))
    rig.once()
    assert proof(rig).mode is UpdateMode.REQUIRED
    changed = rig.posts()[0].json()[0]["id"]
    others = {name for name in intents if changed not in {r["id"] for r in halo.rows_of(name)}}
    assert len(others) == 29
    assert {rig.condition(name) for name in others} == {Condition.IN_STEP}


def sets_the_row_before_the_second_write(rig: Rig) -> None:
    """Halo drops the status of the first update, and a person changes the row before the second."""
    halo = rig.box.halo
    halo.keeps.drops = frozenset({"status"})
    read_back: list[object] = []

    def person(request: Any) -> bool:
        if len(rig.posts()) == 1 and request.path.rpartition("/")[2].isdigit():
            read_back.append(request)
            if len(read_back) == READS_BACK + 1:  # right before the second write
                halo.rows[halo.writes[0][0]].update(status=5)
        return False

    halo.faults.append(Fault("500", times=None, method="GET", match=person))


def test_others_wait_for_a_first_update_without_reading_again(paid: Paid) -> None:
    """Halo drops the first update and a person changes the row: the next push reads Halo's list once."""
    rig, intents, _ = paid
    halo = rig.box.halo
    sets_the_row_before_the_second_write(rig)
    rig.cycle()
    assert len(rig.posts()) == 1
    halo.faults.clear()
    halo.keeps.drops = frozenset()
    known = len(halo.requests)
    rig.clock.seconds += 10
    rig.cycle()
    asked = [r.method for r in halo.requests[known:] if r.path == "/api/InvoicePayment"]
    assert asked == ["GET"]
    rig.clock.seconds += 120
    rig.cycle()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_single_run_ends_where_others_wait_for_a_first_update(paid: Paid) -> None:
    """`syncd --once` does not push again and again: it reports that all payments wait for the first update."""
    rig, _, _ = paid
    sets_the_row_before_the_second_write(rig)
    with pytest.raises(LinkFailure, match="has not stored the first update"):
        rig.once()
    assert len(rig.box.halo.requests) < 30
    assert len(rig.posts()) == 1


def test_a_row_that_is_deleted_right_before_the_first_write(paid: Paid) -> None:
    """A person deletes the row before the first write: syncd does not send it, the payment stays due."""
    rig, intents, _ = paid
    halo = rig.box.halo

    def gone(request: Any) -> bool:
        number = request.path.rpartition("/")[2]
        if (
            request.method == "GET"
            and number.isdigit()
            and not halo.writes
            and len(halo.rows) == 30
        ):
            halo.rows.pop(int(number))
        return False

    watch(halo, gone)
    rig.once()
    assert proof(rig) is not None
    (deleted,) = [name for name in intents if not halo.rows_of(name)]
    assert rig.condition(deleted) is Condition.DUE
    assert {row for post in written(rig) for row in post} == set(halo.rows)
    assert len(written(rig)) == 2
    assert rig.told.events("push_failed") == []
    assert {rig.condition(name) for name in intents if name != deleted} == {Condition.IN_STEP}


def test_a_webhook_at_the_same_moment(paid: Paid) -> None:
    """Halo's own webhook writes another status right after syncd: updates are still proven."""
    rig, _, _ = paid
    halo = rig.box.halo

    def other(request: Any) -> bool:
        if request.method == "GET" and len(halo.writes) == 1:
            halo.rows[halo.writes[0][0]].update(status=5, webhook_payload='{"id": "evt_other"}')
        return False

    watch(halo, other)
    rig.once()
    assert trouble(rig) is None
    assert proof(rig) is not None


@pytest.mark.parametrize("partial", ["merge", "empty", "refuse"])
@pytest.mark.parametrize("kind", ["reset", "504_after", "500"])
def test_halo_fails_while_the_row_is_read_back(paid: Paid, partial: str, kind: str) -> None:
    """If Halo fails while syncd reads the first row back, a later push completes the proof."""
    rig, intents, before = paid
    halo = rig.box.halo
    halo.keeps.partial = partial
    broken = Fault(
        kind,
        times=40,
        method="GET",
        path="/api/InvoicePayment/",
        match=lambda _: len(halo.writes) == 1,
    )
    halo.faults.append(broken)
    rig.cycle()
    halo.faults.clear()
    for _ in range(4):
        rig.clock.seconds += 600
        rig.cycle()
    assert harmed(rig, before) == {}
    assert proof(rig) is not None
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def _whole(request: Any) -> bool:
    """Whether a request sends rows with all their columns."""
    return request.method == "POST" and any("amount" in row for row in request.json())


@pytest.mark.parametrize("kind", ["503", "429", "reset", "504", "504_after"])
def test_harm_is_undone_later(paid: Paid, kind: str) -> None:
    """Halo fails when syncd sends the whole row to restore it: a later push restores the row."""
    rig, intents, before = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault(kind, times=40, method="POST", path="/api/InvoicePayment", match=_whole)
    )
    rig.cycle()
    halo.faults.clear()
    for _ in range(4):
        rig.clock.seconds += 600
        rig.cycle()
    assert harmed(rig, before) == {}
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_another_state_while_harm_is_undone(rig: Rig) -> None:
    """A payment succeeds before syncd restores its emptied row: the row shows the newer state at the end."""
    rig.proven = False
    halo, intent = rig.box.halo, rig.pay("processing")
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault("503", times=40, method="POST", path="/api/InvoicePayment", match=_whole)
    )
    rig.cycle()
    halo.faults.clear()
    rig.clock.seconds += 600
    rig.box.stripe.advance(intent, "succeeded")
    rig.cycle()
    assert rig.statuses(intent) == [halo.status["succeeded"]]
    assert rig.condition(intent) is Condition.IN_STEP


def test_an_emptied_row_that_is_not_shown_once(paid: Paid) -> None:
    """Halo once refuses to show the emptied row: syncd does not treat the row as deleted, and restores it."""
    rig, _, before = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault(
            "400", method="GET", path="/api/InvoicePayment/", match=lambda _: len(halo.writes) == 1
        )
    )
    rig.once()
    assert harmed(rig, before) == {}
    assert proof(rig).mode is UpdateMode.EVERYTHING


def test_whole_row_is_refused_after_harm(paid: Paid) -> None:
    """Halo empties a row and refuses the whole row: syncd stops all updates and keeps the former contents."""
    rig, _, before = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault("400", times=None, method="POST", path="/api/InvoicePayment", match=_whole)
    )
    rig.once()
    rig.cycle()
    found = trouble(rig)
    assert found.code == "writes_have_side_effects"
    assert list(harmed(rig, before)) == [found.row_id]
    assert found.before["amount"] == "10.99"
    assert {row for post in written(rig) for row in post} == {found.row_id}


def test_it_stays_proven(paid: Paid) -> None:
    """A proven Halo empties rows: at most one list is damaged; syncd revokes the proof, restores the rows."""
    rig, _, _ = paid
    rig.once()
    late = [rig.pay("succeeded") for _ in range(120)]
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.once()
    assert proof(rig) is None
    found = trouble(rig)
    assert found.code == "writes_have_side_effects"
    assert len(harmed(rig, before)) <= Push().batch
    some = next(iter(harmed(rig, before)))
    assert "amount 10.99" in found.before[f"row {some}"]
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP, Condition.DUE}
    rig.clock.seconds += 90_000
    rig.cycle()
    assert harmed(rig, before) == {}, "each row of that list has its former contents"
    (entry,) = [one for one in rig.attention() if one.kind == "tenant"]
    assert "syncd restored" in entry.reason
    for _ in range(3):
        rig.cycle()
    rig.sweep()
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP}
    assert harmed(rig, before) == {}


@pytest.mark.parametrize("shape", ["rows", "empty", "no_json"])
def test_a_whole_list_is_restored(paid: Paid, shape: str) -> None:
    """Halo starts to empty rows, whatever its answer lists: syncd restores every row of the list."""
    rig, _, _ = paid
    rig.settings["SYNCD_PUSH__BATCH"] = "3"
    rig.once()
    late = [rig.pay("succeeded") for _ in range(6)]
    for number, row in rig.box.halo.rows.items():
        row["reference"] = f"ref-{number}"
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.answer_shape = shape
    rig.once()
    lost = harmed(rig, before)
    assert 1 <= len(lost) <= 3
    assert set(trouble(rig).rows) >= set(lost)
    assert rig.command("attention", "retry", "writes_have_side_effects").returncode == 0
    rig.cycle()
    assert harmed(rig, before) == {}
    for _ in range(3):
        rig.clock.seconds += 400
        rig.cycle()
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP}
    assert [rig.statuses(name) for name in late] == [[3]] * 6


def test_harm_that_an_answer_shows_of_one_row_only(paid: Paid) -> None:
    """Halo empties all rows of a payment and shows one in its answer: syncd finds and restores all."""
    rig, _, _ = paid
    rig.once()
    name = rig.pay("canceled", rows=(3.0, 3.0, 4.99))
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.answer_shape = "bare_object"
    rig.once()
    assert len(harmed(rig, before)) == 3
    assert set(trouble(rig).rows) == set(harmed(rig, before))
    assert rig.attention()[0].kind == "tenant"
    rig.clock.seconds += 90_000
    for _ in range(3):
        rig.cycle()
        rig.clock.seconds += 400
    assert harmed(rig, before) == {}
    assert set(rig.statuses(name)) == {rig.box.halo.status["canceled"]}


def test_a_restoration_that_halo_carries_out_late(paid: Paid) -> None:
    """Rows are restored one at a time; while Halo may still apply one late, syncd writes nothing else."""
    rig, _, _ = paid
    rig.settings["SYNCD_PUSH__BATCH"] = "3"
    rig.once()
    late = [rig.pay("processing") for _ in range(6)]
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.once()
    lost = set(harmed(rig, before))
    rig.clock.seconds += 90_000
    rig.box.halo.faults.append(
        Fault("504", method="POST", path="/api/InvoicePayment")  # Halo may still carry it out
    )
    posts = len(written(rig))
    for name in late:
        rig.box.stripe.advance(name, "succeeded")
    for _ in range(4):
        rig.cycle()
        rig.clock.seconds += 60
    assert len(written(rig)) == posts + 1
    for _ in range(4):
        rig.clock.seconds += 120
        rig.cycle()
    after = written(rig)[posts:]
    restored = [post for post in after if set(post) <= lost]
    assert {row for post in restored[: len(lost) + 1] for row in post} == lost
    assert max(len(post) for post in after[: len(lost) + 2]) == 1
    sent = [row for post in rig.posts()[posts:] for row in post.json()]
    assert all("amount" in row for row in sent), "this tenant gets no update with its changes alone"
    assert harmed(rig, before) == {}
    assert [rig.statuses(name) for name in late] == [[3]] * 6


@pytest.mark.parametrize("column", ["thirdpartyid", "reference", "method", "module_id"])
@pytest.mark.parametrize("number", [3, 120])
@pytest.mark.parametrize("left_out", [False, True])
def test_every_column_of_later_answers_counts(
    paid: Paid, column: str, number: int, left_out: bool
) -> None:
    """A proven Halo starts to empty one column: syncd notices it, and at most one list is damaged."""
    rig, _, _ = paid
    rig.box.halo.shows.nulls_left_out = left_out
    rig.once()
    late = [rig.pay("succeeded") for _ in range(number)]
    for name in late:
        (row,) = rig.box.halo.rows_of(name)
        row.update(thirdpartyid=f"x-{row['id']}", reference=f"R-{row['id']}")
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.empties = frozenset({column})
    rig.once()
    assert proof(rig) is None
    found = trouble(rig)
    assert found.code == "writes_have_side_effects"
    assert f"{column}: " in found.reason
    assert 0 < len(harmed(rig, before)) <= Push().batch


def test_later_answers_cost_nothing_more(paid: Paid) -> None:
    """If Halo's answer shows the rows unchanged, the comparison costs no further request."""
    rig, _, _ = paid
    rig.once()
    for _ in range(5):
        rig.pay("succeeded")
    rig.box.halo.requests.clear()
    rig.once()
    rows = [r for r in rig.box.halo.requests if r.path.startswith("/api/InvoicePayment")]
    assert [r.method for r in rows] == ["GET"] * 5 + ["POST"]


def test_one_row_that_a_person_edits_stops_nothing(paid: Paid) -> None:
    """If a person changes a row's reference while syncd writes a list, syncd does not count a side effect."""
    rig, _, _ = paid
    rig.once()
    late = [rig.pay("succeeded") for _ in range(5)]
    for name in late:
        rig.box.halo.rows_of(name)[0]["reference"] = "R-1"
    (edited,) = rig.box.halo.rows_of(late[2])

    def edit(request: Any) -> bool:
        if request.method == "POST" and request.path == "/api/InvoicePayment":
            edited["reference"] = "by hand"
        return False

    rig.box.halo.faults.append(Fault("500", match=edit))
    rig.once()
    assert trouble(rig) is None
    assert proof(rig) is not None
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP}


@pytest.mark.parametrize("kind", ["500_after", "504_after", "reset_after", "truncated"])
def test_an_update_without_an_answer(paid: Paid, kind: str) -> None:
    """Halo starts to empty rows and does not answer: syncd reads these rows before it writes others."""
    rig, _, _ = paid
    rig.once()
    late = [rig.pay("succeeded") for _ in range(120)]
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.faults.append(Fault(kind, times=None, method="POST", path="/api/InvoicePayment"))
    for _ in range(3):
        rig.cycle()
        rig.clock.seconds += 400
    assert 0 < len(harmed(rig, before)) <= Push().batch
    found = trouble(rig)
    assert found.code == "writes_have_side_effects"
    assert {f"row {number}" for number in harmed(rig, before)} <= set(found.before)
    assert {rig.condition(name) for name in late} == {Condition.DUE}
    rig.box.halo.faults.clear()
    rig.clock.seconds += 90_000
    for _ in range(3):
        rig.cycle()
        rig.clock.seconds += 400
    assert harmed(rig, before) == {}  # also rows of an update that Halo never answered
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP}


def test_an_update_without_an_answer_that_is_right(paid: Paid) -> None:
    """Halo carries out updates correctly but does not answer: syncd checks them and does not stop."""
    rig, _, _ = paid
    rig.once()
    late = [rig.pay("succeeded") for _ in range(60)]
    rig.box.halo.faults.append(
        Fault("500_after", times=2, method="POST", path="/api/InvoicePayment")
    )
    for _ in range(2):
        rig.cycle()
        rig.clock.seconds += 400
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP}
    assert trouble(rig) is None
    assert rig.stored(lambda store: store.note("update_unchecked")) is None


def test_a_first_update_that_is_carried_out_late(paid: Paid) -> None:
    """The first update times out and Halo empties the row later: syncd waits, then restores the row."""
    rig, intents, before = paid
    halo = rig.box.halo
    empties_late(halo)
    rig.cycle()
    rig.cycle()
    assert len(rig.posts()) == 1
    until(lambda: halo.writes)
    rig.cycle()
    rig.cycle()
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_webhook_before_a_first_update_that_is_carried_out_late(paid: Paid) -> None:
    """A webhook sets the same status before Halo applies the late update: syncd waits, then restores."""
    rig, intents, before = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault("applied_late", times=1, method="POST", path="/api/InvoicePayment", seconds=3)
    )
    rig.cycle()
    (number,) = [row["id"] for row in rig.posts()[0].json()]
    halo.rows[number].update(status=3, webhook_received_date="2026-11-01T00:00:00Z")
    assert not halo.writes
    rig.cycle()
    assert len(rig.posts()) == 1
    until(lambda: halo.writes)
    rig.cycle()
    rig.cycle()
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_an_error_instead_of_an_emptied_row(paid: Paid) -> None:
    """Halo answers 200 with an error instead of the emptied row: syncd does not treat the row as deleted."""
    rig, intents, before = paid
    halo = rig.box.halo
    empties_late(halo)
    rig.cycle()
    until(lambda: halo.writes)
    halo.faults.append(
        Fault("200", times=3, method="GET", path=f"/api/InvoicePayment/{halo.writes[0][0]}")
    )
    for _ in range(5):
        rig.cycle()
        rig.clock.seconds += 400
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_first_update_that_halo_fails_on_and_carries_out_late(paid: Paid) -> None:
    """Halo answers 500 to the first update and empties the row a second later: syncd restores the row."""
    rig, intents, before = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault(
            "applied_late",
            times=1,
            method="POST",
            path="/api/InvoicePayment",
            seconds=1,
            status=500,
        )
    )
    rig.cycle()
    assert len(rig.posts()) == 1
    until(lambda: halo.writes)
    rig.cycle()
    rig.cycle()
    assert proof(rig).mode is UpdateMode.EVERYTHING
    assert harmed(rig, before) == {}
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_row_that_lost_its_payment_is_not_sent_back(paid: Paid) -> None:
    """If syncd sends whole rows, it does not write a row that lost its payment after the lookup."""
    rig, _, _ = paid
    rig.box.halo.keeps.partial = "empty"
    rig.once()
    late = rig.pay("succeeded")
    mine = rig.box.halo.rows_of(late)[0]

    def person(request: Any) -> bool:
        if request.method == "GET" and request.path.endswith(f"/InvoicePayment/{mine['id']}"):
            mine.update(intent_id=None, amount=0, invoice_id=0)
        return False

    watch(rig.box.halo, person)
    known = len(rig.posts())
    rig.cycle()
    assert len(rig.posts()) == known
    assert mine["status"] == 1


@pytest.mark.parametrize(("seconds", "rows_max"), [(0.1, 60), (4, 3), (40, 1)])
def test_what_is_sent_back_was_read_right_before(rig: Rig, seconds: float, rows_max: int) -> None:
    """If syncd sends whole rows to a slow Halo, it sends short lists: no row was read over 10 s before."""
    proven_with_whole_rows(rig)
    for _ in range(8):
        rig.pay("succeeded")
    read: dict[int, float] = {}
    ages: list[float] = []
    lists: list[int] = []

    def slow(request: Any) -> bool:
        if request.method == "GET" and request.path.rpartition("/")[2].isdigit():
            rig.clock.seconds += seconds
            read[int(request.path.rpartition("/")[2])] = rig.clock()
        if request.method == "POST" and request.path == "/api/InvoicePayment":
            ages.extend(rig.clock() - read[row["id"]] for row in request.json())
            lists.append(len(request.json()))
        return False

    watch(rig.box.halo, slow)
    rig.once()
    assert len(ages) == sum(lists) == 8
    assert max(ages) <= 10
    assert max(lists) == min(8, rows_max)


def test_a_payment_with_several_rows_in_a_slow_halo(rig: Rig) -> None:
    """In a slow Halo, syncd reads all rows of one payment once and sends them together."""
    proven_with_whole_rows(rig)
    payment = rig.pay("succeeded", rows=(5.0, 5.99))
    read: list[str] = []

    def slow(request: Any) -> bool:
        name = request.path.rpartition("/")[2]
        if request.method == "GET" and name.isdigit():
            read.append(name)
            rig.clock.seconds += 40
        return False

    watch(rig.box.halo, slow)
    rig.once()
    assert rig.condition(payment) == Condition.IN_STEP
    assert len(read) == 2


def test_a_list_that_always_waits_too_long_is_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If each request starts long after the read, syncd re-reads the rows a few times, then sends them."""
    proven_with_whole_rows(rig)
    names = [rig.pay("succeeded") for _ in range(3)]
    monkeypatch.setattr(RowReader, "outdated", lambda *_: True)
    known = len(rig.box.halo.requests)
    rig.once()
    assert {rig.condition(name) for name in names} == {Condition.IN_STEP}
    alone = [r for r in rig.box.halo.requests[known:] if r.path.rpartition("/")[2].isdigit()]
    assert len(alone) <= 3 * HELD_BACK_MAX + 3


def test_a_slow_payment_does_not_hold_up_others(rig: Rig) -> None:
    """If the rows of one payment are read slowly, the other payments are pushed all the same."""
    proven_with_whole_rows(rig)
    payment = rig.pay("succeeded", amount=4396, rows=(10.99,) * 4)
    others = [rig.pay("succeeded") for _ in range(5)]
    mine = {str(row["id"]) for row in rig.box.halo.rows_of(payment)}

    def slow(request: Any) -> bool:
        if request.method == "GET" and request.path.rpartition("/")[2] in mine:
            rig.clock.seconds += 12
        return False

    watch(rig.box.halo, slow)
    rig.once()
    assert {rig.condition(name) for name in (payment, *others)} == {Condition.IN_STEP}


def test_a_reading_that_suddenly_takes_long(rig: Rig) -> None:
    """If one read takes long, syncd re-reads the rows it read before, so that a person's change is kept."""
    proven_with_whole_rows(rig)
    names = [rig.pay("succeeded") for _ in range(3)]
    read: list[str] = []

    def slow(request: Any) -> bool:
        name = request.path.rpartition("/")[2]
        if request.method == "GET" and name.isdigit():
            read.append(name)
            if len(read) == 3:
                rig.clock.seconds += 40
                rig.box.halo.rows[int(read[0])]["method"] = 9
        return False

    watch(rig.box.halo, slow)
    rig.once()
    assert rig.box.halo.rows[int(read[0])]["method"] == 9
    assert {rig.condition(name) for name in names} == {Condition.IN_STEP}


@pytest.mark.parametrize("proven", [True, False])
def test_a_row_that_halo_fails_to_show(rig: Rig, *, proven: bool) -> None:
    """If Halo fails to show one row, only its payment goes on the attention list; the others are pushed."""
    rig.proven = False
    rig.box.halo.keeps.partial = "refuse"
    if proven:
        rig.pay("succeeded")
        rig.once()
    others = [rig.pay("succeeded") for _ in range(5)]
    rig.clock.seconds += 10
    broken = rig.pay("succeeded")  # the newest payment is the first to be tried
    path = f"/api/InvoicePayment/{rig.box.halo.rows_of(broken)[0]['id']}"
    rig.box.halo.faults.append(Fault("500", times=None, method="GET", path=path))
    for _ in range(12):
        rig.cycle()
        rig.clock.seconds += 3_600
    assert {rig.condition(name) for name in others} == {Condition.IN_STEP}
    assert [entry.intent_id for entry in rig.attention()] == [broken]


@pytest.mark.parametrize("fault", ["504_after", "reset_after"])
def test_an_update_without_an_answer_that_empties_other_columns(rig: Rig, fault: str) -> None:
    """After an unanswered update syncd compares every column it read before; only then it writes again."""
    rig.once()
    names = [rig.pay("succeeded") for _ in range(4)]
    for number, row in rig.box.halo.rows.items():
        row.update(reference=f"R-{number}", thirdpartyid=f"x-{number}")
    rig.box.halo.keeps.empties = frozenset({"reference", "thirdpartyid"})
    rig.box.halo.faults.append(Fault(fault, times=8, method="POST", path="/api/InvoicePayment"))
    for _ in range(4):
        rig.cycle()
        rig.clock.seconds += 400
    later = rig.box.halo.rows_of(rig.pay("succeeded"))[0]
    later["reference"] = "R"
    rig.cycle()
    assert later["reference"] == "R"
    assert trouble(rig).code is HoldCode.WRITES_HAVE_SIDE_EFFECTS
    assert set(trouble(rig).rows) == {
        row["id"] for name in names for row in rig.box.halo.rows_of(name)
    }


def test_a_restoration_keeps_what_a_person_filled_in(rig: Rig) -> None:
    """A person fills in a column of an emptied row before syncd restores the row: the column stays."""
    rig.proven = False
    row = rig.box.halo.rows_of(rig.pay("succeeded"))[0]
    row.update(reference="R")
    rig.box.halo.keeps.partial = "empty"
    path = f"/api/InvoicePayment/{row['id']}"
    unread = Fault("reset", times=None, method="GET", path=path, after=1)
    rig.box.halo.faults += [
        Fault("reset_after", times=1, method="POST", path="/api/InvoicePayment"),
        unread,
    ]
    rig.cycle()
    emptied = row["reference"]
    row["method"] = 9
    rig.box.halo.faults.remove(unread)
    for _ in range(3):
        rig.clock.seconds += 400
        rig.cycle()
    assert emptied is None
    assert (row["method"], row["reference"], row["status"]) == (9, "R", 3)


def test_the_proof_sends_back_what_was_read_right_before(rig: Rig) -> None:
    """If Halo refuses the status alone after a while, syncd re-reads the row and then sends it whole."""
    rig.proven = False
    row = rig.box.halo.rows_of(rig.pay("succeeded"))[0]
    rig.box.halo.keeps.partial = "refuse"
    posts: list[Any] = []

    def person(request: Any) -> bool:
        if request.method == "POST" and request.path == "/api/InvoicePayment":
            posts.append(request)
            if len(posts) == 1:
                rig.clock.seconds += 40
                row["method"] = 9
        return False

    watch(rig.box.halo, person)
    rig.once()
    assert (row["method"], row["status"]) == (9, 3)


@pytest.mark.parametrize("harms", [True, False])
def test_an_error_instead_of_a_row_that_is_gone(rig: Rig, *, harms: bool) -> None:
    """Halo answers 200 with an error for a deleted row: others are pushed later, and the row is listed."""
    rig.proven = False
    names = [rig.pay("succeeded") for _ in range(5)]
    halo = rig.box.halo
    for row in halo.rows.values():
        row.update(thirdpartyid="x", reference="R")
    if harms:
        halo.keeps.partial = "empty"
        halo.faults.append(
            Fault("400", times=1, method="POST", path="/api/InvoicePayment", after=1)
        )
    else:
        halo.faults.append(Fault("504", times=1, method="POST", path="/api/InvoicePayment"))
    rig.cycle()
    number = rig.posts()[0].json()[0]["id"]
    gone = next(name for name in names if rig.box.halo.rows_of(name)[0]["id"] == number)
    del halo.rows[number]
    path = f"/api/InvoicePayment/{number}"
    halo.faults.append(Fault("200", times=None, method="GET", path=path, text="Record not found"))
    for _ in range(6):
        rig.clock.seconds += 3_600 * 8
        rig.cycle()
    assert {rig.condition(name) for name in names if name != gone} == {Condition.IN_STEP}
    assert f"row_{number}" in {entry.id for entry in rig.attention()}


def test_rows_that_were_read_too_long_ago_are_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a pause follows the read, syncd re-reads the rows before it sends them: a person's change stays."""
    proven_with_whole_rows(rig)
    mine, last = (rig.box.halo.rows_of(rig.pay("succeeded"))[0] for _ in range(2))
    read: list[int] = []

    def person(request: Any) -> bool:
        name = request.path.rpartition("/")[2]
        if request.method == "GET" and name.isdigit():
            read.append(int(name))
        return False

    befores = Verifier.befores

    async def and_pause(verifier: Verifier, *given: Any) -> Any:
        found = await befores(verifier, *given)
        if len(read) == 2:  # both rows are read
            rig.clock.seconds += 40
            rig.box.halo.rows[read[0]]["method"] = 9
        return found

    monkeypatch.setattr(Verifier, "befores", and_pause)
    watch(rig.box.halo, person)
    rig.once()
    assert rig.box.halo.rows[read[0]]["method"] == 9
    assert {mine["status"], last["status"]} == {3}


def test_no_new_row_beside_a_row_that_a_write_emptied(rig: Rig) -> None:
    """Halo empties a first row and refuses to restore it: syncd creates no second row for its payment."""
    rig.proven = False
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    halo, invoice = rig.box.halo, rig.box.halo.add_invoice()
    emptied = rig.pay("payment_failed", rows=(), metadata={"halo_invoice_id": str(invoice)})
    row = halo.add_row(emptied, invoice, 10.99)
    halo.rows[row]["amount"] = "10,99"  # Halo shows a text, and accepts only a number
    halo.keeps.partial = "empty"
    rig.once()
    assert trouble(rig).row_id == row
    halo._by_intent.pop(emptied)  # this Halo finds rows by the column, which is empty now
    other = rig.pay("succeeded")
    rig.stored(lambda store: store.people.retry(None, rig.clock()))
    rig.once()
    assert rig.statuses(other) == [3]
    assert [r["id"] for r in halo.rows.values() if r["intent_id"] == emptied] == []
    listed = {entry.id: entry.code for entry in rig.attention()}
    assert listed[emptied] == "row_deleted"
    assert f"row_{row}" in listed


def test_a_first_update_that_may_come_late_holds_back_the_whole_push(paid: Paid) -> None:
    """While the first update may still arrive, the later batches of the same push send nothing either."""
    rig, _, _ = paid
    rig.settings["SYNCD_PUSH__BATCH"] = "1"
    before = copy.deepcopy(rig.box.halo.rows)
    rig.box.halo.keeps.partial = "empty"
    rig.box.halo.faults.append(Fault("504", times=1, method="POST", path="/api/InvoicePayment"))
    rig.cycle()
    assert len(rig.posts()) == 1
    assert harmed(rig, before) == {}


def test_a_first_update_that_never_arrives(paid: Paid) -> None:
    """The first update times out and never reaches Halo: syncd sends it again after five minutes."""
    rig, intents, _ = paid
    rig.box.halo.faults.append(Fault("504", times=1, method="POST", path="/api/InvoicePayment"))
    rig.cycle()
    rig.clock.seconds += 200
    rig.cycle()
    assert len(rig.posts()) == 1
    rig.clock.seconds += 301
    rig.cycle()
    assert proof(rig) is not None
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}


def test_a_single_run_waits_for_a_first_update(paid: Paid) -> None:
    """A run by a timer is a new process each time: it waits for the first update, and logs how long."""
    rig, intents, _ = paid
    rig.box.halo.faults.append(Fault("504", times=1, method="POST", path="/api/InvoicePayment"))
    with pytest.raises(LinkFailure):
        rig.once()
    rig.clock.seconds += 301
    rig.once()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert any(line["seconds"] > 200 for line in rig.told.events("looking_again"))


@pytest.mark.parametrize("shape", ["empty", "rows"])
def test_one_row_that_a_person_changes(paid: Paid, shape: str) -> None:
    """If a single row of a list differs, syncd assumes a person's change: the proof stays valid."""
    rig, _, _ = paid
    rig.once()
    late = [rig.pay("succeeded") for _ in range(20)]
    halo = rig.box.halo
    halo.answer_shape = shape
    known = len(halo.writes)
    mine = halo.rows_of(late[3])[0]

    def person(request: Any) -> bool:
        if request.method == "POST" and "InvoicePayment" in request.path:
            mine["amount"] = 99.0
        return False

    watch(halo, person)
    rig.once()
    assert len(halo.writes) > known
    assert proof(rig) is not None
    assert trouble(rig) is None


def test_proof_of_another_version(paid: Paid) -> None:
    """A proof in another format does not count: syncd sends one row alone first again."""
    rig, _, _ = paid
    rig.once()
    late = [rig.pay("succeeded") for _ in range(3)]
    rig.stored(lambda store: store.write_notes({"write_proof update": '{"format": 0}'}))
    posts = len(rig.posts())
    rig.once()
    assert [len(post) for post in written(rig)[posts:]] == [1, 2]
    assert {rig.condition(name) for name in late} == {Condition.IN_STEP}


def test_no_secret_is_kept(paid: Paid) -> None:
    """The copy of a row that syncd stores during the proof contains no client_secret."""
    rig, _, _ = paid
    for row in rig.box.halo.rows.values():
        row["intent_response"] = f'{{"client_secret": "{row["intent_id"]}_secret_abcdefgh"}}'
    halo = rig.box.halo
    halo.faults.append(
        Fault(
            "reset", times=None, path="/api/InvoicePayment/", match=lambda _: len(halo.writes) > 0
        )
    )
    rig.cycle()
    kept = rig.stored(lambda store: store.note("write_trial"))
    assert kept
    assert "_secret_" not in kept


@pytest.mark.parametrize("column", ["reference", "intent_response"])
def test_a_text_that_looks_like_a_secret(paid: Paid, column: str) -> None:
    """If syncd stores a row's text without its secret, a restart does not count this as a side effect."""
    rig, intents, _ = paid
    halo = rig.box.halo
    for row in halo.rows.values():
        row[column] = f"{row['id']} password=abcdefgh {row['intent_id']}_secret_abcdefgh"
    before = copy.deepcopy(halo.rows)
    halo.faults.append(
        Fault(
            "reset", times=None, path="/api/InvoicePayment/", match=lambda _: len(halo.writes) > 0
        )
    )
    rig.cycle()
    assert len(halo.writes) == 1
    halo.faults.clear()
    for _ in range(3):
        rig.waits.clear()  # another process
        rig.clock.seconds += 700
        rig.cycle()
    assert trouble(rig) is None
    assert proof(rig).mode is UpdateMode.CHANGES
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert {row[column] for row in halo.rows.values()} == {row[column] for row in before.values()}


def test_what_a_row_was_is_known_after_a_restart(paid: Paid) -> None:
    """An update that only a read after a restart confirmed is logged with the rows' former status."""
    rig, intents, _ = paid
    halo = rig.box.halo
    halo.keeps.partial = "empty"
    halo.faults.append(
        Fault("reset", times=None, path="/api/InvoicePayment", match=lambda _: bool(halo.writes))
    )
    rig.cycle()
    halo.faults.clear()
    for _ in range(3):
        rig.waits.clear()  # another process
        rig.clock.seconds += 700
        rig.cycle()
    assert proof(rig).invoice_id in {row["invoice_id"] for row in halo.rows.values()}
    pushed = {one["intent"]: one["old"] for one in rig.told.events("pushed")}
    assert pushed == {name: ["status 1"] for name in intents}


# --- new rows --------------------------------------------------------------------------------------


@pytest.fixture
def missing(rig: Rig) -> tuple[Rig, list[str]]:
    """Five payments without a row, whose metadata names an invoice."""
    rig.proven = False
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.settings["SYNCD_HALO__NEW_ROW__METHOD"] = "12"
    rig.settings["SYNCD_HALO__NEW_ROW__MODULE_ID"] = "231"
    intents = [
        rig.pay(
            "succeeded",
            rows=(),
            metadata={"halo_invoice_id": str(rig.box.halo.add_invoice(total=10.99))},
        )
        for _ in range(5)
    ]
    return rig, intents


def test_the_first_new_row_is_read_back(missing: Missing) -> None:
    """The first new row is read back before syncd creates the second; then each payment has one row."""
    rig, intents = missing
    rig.once()
    for _ in range(6):
        rig.clock.seconds += 60
        rig.cycle()
    asked = [(r.method, r.path) for r in rig.box.halo.requests]
    posts = [place for place, one in enumerate(asked) if one == ("POST", "/api/InvoicePayment")]
    first = rig.box.halo.writes[0][0]
    assert ("GET", f"/api/InvoicePayment/{first}") in asked[posts[0] : posts[1]]
    found = proof(rig, WriteKind.INSERT)
    assert (found.row_id, found.intent_id) == (first, rig.box.halo.rows[first]["intent_id"])
    assert [len(rig.box.halo.rows_of(name)) for name in intents] == [1] * 5
    about = ("GET", f"/api/Invoice/{found.invoice_id}")
    assert about in asked[: posts[0]], "the invoice is read before the row is sent"
    changes = {one.name: (one.before, one.after) for one in found.invoice}
    assert changes["amountdue"] == ("10.99", "0.0")
    assert None not in {before for before, _ in changes.values()}


def test_the_second_new_row_waits_for_the_first(missing: Missing) -> None:
    """While the first new row cannot be read back, no process creates a second row."""
    rig, intents = missing
    halo = rig.box.halo
    unreadable = Fault("500", times=None, method="GET", path="/api/InvoicePayment/")
    halo.faults.append(unreadable)
    for _ in range(3):
        rig.cycle()
        rig.waits.clear()  # another process
        rig.clock.seconds += 1_300
    assert len(halo.writes) == 1
    halo.faults.clear()
    for _ in range(6):
        rig.clock.seconds += 400
        rig.cycle()
    assert proof(rig, WriteKind.INSERT).row_id == halo.writes[0][0]
    assert [len(halo.rows_of(name)) for name in intents] == [1] * 5


def test_a_first_new_row_that_is_never_shown(missing: Missing) -> None:
    """If Halo does not show the first new row for an hour, syncd tries another new row."""
    rig, _ = missing
    halo = rig.box.halo
    halo.faults.append(Fault("500", times=None, method="GET", path="/api/InvoicePayment/"))
    for _ in range(3):
        rig.cycle()
        rig.clock.seconds += 1_300
    assert len(halo.writes) == 1
    for _ in range(2):
        rig.cycle()
        rig.clock.seconds += 1_300
    assert len(halo.writes) == 2


@pytest.mark.parametrize("dropped", ["status", "intent_id"])
def test_a_new_row_that_is_not_stored_as_sent(missing: Missing, dropped: str) -> None:
    """Halo drops a field of the first new row: syncd creates no second row."""
    rig, _ = missing
    rig.box.halo.keeps.drops_new = frozenset({dropped})
    rig.once()
    for _ in range(6):
        rig.clock.seconds += 600
        rig.cycle()
    assert len(rig.box.halo.writes) == 1
    found = trouble(rig, WriteKind.INSERT)
    assert found.code == "writes_not_stored"
    assert dropped in found.reason
    entry = rig.attention()[0]
    invoice = rig.box.halo.writes[0][1]["invoice_id"]
    assert (entry.id, [one.id for one in entry.invoices]) == ("writes_not_stored_new", [invoice])
    assert "enter by hand what Halo did not store" in entry.reason


def test_an_unanswered_new_row_that_is_not_stored_as_sent(rig: Rig) -> None:
    """Halo drops the status of a new row and does not answer: syncd reads the row back and stops new rows."""
    rig.proven = False
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    halo = rig.box.halo
    halo.keeps.drops_new = frozenset({"status"})
    halo.faults.append(Fault("reset_after", method="POST", path="/api/InvoicePayment"))
    for number in range(6):
        if number != 1:  # only this row is due then, for an update
            invoice = halo.add_invoice(total=10.99)
            rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
        rig.cycle()
        rig.waits.clear()  # another process
        rig.clock.seconds += 600
    assert [new for _, _, new in halo.writes].count(True) == 1
    assert trouble(rig, WriteKind.INSERT).code == "writes_not_stored"
    assert proof(rig, WriteKind.INSERT) is None


def test_a_row_of_a_person_beside_an_unanswered_new_row(missing: Missing) -> None:
    """A person enters the payment while syncd waits for its first new row: this row proves nothing."""
    rig, intents = missing
    halo = rig.box.halo
    halo.faults.append(Fault("504", times=9, method="POST", path="/api/InvoicePayment"))
    rig.cycle()
    trial = json.loads(rig.stored(lambda store: store.note("write_trial insert")))
    halo.faults.clear()
    rig.clock.seconds += 400
    halo.add_row(trial["intent_id"], trial["invoice_id"], 10.99)
    for _ in range(8):
        rig.clock.seconds += 400
        rig.cycle()
    assert rig.attention() == []
    assert proof(rig, WriteKind.INSERT).intent_id != trial["intent_id"]
    assert [len(halo.rows_of(name)) for name in intents] == [1] * 5


def test_new_rows_that_are_refused(missing: Missing) -> None:
    """If Halo refuses three new rows, syncd blames the tenant and sends no more new rows."""
    rig, _ = missing
    rig.box.halo.keeps.inserts_need = ("reference",)
    for _ in range(6):
        rig.cycle()
        rig.clock.seconds += 300
    found = trouble(rig, WriteKind.INSERT)
    assert found.code == "writes_refused"
    assert "reference must be specified" in found.reason
    assert len(rig.posts()) == 3


# --- the attention list -----------------------------------------------------------------------------


def test_a_stopped_tenant_is_the_first_entry(paid: Paid) -> None:
    """A stop is the first entry of the list, with the row's former contents and a command; exit code 1."""
    rig, _, _ = paid
    held = rig.pay("succeeded", rows=(5.0,))
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    first, *others = rig.attention()
    assert (first.id, first.kind, first.code) == (
        "writes_not_stored",
        "tenant",
        "writes_not_stored",
    )
    assert first.reason.endswith("Then run: syncd attention retry writes_not_stored")
    assert "amount: 10.99" in first.reason
    assert [entry.id for entry in others] == [held]
    done = rig.command("attention", "--json")
    assert done.returncode == 1
    shown = json.loads(done.stdout)[0]
    invoice = rig.box.halo.rows[shown["rows"][0]]["invoice_id"]
    assert [one["id"] for one in shown["invoices"]] == [invoice]
    assert f"id={invoice}" in shown["links"]["halo"][0]
    assert shown["intent_id"] in shown["links"]["stripe"]
    status = json.loads(rig.command("status", "--json").stdout)
    assert status["writes"]["update"].startswith("stopped since ")
    assert not status["checks"]["writes"]["ok"]
    assert status["attention_by_kind"]["tenant"] == 1


def test_retry_tries_one_row_at_once(paid: Paid) -> None:
    """`attention retry` on the tenant's entry: the next push tries one row and then pushes the others."""
    rig, intents, _ = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    rig.box.halo.keeps.drops = frozenset()
    done = rig.command("attention", "retry", "writes_not_stored")
    assert done.returncode == 0, done.stderr
    rig.cycle()
    assert {rig.condition(name) for name in intents} == {Condition.IN_STEP}
    assert rig.attention() == []


def test_another_tenant_is_another_proof(paid: Paid) -> None:
    """After a change to another Halo application, syncd ignores the old stop and no longer shows it."""
    rig, _, _ = paid
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.once()
    rig.box.halo.client_id = "another-application"
    rig.box.halo.keeps.drops = frozenset()
    rig.once()
    assert rig.attention() == []
    assert proof(rig) is not None
