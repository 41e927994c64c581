"""The simulated Halo: invoice payments as authors of clients have seen them."""

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from typing import Any

from syncd.sandbox.faults import Fault
from syncd.sandbox.halo.signin import HaloSignIn
from syncd.sandbox.halo.tenant import LOOKUPS, MODULES, NEVER, InvoiceList, Keeping, Showing
from syncd.sandbox.halo.values import is_row, refused_filters, refused_values
from syncd.sandbox.http import Reply, Request, json_reply

STATUS = {"succeeded": 3, "payment_failed": 4, "processing": 5, "canceled": 6, "requires_action": 7}
NEW_STATUS = 1

CHANGES_ROWS_MAX = 1_000
"""Changes of an invoice with more rows are not recorded; only a benchmark has such an invoice."""


class SandboxHalo(HaloSignIn):
    """Halo's data, and its answers.

    Attributes:
        rows: invoice payments by id.
        writes: every row that was written, as (id, what was posted, whether it was inserted).
        page_cap: the maximum number of rows on a page.
        paging: "honoured", "ignored" (everything at once) or "same_page" (always page 1).
        list_shape: "payments" (an object with a count) or "bare" (a list).
        filter_ignored: whether `intent_id` is ignored.
        list_lag_seconds: how long lists do not show a row after it was posted.
        answer_shape: the answer to a POST after it was carried out, which is not documented:
            "rows", "empty", "no_json", "error_in_200", "other_rows" or "bare_object".
        invoice_list: how invoices are listed.
        rows_pay: whether a succeeded row reduces the invoice's amount due, which is not documented
            either.
        keeps: what the tenant stores of a posted row, which is not documented.
        shows: what the tenant leaves out of the rows in its answers.
        tables: the answers to `/api/Features` and `/api/Lookup`; a missing name is a 404.
        changes: the answer to `/api/InvoiceChange`, for all invoices.
        rate_limit: requests in any five minutes; None for no limit.
        clock_skew: the error of the Date header in seconds; None leaves the header out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.clock_skew: float | None = 0.0
        self.status = dict(STATUS)
        self.rate_limit: int | None = 300
        self.retry_after: str | None = None
        self.page_cap = 100
        self.paging = "honoured"
        self.list_shape = "payments"
        self.filter_ignored = False
        self.list_lag_seconds = 0.0
        self.answer_shape = "rows"
        self.rows_pay = True
        self.keeps = Keeping()
        self.shows = Showing()
        self.tables: dict[str, Any] = {"Features": MODULES, "Lookup": LOOKUPS}
        self.changes: list[dict[str, Any]] = []
        self.rows: dict[int, dict[str, Any]] = {}
        self.invoices: dict[int, dict[str, Any]] = {}
        self.invoice_list = InvoiceList()
        self.writes: list[tuple[int, dict[str, Any], bool]] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._posted_at: dict[int, float] = {}
        self._poison: dict[int | str, str] = {}
        self._by_intent: dict[str, list[int]] = {}
        self._by_invoice: dict[int, list[int]] = {}
        self._recent: deque[float] = deque()
        self._next = {"row": 1, "invoice": 1001}

    # --- what people and Halo itself do -----------------------------------------------------------

    def add_invoice(
        self,
        number: str | None = None,
        total: float = 10.99,
        currency: int | str = 1,
        **other: Any,
    ) -> int:
        """Add an invoice; `currency` is the tenant's number of it, or letters. Returns its id."""
        name = self._next["invoice"]
        self._next["invoice"] += 1
        self.invoices[name] = {
            "id": name,
            "invoicenumber": number or f"INV-{name}",
            "total": total,
            "currency_code": currency,
            "client_id": 7,
            "client_name": "A customer",
            "change_seq": name,
            **other,
        }
        return name

    def add_row(
        self,
        intent_id: str | None,
        invoice_id: int,
        amount: Any,
        status: Any = NEW_STATUS,
        **other: Any,
    ) -> int:
        """Add a payment row, as Halo does when a customer starts to pay; returns its id."""
        name = self._next["row"]
        self._next["row"] += 1
        now = _iso(self.clock())
        self.rows[name] = {
            "id": name, "invoice_id": invoice_id, "date": now, "amount": amount, "method": 12,
            "status": status, "type": 0, "module_id": 231, "intent_id": intent_id, "intent_date": now,
            "intent_response": None, "webhook_payload": None, "webhook_received_date": NEVER,
            "thirdpartyid": "", "posted": False, "dateposted": NEVER,
            **{key: self.invoices.get(invoice_id, {}).get(key, value)
               for key, value in (("client_id", 7), ("client_name", "A customer"))},
            "invoice_invoicenumber": self.invoices.get(invoice_id, {}).get("invoicenumber"), **other,
        }  # fmt: skip
        self._by_invoice.setdefault(invoice_id, []).append(name)
        if intent_id is not None:
            self._by_intent.setdefault(intent_id, []).append(name)
        return name

    def rows_of(self, intent_id: str) -> list[dict[str, Any]]:
        """All rows of one payment intent."""
        return [self.rows[i] for i in self._by_intent.get(intent_id, []) if i in self.rows]

    def delete_row(self, row_id: int) -> None:
        """Delete a row, as a person does."""
        del self.rows[row_id]

    def native_webhook(self, event: dict[str, Any]) -> None:
        """Process an event as Halo's own Stripe integration does: write its payment's rows."""
        intent = event["data"]["object"]["id"]
        state = event["type"].removeprefix("payment_intent.")
        for row in self.rows_of(intent):
            row.update(
                status=self.status[state],
                webhook_payload=json.dumps(event),
                webhook_received_date=_iso(self.clock()),
            )

    def poison(
        self, which: int | str, message: str = "Could not convert string to integer."
    ) -> None:
        """From now on, a POST with this row (its id, or its payment intent's) fails as a whole."""
        self._poison[which] = message

    def unpoison(self, which: int | str) -> None:
        """The row can be written again."""
        self._poison.pop(which, None)

    # --- answers ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        reply = self._reply(request)
        if self.clock_skew is not None:
            reply.headers["Date"] = formatdate(self.clock() + self.clock_skew, usegmt=True)
        return reply

    def _reply(self, request: Request) -> Reply:
        limited = self._limited(request)
        if limited is not None:
            return limited
        signing_in = self._sign_in(request)
        if signing_in is not None:
            return signing_in
        refused = self._unauthorised(request)
        if refused is not None:
            return refused
        return self._answer(request)

    def _limited(self, request: Request) -> Reply | None:
        while self._recent and self._recent[0] <= request.at - 300:
            self._recent.popleft()
        if self.rate_limit is not None and len(self._recent) >= self.rate_limit:
            reply = Reply(
                429,
                f"Rate Limit Reached - {self.rate_limit} Requests per rolling 5 minute window".encode(),
                {"Content-Type": "text/plain"},
            )
            if self.retry_after is not None:
                reply.headers["Retry-After"] = self.retry_after
            return reply
        self._recent.append(request.at)
        return None

    def _answer(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        if len(parts) == 2 and parts[1] == "InvoicePayment":
            if request.method == "GET":
                return self._list(request)
            return self._post(request) if request.method == "POST" else _not_allowed()
        if len(parts) == 2 and request.method == "GET" and parts[1] in self.tables:
            return json_reply(self.tables[parts[1]])
        if len(parts) == 2 and request.method == "GET" and parts[1] == "InvoiceChange":
            asked = request.params().get("invoice_id", "")
            return json_reply(
                {"changehistory": [c for c in self.changes if str(c["invoice_id"]) == asked]}
            )
        if parts == ["api", "Invoice"] and self.invoice_list.paging != "absent":
            return self._list_invoices(request) if request.method == "GET" else _not_allowed()
        if len(parts) != 3 or parts[1] not in ("InvoicePayment", "Invoice"):
            return json_reply({"resultCode": -1, "errorMessage": "Not found"}, 404)
        if not parts[2].removeprefix("-").isdigit():
            return json_reply({"id": [f"The value '{parts[2]}' is not valid."]}, 400)
        name, invoices = int(parts[2]), parts[1] == "Invoice"
        if request.method not in (("GET",) if invoices else ("GET", "DELETE")):
            return _not_allowed()
        if name not in (self.invoices if invoices else self.rows):
            return _record_not_found()
        if request.method == "DELETE":
            self.delete_row(name)
            return json_reply({})
        return json_reply(self._invoice(name) if invoices else self.shows.alone(self.rows[name]))

    def _shows(self, row_id: int) -> bool:
        """Whether lists show a posted row by now."""
        return self._posted_at.get(row_id, 0.0) <= self.clock() - self.list_lag_seconds

    def _list(self, request: Request) -> Reply:
        query = request.params()
        refused = refused_filters(query)
        if refused:
            return json_reply(refused, 400)
        if "intent_id" in query and not self.filter_ignored:
            found = self.rows_of(query["intent_id"])
            found = [row for row in found if row["id"] not in self.keeps.without_intent]
        else:
            found = list(self.rows.values())
        for key in ("invoice_id", "client_id"):
            if key in query:
                found = [row for row in found if str(row.get(key)) == query[key]]
        if "search" in query:
            words = query["search"].lower()
            found = [row for row in found if words in json.dumps(row).lower()]
        if (order := query.get("order")) is not None:
            # Ids only grow, so the rows are sorted by id already.
            found = found if order == "id" else sorted(found, key=lambda row: str(row.get(order)))
            found = found[::-1] if query.get("orderdesc") == "true" else found
        found = [row for row in found if self._shows(row["id"])]
        total = len(found)
        found = [self.shows.in_list(row) for row in found]
        if query.get("pageinate") == "true" and self.paging != "ignored":
            size = min(int(query.get("page_size", "50")), self.page_cap)
            number = 1 if self.paging == "same_page" else int(query.get("page_no", "1"))
            found = found[(number - 1) * size : number * size]
        elif "count" in query:
            found = found[: int(query["count"])]
        return json_reply(
            found if self.list_shape == "bare" else {"payments": found, "record_count": total}
        )

    def _list_invoices(self, request: Request) -> Reply:
        query = request.params()
        refused = refused_filters(query)
        if refused:
            return json_reply(refused, 400)
        return json_reply(self.invoice_list.answer(self.invoices.values(), query, self._invoice))

    def _post(self, request: Request) -> Reply:
        if "json" not in request.headers.get("content-type", ""):
            return json_reply({"Message": "Unsupported media type"}, 415)
        try:
            posted = json.loads(request.body, parse_float=Decimal)
        except ValueError:
            return Reply(415, b"")
        if not isinstance(posted, list):
            return json_reply({"": ["The JSON value could not be converted to a list."]}, 400)
        problems: dict[str, list[str]] = {}
        for place, row in enumerate(posted):
            problems |= self._problems(place, row)
        if problems:
            if problems.keys() == {"id"}:
                return _record_not_found()
            return json_reply(problems, 400)
        refused = self.keeps.refuses(posted)
        if refused is not None:
            return json_reply(refused, 400)
        return self._answer_to_post([self._apply(_floats(row)) for row in posted], posted)

    def _problems(self, place: int, row: Any) -> dict[str, list[str]]:
        known = self.rows.get(row["id"]) if is_row(row) and isinstance(row.get("id"), int) else None
        if is_row(row):
            for name in (row.get("id"), row.get("intent_id"), (known or {}).get("intent_id")):
                if name in self._poison:
                    return {f"[{place}].status": [self._poison[name]]}
        problems = refused_values(place, row)
        if problems:
            return problems
        if "id" in row:
            return {} if known else {"id": ["Record not found"]}
        if row.get("invoice_id") not in self.invoices:
            return {f"[{place}].invoice_id": ["The invoice does not exist."]}
        return {} if "amount" in row else {f"[{place}].amount": ["The amount is required."]}

    def _apply(self, posted: dict[str, Any]) -> int:
        if "id" in posted:
            name = posted["id"]
            before = self._amounts(self.rows[name]["invoice_id"])
            self.rows[name].update(self.keeps.stored(posted, self.rows[name]))
            self.writes.append((name, posted, False))
            self._note_change(self.rows[name]["invoice_id"], before)
            return int(name)
        fields = {"intent_id": None, "amount": 0, **self.keeps.stored_new(posted)}
        before = self._amounts(posted["invoice_id"])
        name = self.add_row(**fields)
        self._posted_at[name] = self.clock()
        self._note_change(posted["invoice_id"], before)
        self.writes.append((name, posted, True))
        return name

    def _answer_to_post(self, ids: list[int], posted: list[dict[str, Any]]) -> Reply:
        rows = [
            self.shows.answered(self.keeps.answered(self.rows[name], _floats(sent)))
            for name, sent in zip(ids, posted, strict=True)
        ]
        match self.answer_shape:
            case "empty":
                return Reply(200, b"")
            case "no_json":
                return Reply(200, b"OK", {"Content-Type": "text/plain"})
            case "error_in_200":
                return json_reply({"resultCode": 1, "errorMessage": "The accounts sync is busy"})
            case "other_rows":
                return json_reply([row for row in self.rows.values() if row["id"] not in ids][:2])
            case "bare_object":
                return json_reply(rows[0])
        return json_reply(rows, 201)

    def _amounts(self, invoice_id: Any) -> dict[str, Any]:
        many = len(self._by_invoice.get(invoice_id, ())) > CHANGES_ROWS_MAX
        if invoice_id not in self.invoices or many:
            return {}
        invoice = self._invoice(invoice_id)
        return {key: invoice[key] for key in ("amountpaid", "amountdue", "paymentstatus")}

    def _note_change(self, invoice_id: Any, before: dict[str, Any]) -> None:
        after = self._amounts(invoice_id)
        self.changes += [
            {
                "invoice_id": invoice_id,
                "datetime": _iso(self.clock()),
                "field_name": key,
                "old_value": str(value),
                "new_value": str(after[key]),
                "who": "API",
            }
            for key, value in before.items()
            if after.get(key, value) != value
        ]

    def _invoice(self, name: int) -> dict[str, Any]:
        invoice = self.invoices[name]
        ids = self._by_invoice.get(name, ())
        rows = [self.rows[i] for i in ids if i in self.rows and self.rows[i]["invoice_id"] == name]
        paid = sum(
            _number(row["amount"]) for row in rows if row["status"] == self.status["succeeded"]
        )
        paid = paid if self.rows_pay else 0
        return {
            **invoice,
            "amountpaid": paid,
            "amountdue": invoice["total"] - paid,
            "paymentstatus": 2 if paid >= invoice["total"] else 0,
            "datepaid": _iso(self.clock()) if paid >= invoice["total"] else NEVER,
            "payments": rows,
        }


def _record_not_found() -> Reply:
    return json_reply({"ClassName": "System.Exception", "Message": "Record not found"}, 400)


def _not_allowed() -> Reply:
    return json_reply({"Message": "The requested resource does not support this method."}, 405)


def _number(amount: Any) -> float:
    """Read an amount, which may be text; 0 if it is not a number."""
    try:
        return float(amount)
    except (TypeError, ValueError):
        return 0


def _floats(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(value) if isinstance(value, Decimal) else value for key, value in row.items()
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
