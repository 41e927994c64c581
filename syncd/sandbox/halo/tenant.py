"""Differences between tenants of Halo, where Halo's behaviour is not documented.

It is unknown what InvoicePayment does with a row that has only `id` and `status`, and what lists
leave out. The sandbox can be each kind of tenant.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NEVER = "1900-01-01T00:00:00"

REQUIRED = ("invoice_id", "date", "amount", "method", "status", "module_id")
"""The columns that may not be empty and have no default (source: a description of the database)."""

EMPTY: dict[str, Any] = {
    "invoice_id": 0, "date": NEVER, "amount": 0, "method": 0, "status": 0, "module_id": 0,
    "intent_date": NEVER, "webhook_received_date": NEVER, "dateposted": NEVER,
}  # fmt: skip
"""The value of a column that the tenant empties because a write left it out; None for all others."""

ANYWAY = frozenset({"id", "client_id", "client_name", "invoice_invoicenumber", "type"})
"""Fields that do not come from the row's own columns, so a write cannot empty them."""

MODULES = [
    {"id": 231, "module_name": "StripePayments", "actual_name": "Stripe Payments", "enabled": True},
    {"id": 97, "module_name": "Xero", "actual_name": "Xero", "enabled": False},
]

LOOKUPS = [
    {"lookupid": 71, "id": 12, "name": "Stripe"},
    {"lookupid": 71, "id": 3, "name": "Bank transfer"},
    {"lookupid": 22, "id": 12, "name": "Closed"},
]

KINDS = ("merge", "refuse", "drop", "empty")


@dataclass(slots=True)
class Keeping:
    """What a tenant stores of a posted row.

    Attributes:
        partial: an update without required columns: "merge" keeps the columns that were not sent;
            "refuse" is a 400 until all required columns are sent; "empty" empties the columns that
            were not sent.
        empties: columns that every update without them empties.
        drops: fields that are never stored, although the answer shows them as sent.
        drops_new: the same for inserts.
        inserts_need: columns without which an insert is refused.
        without_intent: rows whose `intent_id` an update has emptied: no filter finds them.
    """

    partial: str = "merge"
    empties: frozenset[str] = frozenset()
    drops: frozenset[str] = frozenset()
    drops_new: frozenset[str] = frozenset()
    inserts_need: tuple[str, ...] = ()
    without_intent: set[Any] = field(default_factory=set)

    def refuses(self, posted: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The body of a 400, if a row lacks columns that this tenant requires."""
        for row in posted:
            needed: tuple[str, ...] = REQUIRED if "id" in row and self.partial == "refuse" else ()
            if "id" not in row:
                needed = self.inserts_need
            missing = [key for key in needed if row.get(key) is None]
            if missing:
                return {"resultCode": -1, "errorMessage": f"{missing[0]} must be specified"}
        return None

    def stored(self, posted: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """The columns that an update changes, with their new values."""
        brought = {key: value for key, value in posted.items() if key not in self.drops}
        empties = self.empties if self.partial != "empty" else before.keys() - ANYWAY
        emptied = {key: EMPTY.get(key) for key in empties if key not in posted}
        columns = {**emptied, **brought}
        if columns.get("intent_id"):
            self.without_intent.discard(before["id"])
        elif "intent_id" in columns:
            self.without_intent.add(before["id"])
        return columns

    def stored_new(self, posted: dict[str, Any]) -> dict[str, Any]:
        """The columns of a new row."""
        return {
            key: value
            for key, value in posted.items()
            if key not in self.drops_new or key in ("invoice_id", "amount")
        }

    def answered(self, row: dict[str, Any], posted: dict[str, Any]) -> dict[str, Any]:
        """The row in the answer to a write: as sent, even if a field was dropped."""
        return {**row, **posted, "id": row["id"]}


@dataclass(slots=True)
class Showing:
    """What a tenant leaves out of rows.

    Attributes:
        lists_hide: fields that lists never show; a row read by its id shows them.
        nulls_left_out: whether null fields are left out of every answer.
        alone_hides: fields that a row read by its id never shows.
    """

    lists_hide: frozenset[str] = frozenset()
    nulls_left_out: bool = False
    alone_hides: frozenset[str] = frozenset()

    def alone(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as read by its id."""
        return self._without(self.alone_hides, row)

    def answered(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row in the answer to a write."""
        return self._without(frozenset(), row)

    def in_list(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as lists show it."""
        return self._without(self.lists_hide, row)

    def _without(self, hidden: frozenset[str], row: dict[str, Any]) -> dict[str, Any]:
        if not hidden and not self.nulls_left_out:
            return row
        return {
            key: value
            for key, value in row.items()
            if key not in hidden and not (self.nulls_left_out and value is None)
        }


# --- the list of invoices -------------------------------------------------------------------------

LIST_KEYS_SEEN = frozenset({"id", "amountdue", "amountpaid", "client_name", "change_seq"})
"""The fields that list rows of invoices are known to have."""

_PAGE_SIZE_OTHERWISE = 50
"""How many invoices Halo lists on a page if it does not follow `page_size`."""


@dataclass(slots=True)
class InvoiceList:
    """How `GET /api/Invoice` answers.

    Attributes:
        paging: "honoured", "ignored" (everything at once), "same_page" (always page 1) or "absent"
            (404).
        page_cap: the maximum number of invoices on a page.
        shape: "invoices" (an object with a count), "uncounted" (one without) or "bare" (a list).
        keys: the fields of a list row; None for everything but its payments.
        ordered: whether `order` and `orderdesc` are followed.
    """

    paging: str = "honoured"
    page_cap: int = 100
    shape: str = "invoices"
    keys: frozenset[str] | None = None
    ordered: bool = True

    def answer(
        self,
        invoices: Iterable[dict[str, Any]],
        query: Mapping[str, str],
        whole: Callable[[int], Mapping[str, Any]],
    ) -> Any:
        """The answer to a listing with this query, as JSON.

        Args:
            invoices: all of them, oldest first, as stored.
            query: the parameters of the request.
            whole: an invoice by its id, as it is shown when it is read by its id.
        """
        found = list(invoices)
        if "client_id" in query:
            found = [one for one in found if str(one.get("client_id")) == query["client_id"]]
        if "search" in query:
            found = [one for one in found if query["search"].lower() in str(one).lower()]
        if self.ordered and (order := query.get("order")) is not None:
            found.sort(key=lambda one: one["id"] if order == "id" else str(one.get(order)))
            found = found[::-1] if query.get("orderdesc") == "true" else found
        total = len(found)
        if query.get("pageinate") == "true" and self.paging != "ignored":
            # Without page_no, Halo ignores page_size.
            asked = query.get("page_size") if "page_no" in query else None
            size = min(int(asked or _PAGE_SIZE_OTHERWISE), self.page_cap)
            number = 1 if self.paging == "same_page" else int(query.get("page_no", "1"))
            found = found[(number - 1) * size : number * size]
        elif "count" in query:
            found = found[: int(query["count"])]
        shown = [self._row(whole(one["id"])) for one in found]
        if self.shape == "bare":
            return shown
        return {"invoices": shown} | ({"record_count": total} if self.shape == "invoices" else {})

    def _row(self, invoice: Mapping[str, Any]) -> dict[str, Any]:
        keys = invoice.keys() - {"payments"} if self.keys is None else self.keys
        return {key: value for key, value in invoice.items() if key in keys}
