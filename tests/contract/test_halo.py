"""Contract tests for Halo's adapter alone."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from syncd.clients.halo.parse import InvoicePage, is_whole, last_page
from syncd.clients.halo.sink import HaloSink
from syncd.core.errors import (
    BadAnswer,
    LinkFailure,
    RateLimited,
    RowsRefused,
)
from syncd.core.rows import Acknowledged, Invoice, Row, RowChange, RowPage
from syncd.sandbox import Fault
from syncd.sandbox.halo.tenant import LIST_KEYS_SEEN, InvoiceList
from tests.conftest import NOW
from tests.contract.conftest import Bench
from tests.writes import Allow, Refuse, new_row

PAGE = {"pageinate": "true", "page_size": "100"}


def _update(*rows: int) -> Callable[[HaloSink], Any]:
    changes = [RowChange(row, 3) for row in rows]
    return lambda sink: sink.update(changes, Allow())


async def _all_pages(sink: HaloSink) -> list[RowPage]:
    """Read pages as the engine does: until a page ends the listing."""
    known: set[int | None] = set()

    def count_new(page: RowPage) -> int:
        new = {row.id for row in page.rows} - known
        known.update(new)
        return len(new)

    return [listed.page async for listed in sink.list_rows(count_new)]


# --- listings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["payments", "bare"])
@pytest.mark.parametrize(("cap", "rows"), [(100, 250), (100, 200), (50, 120), (100, 0), (100, 1)])
def test_all_rows_page_by_page(bench: Bench, shape: str, cap: int, rows: int) -> None:
    """All rows are listed, newest first, whatever the page limit and the shape of the answer."""
    halo = bench.box.halo
    halo.list_shape, halo.page_cap = shape, cap
    made = [halo.add_row(f"pi_{n}", 1, 10.99) for n in range(rows)]
    pages = bench.halo(_all_pages)
    found = [row.id for page in pages for row in page.rows]
    assert list(dict.fromkeys(found)) == made[::-1]
    assert {page.total for page in pages} == {rows if shape == "payments" else None}
    asked = [request.params() for request in bench.listings("halo")]
    assert asked == [
        {**PAGE, "order": "id", "orderdesc": "true", "page_no": str(number)}
        for number in range(1, len(pages) + 1)
    ]


def test_rows_of_an_intent(bench: Bench) -> None:
    """rows_of() returns exactly the rows of one payment intent, with all their fields."""
    halo = bench.box.halo
    mine = halo.add_row("pi_mine", 1001, 10.10, 4)
    halo.add_row("pi_other", 1001, 5)
    assert bench.halo(lambda sink: sink.rows_of("pi_mine")) == [
        Row(mine, "pi_mine", 1001, Decimal("10.1"), 4, int(NOW), customer="A customer")
    ]
    (request,) = bench.listings("halo")
    assert request.params() == {**PAGE, "intent_id": "pi_mine", "page_no": "1"}


def test_many_rows_of_an_intent(bench: Bench) -> None:
    """If a payment has more rows than one page holds, all of them are found."""
    for _ in range(230):
        bench.box.halo.add_row("pi_mine", 1001, 1)
    assert len(bench.halo(lambda sink: sink.rows_of("pi_mine"))) == 230
    assert len(bench.listings("halo")) == 3


def test_filter_that_is_passed_over(bench: Bench) -> None:
    """If Halo ignores the filter, all pages are read and rows of other payments are dropped."""
    bench.box.halo.filter_ignored = True
    for number in range(150):
        bench.box.halo.add_row(f"pi_{number}", 1001, 1)
    found = bench.halo(lambda sink: sink.rows_of("pi_149"))
    assert [row.intent_id for row in found] == ["pi_149"]


@pytest.mark.parametrize("paging", ["ignored", "same_page"])
def test_paging_that_does_not_page(bench: Bench, paging: str) -> None:
    """If Halo ignores paging, one answer with all rows is accepted; a repeated page is an error."""
    bench.box.halo.paging = paging
    for _ in range(130):
        bench.box.halo.add_row("pi_mine", 1001, 1)
    if paging == "ignored":
        assert len(bench.halo(lambda sink: sink.rows_of("pi_mine"))) == 130
        return
    with pytest.raises(BadAnswer, match="100 of 130"):
        bench.halo(lambda sink: sink.rows_of("pi_mine"))
    bench.box.halo.list_shape = "bare"
    with pytest.raises(BadAnswer, match="100 of more"):
        bench.halo(lambda sink: sink.rows_of("pi_mine"))


@pytest.mark.parametrize(
    ("page", "new", "seen", "last", "whole"),
    [
        ((100, 250), 100, 100, False, False),
        ((50, 250), 50, 250, True, True),
        ((50, 250), 50, 100, False, False),
        ((0, 250), 0, 200, True, False),
        ((100, None), 100, 100, False, True),
        ((50, None), 50, 150, False, True),
        ((0, None), 0, 100, True, True),
        ((100, None), 0, 100, True, False),
        ((100, 100), 100, 100, False, True),
        ((0, 0), 0, 0, True, True),
    ],
)
def test_where_a_listing_ends(
    page: tuple[int, int | None], new: int, seen: int, last: bool, whole: bool
) -> None:
    """A listing ends with a page without new rows, or with a short page once all counted rows were seen."""
    size, total = page
    shown = RowPage((Row(1, None, None, None, None),) * size, total)
    assert (last_page(shown, new=new, seen=seen), is_whole(shown, new=new, seen=seen)) == (
        last,
        whole,
    )


def test_rows_that_make_no_sense(bench: Bench) -> None:
    """Unreadable fields of a row become None; text that is exactly a number is read as that number."""
    halo = bench.box.halo
    odd: list[dict[str, Any]] = [
        {"id": "7", "invoice_id": None, "amount": "10.99", "status": "3"},
        {"id": True, "invoice_id": 2.5, "amount": "10,99", "status": 3.5},
        {"id": 8.0, "invoice_id": 2**63, "amount": 1e300, "status": 3.0},
        {"id": None, "invoice_id": [], "amount": None, "status": None},
    ]
    for number, fields in enumerate(odd):
        halo.rows[number] = {**fields, "intent_id": "pi_x"}
    halo._by_intent["pi_x"] = list(range(len(odd)))
    page = bench.halo(_all_pages)[0]
    assert sorted(page.rows, key=repr) == sorted(
        [
            Row(7, "pi_x", None, Decimal("10.99"), 3),
            Row(None, "pi_x", None, None, None),
            Row(8, "pi_x", None, None, 3),
            Row(None, "pi_x", None, None, None),
        ],
        key=repr,
    )


@pytest.mark.parametrize(
    "body",
    [b'{"payments": null}', b'{"record_count": 3}', b"3", b"null", b'"payments"', b"[NaN]",
     b'{"resultCode": 1, "errorMessage": "The accounts sync is busy"}', b"[" * 100_000],
    ids=["null", "count", "number", "nothing", "text", "nan", "error", "deep"],
)  # fmt: skip
def test_a_200_that_is_no_list(bench: Bench, body: bytes) -> None:
    """A 200 without a list of payments is an error, not "no rows"; the error repeats Halo's message."""
    bench.box.halo.faults.append(Fault("200", path="InvoicePayment", body=body))
    with pytest.raises(BadAnswer) as caught:
        bench.read("halo")
    assert ("accounts sync is busy" in str(caught.value)) is (b"busy" in body)


# --- writing ---------------------------------------------------------------------------------------


def test_what_is_posted(bench: Bench) -> None:
    """An update is posted as one JSON list of rows."""
    halo = bench.box.halo
    row = halo.add_row("pi_1", 1001, 10.99)
    bench.halo(_update(row))
    (posted,) = bench.posts()
    assert posted.headers["content-type"] == "application/json"
    assert (posted.json(), posted.query) == ([{"id": row, "status": 3}], [])


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ("rows", None),
        ("bare_object", None),
        ("empty", None),
        ("no_json", None),
        ("error_in_200", "The accounts sync is busy."),
        ("other_rows", None),
    ],
)
def test_what_a_2xx_proves(bench: Bench, shape: str, complaint: str | None) -> None:
    """A 2xx confirms only the rows that it lists; an error message inside it is kept."""
    halo = bench.box.halo
    halo.answer_shape = shape
    invoice = halo.add_invoice()
    mine, other = halo.add_row("pi_1", invoice, 10.99), halo.add_row("pi_2", invoice, 5)
    answer = bench.halo(_update(mine))
    rows = {
        "rows": (
            Row(mine, "pi_1", invoice, Decimal("10.99"), 3, int(NOW), "INV-1001", "A customer"),
        ),
        "bare_object": (
            Row(mine, "pi_1", invoice, Decimal("10.99"), 3, int(NOW), "INV-1001", "A customer"),
        ),
        "other_rows": (
            Row(other, "pi_2", invoice, Decimal(5), 1, int(NOW), "INV-1001", "A customer"),
        ),
    }.get(shape, ())
    assert answer == Acknowledged(rows, complaint, error=shape == "error_in_200")
    assert halo.rows[mine]["status"] == 3


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            b'{"payments": [{"id": 1, "status": 3}]}',
            Acknowledged((Row(1, None, None, None, 3),), None),
        ),
        (b'[{"status": 3}]', Acknowledged((), None)),
        (b"[]", Acknowledged((), None)),
        (b"null", Acknowledged((), None)),
        (b"true", Acknowledged((), None)),
        (b'{"Message": "Queued"}', Acknowledged((), "Queued.")),
        (b"<html>Sign in</html>", Acknowledged((), None, web_page=True)),
    ],
)
def test_other_2xx(bench: Bench, body: bytes, answer: Acknowledged) -> None:
    """A 2xx of an unknown shape confirms only the rows that it shows."""
    bench.box.halo.faults.append(Fault("200", method="POST", path="InvoicePayment", body=body))
    assert bench.halo(_update(1)) == answer


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"resultCode": 1, "errorMessage": "No such status"}', "No such status."),
        (b'{"ClassName": "System.Exception", "Message": "Record not found"}', "Record not found."),
        (b'{"Message": "The invoice is locked!"}', "The invoice is locked!"),
        (b'{"error": "invalid_row", "error_description": "Which row?"}', "Which row?"),
        (b'{"[0].invoice_id": ["Could not convert string to integer.", "Twice."]}',
         "[0].invoice_id: Could not convert string to integer.; Twice."),
        (b"Something \x1b[31mred\x07 broke", "Something [31mred broke."),
        (b'{"Message": "<b>Bold</b> \\u202e pi_3Q_secret_x eyJhbGciOiJIUzI1NiIsInR5cCI6"}',
         "Bold pi_3Q[removed] [removed]."),
        (b"", "the answer is empty."), (b"[1, 2]", "the answer has no message."),
        (b'{"": {}, "x": true}', "the answer has no message."),
        (b'{"Message": "' + b"x" * 9_000 + b'"}', "x" * 500 + "."),
    ],
    ids=["resultCode", "ClassName", "Message", "error", "fields", "text", "markup", "empty", "list",
         "wordless", "long"],
)  # fmt: skip
@pytest.mark.parametrize("status", ["400", "404", "409", "413", "422"])
def test_rows_that_are_refused(bench: Bench, status: str, body: bytes, words: str) -> None:
    """Halo's error message is kept as one plain sentence, whatever the shape of the error."""
    fault = Fault("400", method="POST", path="InvoicePayment", body=body, status=int(status))
    bench.box.halo.faults.append(fault)
    with pytest.raises(RowsRefused) as caught:
        bench.halo(_update(1))
    assert str(caught.value) == words
    assert (len(bench.posts()), bench.waited) == (1, [])


def test_id_that_halo_does_not_know(bench: Bench) -> None:
    """If one row of a list has an unknown ID, Halo refuses the whole list and writes nothing."""
    row = bench.box.halo.add_row("pi_1", 1001, 10.99)
    with pytest.raises(RowsRefused, match=r"Record not found\."):
        bench.halo(_update(row, 99))
    assert (bench.box.halo.rows[row]["status"], bench.box.halo.writes) == (1, [])


def test_page_in_place_of_a_refusal(bench: Bench) -> None:
    """A 404 with a web page comes from a server in front of Halo, so it does not blame a row."""
    bench.box.halo.faults.append(
        Fault(
            "400",
            times=None,
            method="POST",
            body=b"<html>Nothing here</html>",
            status=404,
            path="InvoicePayment",
        )
    )
    with pytest.raises(
        BadAnswer, match=r"404 to POST /api/InvoicePayment: the answer is a web page\."
    ):
        bench.halo(_update(1))


@pytest.mark.parametrize(
    ("kind", "sent", "maybe_applied", "late"),
    [
        ("500", 1, True, False), ("500_after", 1, True, False), ("503", 1, True, True),
        ("502", 1, True, True), ("504", 1, True, True), ("504_after", 1, True, True),
        ("reset", 1, True, True), ("reset_after", 1, True, True), ("truncated", 1, True, True),
        ("redirect", 1, True, True), ("403", 1, False, False), ("429", 1, False, False),
    ],
)  # fmt: skip
def test_insert_that_fails(
    bench: Bench, kind: str, sent: int, maybe_applied: bool, late: bool
) -> None:
    """An insert that fails is not sent again, and the error says whether Halo may have applied it."""
    halo = bench.box.halo
    fault = Fault(kind, times=None, method="POST", path="InvoicePayment", retry_after=30)
    halo.faults.append(fault)
    row = new_row(halo.add_invoice())
    with pytest.raises(LinkFailure) as caught:
        bench.halo(lambda sink: sink.insert(row, Allow()))
    assert (caught.value.maybe_applied, caught.value.late) == (maybe_applied, late)
    assert len(bench.posts()) == sent
    assert len(halo.rows) <= 1


def test_insert_that_times_out(bench: Bench) -> None:
    """If an insert times out, the error says that Halo may have applied it or may still do so."""
    halo = bench.box.halo
    halo.faults.append(Fault("hang_after", method="POST", path="InvoicePayment"))
    row = new_row(halo.add_invoice())
    with pytest.raises(LinkFailure) as caught:
        bench.halo(lambda sink: sink.insert(row, Allow()), timeout=0.3)
    assert (caught.value.maybe_applied, caught.value.late) == (True, True)
    assert (len(bench.posts()), len(halo.rows)) == (1, 1)


def test_the_guard_is_asked_before_each_sending(bench: Bench) -> None:
    """The guard of a write is called right before each attempt."""
    row = bench.box.halo.add_row("pi_1", 1001, 10.99)
    bench.box.halo.faults += [Fault("500", method="POST", path="InvoicePayment", times=2)]
    asked: list[int] = []
    guard = Allow(lambda: asked.append(len(bench.posts())))
    bench.halo(lambda sink: sink.update([RowChange(row, 3)], guard))
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("new", [False, True])
def test_a_guard_keeps_a_write_from_being_sent(bench: Bench, *, new: bool) -> None:
    """If the guard refuses, the adapter sends nothing and returns None."""
    row = bench.box.halo.add_row("pi_1", 1001, 10.99)

    async def write(sink: HaloSink) -> Acknowledged | None:
        if new:
            return await sink.insert(new_row(1001), Refuse())
        return await sink.update([RowChange(row, 3)], Refuse())

    assert bench.halo(write) is None
    assert bench.posts() == []


def test_update_goes_out_again_after_a_401(bench: Bench) -> None:
    """If the token expires before an update, the adapter signs in again and resends the same list."""
    row = bench.box.halo.add_row("pi_1", 1001, 10.99)

    async def work(sink: HaloSink) -> Acknowledged | None:
        await sink.rows_of("pi_1")
        bench.box.halo.expire_tokens()
        return await sink.update([RowChange(row, 3)], Allow())

    answer = bench.halo(work)
    assert answer is not None
    assert answer.rows[0].status == 3
    assert [post.status for post in bench.posts()] == [401, 201]
    first, second = (post.body for post in bench.posts())
    assert json.loads(first) == json.loads(second)


# --- limits ----------------------------------------------------------------------------------------


def test_429_without_retry_after(bench: Bench) -> None:
    """If a 429 has no Retry-After, the adapter raises RateLimited with a wait of 60 seconds."""
    bench.box.halo.rate_limit = 2
    with pytest.raises(RateLimited, match="Rate Limit Reached - 2 Requests") as caught:
        bench.read("halo")
    assert (caught.value.retry_after_seconds, bench.waited) == (60.0, [])


# --- invoices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["invoices", "uncounted", "bare"])
def test_invoices_page_by_page(bench: Bench, shape: str) -> None:
    """Invoices are listed newest first, one page per request; missing columns become None."""
    halo = bench.box.halo
    first, second = halo.add_invoice(total=30.0, currency="eur"), halo.add_invoice(total=5.0)
    halo.add_invoice(total=1.0, client_name="Müller & Söhne")
    halo.add_row("pi_1", second, 2.0, 3)
    halo.invoice_list = InvoiceList(page_cap=2, shape=shape)
    counted = 3 if shape == "invoices" else None
    newest = bench.halo(lambda sink: sink.invoice_page(1))
    assert [one.customer for one in newest.invoices] == ["Müller & Söhne", "A customer"]
    assert (newest.length, newest.total) == (2, counted)
    assert newest.invoices[1] == Invoice(
        second, "INV-1002", Decimal("5.0"), Decimal("3.0"), None, "A customer"
    )
    halo.invoice_list.keys = LIST_KEYS_SEEN
    assert bench.halo(lambda sink: sink.invoice_page(2)) == InvoicePage(
        (Invoice(first, None, None, Decimal("30.0"), None, "A customer"),), 1, counted
    )
    assert bench.halo(lambda sink: sink.invoice_page(3)) == InvoicePage((), 0, counted)


@pytest.mark.parametrize("body", [b"{}", b'{"invoices": 7}', b'{"Message": "No"}', b"[[]]"])
def test_a_200_that_is_no_list_of_invoices(bench: Bench, body: bytes) -> None:
    """An answer without a list of invoices is an error; list entries that are not invoices are skipped."""
    bench.box.halo.faults.append(Fault("200", path="/api/Invoice", body=body))
    if body == b"[[]]":
        assert bench.halo(lambda sink: sink.invoice_page(1)) == InvoicePage((), 1, None)
        return
    with pytest.raises(BadAnswer, match="contains no list"):
        bench.halo(lambda sink: sink.invoice_page(1))


def test_a_tenant_without_a_list_of_invoices(bench: Bench) -> None:
    """If Halo answers 404 to the list of invoices, the adapter raises BadAnswer."""
    bench.box.halo.invoice_list.paging = "absent"
    with pytest.raises(BadAnswer, match="404"):
        bench.halo(lambda sink: sink.invoice_page(1))
