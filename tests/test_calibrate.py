"""`syncd calibrate`: properties of its pure core, and what it learns from a tenant over real HTTP."""

import json
import stat
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.clients.webhook_payload import Author
from syncd.config.edit import with_numbers, write_numbers
from syncd.config.model import ConfigurationError
from syncd.core.payments import PaymentState
from syncd.preflight.calibration import (
    HOW_TO_MAKE,
    Change,
    Evidence,
    Example,
    Finding,
    Seen,
    Shown,
    Tally,
    Verdict,
    change_of,
    learn,
)
from syncd.preflight.survey import Survey, ask_stripe, read_rows
from syncd.sandbox import Fault
from syncd.store.history import Sent
from syncd.sync.build import Parts
from tests.conftest import NOW, ROOT, Rig

S = PaymentState


def _evidence(
    row: int, state: PaymentState | None, number: int, *, webhook: bool = True
) -> Evidence:
    return Evidence(row, f"pi_{row}", state, number, webhook)


def _numbers(findings: tuple[Finding, ...]) -> dict[PaymentState, int | None]:
    return {one.state: one.number for one in findings}


# --- the pure core ---------------------------------------------------------------------------------


def learnt(evidence: Iterable[Evidence]) -> tuple[Finding, ...]:
    """The findings for each of the five states from these rows."""
    tally = Tally()
    for one in evidence:
        tally.add(one)
    return learn(tally)


some_evidence = st.lists(
    st.builds(
        _evidence,
        st.integers(1, 50),
        st.sampled_from([*PaymentState, None]),
        st.integers(1, 5),
        webhook=st.booleans(),
    ),
    max_size=30,
    unique_by=lambda one: one.row,
)


@settings(deadline=None)
@given(some_evidence, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(evidence: list[Evidence], random: Any) -> None:
    """Findings, counts and examples do not depend on the order of the rows."""
    shuffled = list(evidence)
    random.shuffle(shuffled)
    assert learnt(evidence) == learnt(shuffled)


@settings(deadline=None)
@given(some_evidence)
def test_a_contradiction_never_yields_a_number(evidence: list[Evidence]) -> None:
    """If rows of Halo's webhook show two numbers for a state, the state gets no number."""
    for one in learnt(evidence):
        shown = {e.number for e in evidence if e.webhook and e.state is one.state}
        if len(shown) > 1:
            assert (one.number, one.hint, one.verdict) == (None, None, Verdict.CONTRADICTED)


@settings(deadline=None)
@given(some_evidence)
def test_a_number_comes_from_webhook_rows_alone(evidence: list[Evidence]) -> None:
    """A proposed number comes only from rows of Halo's webhook, never from rows without a trace."""
    for one in learnt(evidence):
        if one.number is not None:
            shown = {e.number for e in evidence if e.webhook and e.state is one.state}
            assert shown == {one.number}


@settings(deadline=None)
@given(some_evidence)
def test_nobody_shares_the_number_of_success(evidence: list[Evidence]) -> None:
    """No other state is proposed the same number as succeeded."""
    numbers = _numbers(learnt(evidence))
    paid = numbers.pop(S.SUCCEEDED)
    assert paid is None or paid not in numbers.values()


@settings(deadline=None)
@given(some_evidence)
def test_rows_without_a_trace_only_take_numbers_away(evidence: list[Evidence]) -> None:
    """Except for succeeded, a number is the one that webhook rows alone prove, or there is none."""
    alone = _numbers(learnt(e for e in evidence if e.webhook))
    for one in learnt(evidence):
        if one.state is not S.SUCCEEDED:
            assert one.number in (alone[one.state], None)


@settings(deadline=None)
@given(some_evidence)
def test_no_other_state_gets_a_number_that_webhooks_wrote_for_success(
    evidence: list[Evidence],
) -> None:
    """A number on a succeeded payment's webhook row never becomes another state's number or hint."""
    paid = {e.number for e in evidence if e.webhook and e.state is S.SUCCEEDED}
    for one in learnt(evidence):
        if one.state is not S.SUCCEEDED:
            assert one.number not in paid
            assert one.hint not in paid


def test_a_canceled_payment_does_not_get_the_number_of_contradicting_successes() -> None:
    """Webhook rows show 3 and 9 for succeeded, and 3 for canceled: neither state gets a number."""
    evidence = [
        _evidence(1, S.SUCCEEDED, 3),
        _evidence(2, S.SUCCEEDED, 9),
        _evidence(3, S.CANCELED, 3),
    ]
    found = {one.state: (one.number, one.verdict) for one in learnt(evidence)}
    assert found[S.SUCCEEDED] == (None, Verdict.CONTRADICTED)
    assert found[S.CANCELED] == (None, Verdict.SHARED)


def test_what_is_shown_of_a_state() -> None:
    """A finding has its number, the rows for and against it, and the newest rows as examples."""
    evidence = [_evidence(row, S.SUCCEEDED, 3) for row in range(1, 6)]
    evidence += [
        _evidence(7, S.SUCCEEDED, 1, webhook=False),
        _evidence(8, S.SUCCEEDED, 9, webhook=False),
        _evidence(9, None, 1, webhook=False),
    ]
    found = learnt(evidence)[0]
    assert found == Finding(
        S.SUCCEEDED,
        number=None,
        hint=None,
        verdict=Verdict.CONTRADICTED,
        shown=(
            Shown(
                3,
                Seen(5, (Example(5, "pi_5"), Example(4, "pi_4"), Example(3, "pi_3"))),
                Seen(),
                Seen(),
            ),
            Shown(9, Seen(), Seen(1, (Example(8, "pi_8"),)), Seen()),
            Shown(1, Seen(), Seen(), Seen(1, (Example(7, "pi_7"),))),
        ),
    )
    assert (found.support, found.against) == (5, 1)


@pytest.mark.parametrize(
    ("evidence", "number", "hint", "verdict"),
    [
        ([], None, None, Verdict.NONE),
        ([_evidence(1, S.CANCELED, 6)], 6, None, Verdict.PROVEN),
        # The canceled payment's row still has the number of a new row, so it contradicts nothing.
        (
            [_evidence(1, S.CANCELED, 6), _evidence(2, S.CANCELED, 1, webhook=False),
             _evidence(3, None, 1, webhook=False)],
            6, None, Verdict.PROVEN,
        ),
        # The same, but no row shows the number of a new row, so `calibrate` does not decide.
        (
            [_evidence(1, S.CANCELED, 6), _evidence(2, S.CANCELED, 1, webhook=False)],
            None, None, Verdict.CONTRADICTED,
        ),
        # Paid by other means and booked by hand: the row has the known number of succeeded.
        (
            [_evidence(1, S.CANCELED, 6), _evidence(2, S.SUCCEEDED, 3),
             _evidence(3, S.CANCELED, 3, webhook=False)],
            6, None, Verdict.PROVEN,
        ),
        # A number on payments with different results belongs to no state.
        (
            [_evidence(1, S.CANCELED, 1, webhook=False), _evidence(2, S.SUCCEEDED, 1, webhook=False)],
            None, None, Verdict.NONE,
        ),
        # Rows without a trace are a hint only if the number of a new row is known.
        (
            [_evidence(1, S.CANCELED, 2, webhook=False), _evidence(2, None, 1, webhook=False)],
            None, 2, Verdict.HINTED,
        ),
        ([_evidence(1, S.CANCELED, 1, webhook=False)], None, None, Verdict.TOO_LITTLE),
        # Two rows of Halo's webhook contradict each other.
        (
            [_evidence(1, S.CANCELED, 6), _evidence(2, S.CANCELED, 6), _evidence(3, S.CANCELED, 8)],
            None, None, Verdict.CONTRADICTED,
        ),
        # Succeeded has the same number.
        ([_evidence(1, S.CANCELED, 3), _evidence(2, S.SUCCEEDED, 3)], None, None, Verdict.SHARED),
    ],
)  # fmt: skip
def test_each_rule(
    evidence: list[Evidence], number: int | None, hint: int | None, verdict: Verdict
) -> None:
    """Each rule of calibrate's core, for the state canceled."""
    found = next(one for one in learnt(evidence) if one.state is S.CANCELED)
    assert (found.number, found.hint, found.verdict) == (number, hint, verdict)


def test_what_it_would_change() -> None:
    """The change lists new, differing and shared numbers, and states without a number."""
    tally = Tally()
    for row, (state, number) in enumerate(
        [(S.SUCCEEDED, 3), (S.PAYMENT_FAILED, 4), (S.PROCESSING, 5)]
    ):
        tally.add(_evidence(row, state, number))
    tally.add(_evidence(8, S.CANCELED, 6, webhook=False))
    tally.add(_evidence(9, None, 1, webhook=False))
    configured = {S.SUCCEEDED: 3, S.PAYMENT_FAILED: 9}
    assert change_of(learn(tally), configured) == Change(
        new={S.PROCESSING: 5},
        differing={S.PAYMENT_FAILED: (9, 4)},
        sharing=(),
        missing=(S.CANCELED, S.REQUIRES_ACTION),
    )
    accepted = change_of(learn(tally), configured, [S.CANCELED])
    assert accepted.new == {S.PROCESSING: 5, S.CANCELED: 6}
    assert change_of(learn(tally), {S.SUCCEEDED: 5}).sharing == (S.PROCESSING,)


# --- reading a tenant ------------------------------------------------------------------------------


def _native(rig: Rig, state: str, **pay: Any) -> str:
    """A payment that Halo's own webhook has written to Halo."""
    payment = rig.pay(state, **pay)
    rig.box.halo.native_webhook(rig.box.stripe.events[-1])
    return payment


def _survey(rig: Rig, rows_max: int = 10_000) -> Survey:
    async def read(parts: Parts) -> Survey:
        store = parts.engine.store
        survey = await read_rows(parts.sink, store, rows_max, lambda _done, _total: None)
        await ask_stripe(parts.source, survey, lambda _done, _total: None)
        return survey

    survey: Survey = rig.run(read)
    return survey


def test_the_numbers_of_a_tenant(rig: Rig) -> None:
    """Rows that Halo's own webhook wrote show the number of each state, without any stored payment."""
    for state in PaymentState:
        _native(rig, state)
    survey = _survey(rig)
    assert _numbers(learn(survey.tally)) == {S(s): n for s, n in rig.box.halo.status.items()}
    assert survey.new_row == {(12, 231): 5}
    assert (survey.rows, survey.total, survey.whole) == (5, 5, True)


def test_rows_that_syncd_wrote_count_for_nothing(rig: Rig) -> None:
    """Rows that syncd wrote with a wrong number do not confirm the number."""
    rig.settings["SYNCD_HALO__STATUS__SUCCEEDED"] = "33"
    ours = [rig.pay("succeeded") for _ in range(3)]
    rig.once()
    assert [rig.statuses(payment) for payment in ours] == [[33]] * 3
    native = _native(rig, "succeeded")
    survey = _survey(rig)
    assert survey.authors == {Author.SYNCD: 3, Author.WEBHOOK: 1}
    found = learn(survey.tally)[0]
    assert (found.number, found.support, found.against) == (3, 1, 0)
    assert found.shown[0].webhook.examples[0].intent_id == native


def test_rows_that_a_lost_database_wrote_count_for_nothing(rig: Rig) -> None:
    """After the loss of the database, rows that syncd may have written are shown, but are no evidence."""
    rig.settings["SYNCD_HALO__STATUS__SUCCEEDED"] = "33"
    payment = rig.pay("succeeded")
    swept = rig.pay(None)
    rig.once()
    rig.box.stripe.advance(swept, "succeeded", emit=False)
    rig.sweep()
    (rig.folder / "syncd.db").unlink()
    survey = _survey(rig)
    assert survey.authors == {Author.DOUBTFUL: 1, Author.SYNCD: 1}
    (row,) = rig.box.halo.rows_of(payment)
    assert survey.doubtful == {(S.SUCCEEDED, 33): Seen(1, (Example(row["id"], payment),))}
    assert all(number is None for number in _numbers(learn(survey.tally)).values())


def test_rows_that_syncd_found_in_step_count(rig: Rig) -> None:
    """Rows of Halo's own webhook stay evidence after syncd found them in step."""
    for state in PaymentState:
        _native(rig, state)
    bare = rig.pay("succeeded")
    rig.box.halo.rows_of(bare)[0]["status"] = 3
    sent = rig.pay("succeeded")
    rig.once()
    rig.sweep()
    assert len(rig.posts()) == 1
    survey = _survey(rig)
    assert survey.authors == {Author.WEBHOOK: 5, Author.BARE: 1, Author.SYNCD: 1}
    found = learn(survey.tally)
    assert _numbers(found) == {S(s): n for s, n in rig.box.halo.status.items()}
    assert (found[0].support, rig.statuses(sent)) == (2, [3])


@pytest.mark.parametrize("fault", [None, "500_after", "504_after", "reset_after", "garbage"])
def test_a_status_sent_without_a_trace_counts_for_nothing(rig: Rig, fault: str | None) -> None:
    """A row with a webhook's trace is no evidence if syncd has sent its status, whatever Halo answered."""
    rig.settings |= {
        "SYNCD_PUSH__TRACE": "false",
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__STATUS__PROCESSING": "55",
        "SYNCD_HALO__STATUS__SUCCEEDED": "33",
    }
    payment = _native(rig, "processing")
    invoice = rig.box.halo.add_invoice(total=10.99)
    made = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    if fault is not None:
        rig.box.halo.faults.append(Fault(fault, times=None, method="POST", path="/InvoicePayment"))
    rig.cycle()
    assert (rig.statuses(payment), rig.statuses(made)) in (([55], [33]), ([55], []))
    survey = _survey(rig)
    assert set(survey.authors) == {Author.SYNCD}
    assert [one.shown for one in learn(survey.tally)] == [()] * 5


def test_a_row_that_was_put_right_counts_for_nothing(rig: Rig) -> None:
    """After syncd restored a row's status, the row is no evidence."""
    payment = _native(rig, "succeeded")
    rig.once()
    rig.box.halo.rows_of(payment)[0]["status"] = 9
    rig.sweep()
    (row,) = rig.box.halo.rows_of(payment)
    assert (row["status"], "client_secret" in row["webhook_payload"]) == (3, True)
    assert _survey(rig).authors == {Author.SYNCD: 1}


def test_what_was_sent_is_remembered_beyond_the_payment(rig: Rig) -> None:
    """Syncd remembers that it sent something for a payment after the payment is deleted from the database."""
    rig.settings["SYNCD_PUSH__TRACE"] = "false"
    rig.settings["SYNCD_HALO__STATUS__PROCESSING"] = "55"
    payment = _native(rig, "processing")
    rig.once()
    later = rig.clock() + 200 * 86_400
    rig.stored(lambda store: store.housekeeping.prune(later, int(later)))
    assert rig.stored(lambda store: store.payment(payment)) is None
    assert _survey(rig).authors == {Author.SYNCD: 1}


def test_rows_older_than_the_memory_count_for_nothing() -> None:
    """If syncd has forgotten older writes, only rows with a later webhook are evidence."""
    early, late = (datetime.fromtimestamp(NOW + hours * 3_600, UTC) for hours in (23, 25))
    sent = Sent(frozenset({"pi_1"}), forgotten=NOW)
    asked = [("pi_1", late), ("pi_2", early), ("pi_2", None), ("pi_2", late)]
    assert [sent.may_include(*one) for one in asked] == [True, True, True, False]
    assert [Sent(sent.intents).may_include(*one) for one in asked] == [True, False, False, False]


def test_rows_without_a_trace_are_compared_with_stripe(rig: Rig) -> None:
    """Rows without a trace do not contradict rows of Halo's webhook, and give only hints."""
    _native(rig, "succeeded")
    rig.pay("succeeded")
    rig.pay(None)
    booked = rig.pay("canceled")
    rig.box.halo.rows_of(booked)[0]["status"] = 8
    elsewhere = rig.box.halo.add_row("pi_of_another_account", 1001, 5.0)
    survey = _survey(rig)
    findings = {one.state: one for one in learn(survey.tally)}
    assert (findings[S.SUCCEEDED].number, findings[S.SUCCEEDED].against) == (3, 0)
    canceled = findings[S.CANCELED]
    assert (canceled.number, canceled.hint, canceled.verdict) == (None, 8, Verdict.HINTED)
    assert (survey.unknown, elsewhere) == (1, 5)


def test_many_rows_without_a_trace_are_listed(rig: Rig) -> None:
    """Many rows without a trace are compared with lists of payment intents, not with single reads."""
    rig.box.seed(240)
    _native(rig, "succeeded")
    survey = _survey(rig)
    asked = [request.path for request in rig.box.stripe.requests]
    assert asked == ["/v1/payment_intents"] * 3
    pages = [r for r in rig.box.halo.requests if r.path == "/api/InvoicePayment"]
    assert len(pages) == 3
    assert (survey.unasked, learn(survey.tally)[0].shown[1].bare.rows) == (0, 240)


@pytest.mark.parametrize(
    ("paging", "shape", "rows", "whole"),
    [
        ("ignored", "payments", 120, True),
        ("same_page", "bare", 100, False),
        ("honoured", "bare", 120, True),
    ],
)
def test_paging_that_does_not_page(
    rig: Rig, paging: str, shape: str, rows: int, whole: bool
) -> None:
    """Each row counts once, also if Halo ignores paging or repeats a page."""
    _native(rig, "succeeded", amount=120_00, rows=(1.0,) * 120)
    rig.box.halo.paging, rig.box.halo.list_shape = paging, shape
    survey = _survey(rig)
    assert (survey.rows, survey.whole) == (rows, whole)
    assert learn(survey.tally)[0].support == rows


def test_garbage_in_rows(rig: Rig) -> None:
    """Rows and traces that cannot be parsed are no evidence and cause no error."""
    payment = _native(rig, "succeeded")
    good = rig.box.halo.rows_of(payment)[0]
    deep = "[" * 100_000
    for odd in (deep, "{", "[]", '"text"', "{}", '{"type": 7}', '{"type": "charge.succeeded"}'):
        rig.box.halo.add_row(payment, 1001, 1.0, 9, webhook_payload=odd)
    event = json.loads(good["webhook_payload"])
    event["data"]["object"]["id"] = "pi_another"
    rig.box.halo.add_row(payment, 1001, 1.0, 9, webhook_payload=json.dumps(event))
    rig.box.halo.add_row(
        payment, 1001, 1.0, None, webhook_payload="x", webhook_received_date="then"
    )
    rig.box.halo.add_row(None, 1001, 1.0, 9)
    rig.box.halo.add_row(payment, 1001, 1.0, 3, webhook_payload=json.loads(good["webhook_payload"]))
    rig.box.halo.add_row("pi_\ud800", 1001, 1.0, 9)
    survey = _survey(rig)
    assert survey.authors == {Author.WEBHOOK: 2, Author.OTHER: 11}
    assert _numbers(learn(survey.tally))[S.SUCCEEDED] == 3


def test_it_stays_within_the_window(rig: Rig) -> None:
    """`calibrate` keeps Halo's rate limit, and reads no more rows than requested."""
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "4"
    rig.box.halo.rate_limit = 4
    for number in range(450):
        rig.box.halo.add_row(None, 1001, 1.0, number)
    survey = _survey(rig, rows_max=300)
    assert (survey.rows, survey.whole) == (300, False)
    assert [r.status for r in rig.box.halo.requests] == [200] * 9  # four rows are read one by one
    assert sum(rig.world.waited) > 290


# --- the command -----------------------------------------------------------------------------------


def _file(rig: Rig, text: str | None = None) -> Path:
    """Write the shipped configuration file, for use with the sandbox."""
    file = rig.folder / "config.toml"
    file.write_text(text or (ROOT / "config.toml").read_text())
    rig.settings |= {f"SYNCD_HALO__STATUS__{s.upper()}": "" for s in rig.box.halo.status}
    return file


def test_calibrate_writes_the_file(live: Rig) -> None:
    """`calibrate --write` adds the numbers to the file, and keeps every existing line and the file's mode."""
    for state in PaymentState:
        _native(live, state)
    file = _file(live)
    file.chmod(0o640)
    before = file.read_text()
    shown = live.command("calibrate")
    assert (shown.returncode, file.read_text()) == (1, before)  # found, but not configured yet
    assert "every row that Halo's own webhook wrote shows it" in shown.stdout
    assert "method = 12, module_id = 231" in shown.stdout
    done = live.command("calibrate", "--write")
    assert done.returncode == 0, done.stderr
    after = file.read_text()
    assert tomllib.loads(after)["halo"]["status"] == live.box.halo.status
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert [line for line in after.splitlines() if line not in added] == before.splitlines()
    assert added == [f"{state} = {number}" for state, number in live.box.halo.status.items()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in live.folder.iterdir()] == ["config.toml"]  # no database
    again = live.command("calibrate", "--write", "--json")
    assert (again.returncode, file.read_text()) == (0, after)
    read = json.loads(again.stdout)
    assert read["configuration"] == {"new": {}, "differing": {}, "sharing": [], "missing": []}
    assert read["states"]["succeeded"]["verdict"] == "proven"
    assert live.box.halo.writes == []


def test_calibrate_does_not_change_the_shipped_file(live: Rig) -> None:
    """`calibrate --write` refuses to change the file that syncd ships, and sends no request to Halo."""
    package = live.folder / "syncd" / "config"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    shipped = package / "config.toml"
    shipped.write_text((ROOT / "config.toml").read_text())
    _file(live).unlink()
    (live.folder / "config.toml").symlink_to(shipped)
    done = live.command("calibrate", "--write")
    assert done.returncode == 78
    assert "config.toml: this is the file that syncd ships" in done.stderr
    assert (shipped.read_text(), live.box.halo.requests) == ((ROOT / "config.toml").read_text(), [])


def test_calibrate_never_overwrites_another_number(live: Rig) -> None:
    """`calibrate --write` does not change a configured number that differs, and writes nothing."""
    for state in ("succeeded", "canceled"):
        payment = _native(live, state)
    event = json.loads(live.box.halo.rows_of(payment)[0]["webhook_payload"])
    evil = event["data"]["object"]["id"] = "pi_\x1b[2J"
    live.box.halo.add_row(evil, 1001, 1.0, 6, webhook_payload=json.dumps(event))
    file = _file(live)
    text = file.read_text().replace("# succeeded =", "succeeded = 9   # by hand")
    file.write_text(text)
    done = live.command("calibrate", "--write")
    assert (done.returncode, file.read_text()) == (78, text)
    assert "halo.status.succeeded is 9, but the rows show 3" in done.stderr
    # The odd id moves no cursor, and Stripe is not asked about it.
    assert "[2J" not in done.stdout
    assert not {c for c in done.stdout if not c.isprintable()} - {"\n"}


def test_calibrate_accepts_a_hint_when_told(live: Rig) -> None:
    """A hint is written only for a state that --accept names."""
    live.pay(None)
    for state, number in (("succeeded", 3), ("canceled", 6)):
        payment = live.pay(state)
        live.box.halo.rows_of(payment)[0]["status"] = number
    file = _file(live)
    assert "--accept succeeded" in live.command("calibrate", "--write").stdout
    assert "status" in tomllib.loads(file.read_text())["halo"]
    live.command("calibrate", "--write", "--accept", "succeeded")
    assert tomllib.loads(file.read_text())["halo"]["status"] == {"succeeded": 3}


def test_calibrate_shows_a_contradiction(live: Rig) -> None:
    """If rows of Halo's webhook contradict each other, `calibrate` exits with 1 and writes nothing."""
    for number in (3, 9):
        payment = _native(live, "succeeded")
        live.box.halo.rows_of(payment)[0]["status"] = number
    file = _file(live)
    before = file.read_text()
    done = live.command("calibrate", "--write")
    assert (done.returncode, file.read_text()) == (1, before)
    assert "rows contradict each other, so syncd did not decide" in done.stdout
    assert f"succeeded = 9: 1 row (such as row 2 ({payment})) by Halo's webhook" in done.stdout
    assert "set halo.status.succeeded by hand" in done.stdout


def test_calibrate_says_how_to_make_evidence(live: Rig) -> None:
    """For each state without proof, `calibrate` says how to get evidence, also for a configured number."""
    for _ in range(2):
        live.pay("succeeded")
    live.pay("processing")
    live.box.halo.rows_of(live.pay("processing"))[0]["status"] = 5
    text = _file(live).read_text()
    (live.folder / "config.toml").write_text(
        text.replace("# succeeded =", "succeeded = 3 #").replace("# canceled =", "canceled = 6 #")
    )
    for made in (live.box.halo.rows_of(name) for name in list(live.box.stripe.intents)[:2]):
        made[0]["status"] = 2
    done = live.command("calibrate", "--accept", "processing", "--write")
    shown = done.stdout.splitlines()
    (succeeded,) = (line for line in shown if line.startswith("│ succeeded"))
    cells = [cell.strip() for cell in succeeded.strip("│").split("│")]
    assert cells[:5] == ["succeeded", "2", "2", "0", "3"]
    assert "no row shows the configured 3" in " ".join(done.stdout.replace("│", " ").split())
    make = "To get evidence, while Halo's own webhook is on: "
    assert f"succeeded: no row proves the configured 3. {make}{HOW_TO_MAKE[S.SUCCEEDED]}." in shown
    assert f"canceled: no row proves the configured 6. {make}{HOW_TO_MAKE[S.CANCELED]}." in shown
    for state in (S.PAYMENT_FAILED, S.REQUIRES_ACTION):
        held = f"{state}: no number yet, so its payments are held. {make}{HOW_TO_MAKE[state]}."
        assert held in shown
    # Two rows of bank debits contradict each other, so there is no hint to accept.
    assert done.stderr.splitlines()[-2:] == [
        "processing: no hint to accept: rows contradict each other. Open the rows named above in Halo, and find out which status is right.",
        "Nothing to write.",
    ]
    assert done.returncode == 1
    read = json.loads(live.command("calibrate", "--json").stdout)["states"]["succeeded"]
    assert (read["number"], read["for_number"], read["for"], read["against"]) == (None, 2, 2, 0)


def test_calibrate_says_why_there_is_no_hint(live: Rig) -> None:
    """`calibrate` gives no hint until it knows the number of a new row, and says so."""
    for _ in range(2):
        live.box.halo.rows_of(live.pay("processing"))[0]["status"] = 5
    _file(live)
    done = live.command("calibrate", "--accept", "processing", "--accept", "canceled")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "processing: no hint to accept: first find out which number a new row starts with (open an invoice's "
            "payment page in Halo, pay nothing, and run syncd calibrate again).",
            "canceled: no hint to accept: no row shows a number.",
        ],
    )


def test_calibrate_while_halo_is_down(live: Rig) -> None:
    """If Halo cannot be read, `calibrate` exits with 69, writes nothing, and does not promise to continue."""
    live.box.halo.faults.append(Fault("html", times=None))
    file = _file(live)
    before = file.read_text()
    done = live.command("calibrate", "--write")
    assert (done.returncode, file.read_text()) == (69, before)
    for said in (done, live.command("audit", "--since", "1d")):
        assert said.returncode == 69
        assert "Halo" in said.stderr
        assert "the next run continues" not in said.stderr


def test_calibrate_while_stripe_is_down(live: Rig) -> None:
    """If Stripe fails, `calibrate` shows the evidence of Halo's webhook, writes nothing and exits with 69."""
    _native(live, "succeeded")
    live.box.stripe.faults.append(Fault("html", times=None))
    file = _file(live)
    before = file.read_text()
    alone = live.command("calibrate")  # every row has a trace, so `calibrate` does not need Stripe
    assert (alone.returncode, alone.stderr) == (1, "")
    for row in (
        live.box.halo.rows_of(live.pay("succeeded")),
        live.box.halo.rows_of(live.pay(None)),
    ):
        row[0]["status"] = 4
    done = live.command("calibrate", "--write", "--accept", "canceled")
    assert (done.returncode, file.read_text()) == (69, before)
    assert "succeeded = 3: 1 row (such as row 1 (" in done.stdout
    assert "Not compared with Stripe: 2 rows without a trace." in done.stdout
    hint, trouble, written = done.stderr.splitlines()
    assert (
        hint == "canceled: no hint to accept: rows without a trace were not compared with Stripe."
    )
    assert trouble.startswith("syncd: Stripe's answer to GET /v1/payment_intents/")
    assert trouble.endswith(" Only rows that Halo's own webhook wrote are shown.")
    assert written == "Nothing was written. Run calibrate again when Stripe answers."
    asked = live.command("calibrate", "--json")
    read = json.loads(asked.stdout)
    assert (asked.returncode, read["left_out"]["not_asked"]) == (69, 2)
    assert (
        trouble
        == f"syncd: {read['stripe_trouble']} Only rows that Halo's own webhook wrote are shown."
    )


def test_a_listing_that_breaks_off_shows_nothing(rig: Rig) -> None:
    """If Stripe's list breaks off, no row without a trace counts, also not the rows already compared."""
    rig.box.seed(240)
    _native(rig, "succeeded")
    rig.box.stripe.faults.append(Fault("html", times=None, path="/v1/payment_intents", after=1))
    survey = _survey(rig)
    assert survey.trouble is not None
    assert (survey.tally.bare, survey.unasked, survey.unknown) == ({}, 240, 0)
    assert _numbers(learn(survey.tally))[S.SUCCEEDED] == 3


def test_calibrate_with_a_damaged_database(live: Rig) -> None:
    """With a damaged database, `calibrate` uses no row as evidence, and says what to do."""
    _native(live, "succeeded")
    (live.folder / "syncd.db").write_bytes(b"not a database" * 100)
    _file(live)
    done = live.command("calibrate", "--write")
    assert (done.returncode, done.stdout) == (78, "")
    assert "move the file away and run syncd --backfill 90d" in done.stderr
    assert done.stderr.endswith(
        "Until then syncd cannot tell which rows it wrote itself, so it used no row as evidence.\n"
    )


# --- the file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[halo]\nurl = "https://a.b"  # mine\n',
        '[halo]\nurl = "https://a.b"\n[halo.status]\nprocessing = 5 # bank debits\n\n# the end\n',
        '[halo]\nstatus = { canceled = 6 }\n[poll]\ninterval = "1m"',
        'halo.url = "https://a.b"\r\nhalo.status.canceled = 6\r\n',
        "# only a comment\n[halo.status]",
        '[halo.new_row]\nmethod = 1\n\n[poll]\ninterval = "1m"\n\n[halo.status]\n\n[web]\n',
    ],
)
def test_numbers_go_into_any_file(text: str) -> None:
    """The numbers are added to any valid TOML file, and comments stay."""
    after = with_numbers(text, {S.SUCCEEDED: 3, S.PAYMENT_FAILED: 4}, "config.toml")
    expected = tomllib.loads(text)
    expected.setdefault("halo", {}).setdefault("status", {}).update(succeeded=3, payment_failed=4)
    assert tomllib.loads(after) == expected
    for comment in ("# mine", "# bank debits", "# the end", "# only a comment"):
        assert (comment in after) == (comment in text)


def test_a_file_that_can_not_be_replaced(tmp_path: Path) -> None:
    """`calibrate` leaves a missing, invalid or differing file unchanged, with an error message."""
    file = tmp_path / "config.toml"
    with pytest.raises(ConfigurationError, match="can't be written: No such file"):
        write_numbers(file, {S.SUCCEEDED: 3})
    file.write_text("[halo.status]\nsucceeded = 4\n")
    with pytest.raises(ConfigurationError, match=r"says 4, the rows show 3"):
        write_numbers(file, {S.SUCCEEDED: 3})
    file.write_text("[halo")
    with pytest.raises(ConfigurationError, match="isn't TOML"):
        write_numbers(file, {S.SUCCEEDED: 3})
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """If the configuration file is a symbolic link, `calibrate` writes its target and keeps the link."""
    real, link = tmp_path / "real.toml", tmp_path / "config.toml"
    real.write_text("[halo.status]\n")
    link.symlink_to(real)
    write_numbers(link, {S.SUCCEEDED: 3})
    assert link.is_symlink()
    assert tomllib.loads(real.read_text()) == {"halo": {"status": {"succeeded": 3}}}
