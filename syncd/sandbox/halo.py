"""The sandbox's Halo: invoice payments as people who wrote clients have met them."""

import json
import re
import secrets
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from syncd.sandbox.faults import Fault
from syncd.sandbox.http import Reply, Request, json_reply

STATUS = {"succeeded": 3, "payment_failed": 4, "processing": 5, "canceled": 6, "requires_action": 7}
NEW_STATUS = 1
NEVER = "1900-01-01T00:00:00"
_WHOLE = ("id", "invoice_id", "status", "method", "module_id", "client_id")
_TEXTS = ("intent_id", "webhook_payload", "intent_response", "thirdpartyid")
_DATES = ("date", "intent_date", "webhook_received_date")
_FILTERS = {"client_id": int, "count": int, "intent_id": str, "invoice_id": int, "page_no": int,
            "page_size": int, "search": str}  # fmt: skip


class SandboxHalo:
    """Halo's truth, and how it answers.

    Attributes:
        rows: invoice payments by id.
        writes: every row that was written, as (id, what was posted, whether it was inserted).
        page_cap: the most rows on a page.
        paging: "honoured", "ignored" (everything at once) or "same_page" (page 1 for ever).
        list_shape: "payments" (an object with a count) or "bare" (a list).
        filter_ignored: whether `intent_id` is passed over.
        list_lag_seconds: how long a row that was posted doesn't stand in lists yet.
        answer_shape: what a POST answers once it is carried out, which is not documented: "rows",
            "empty", "no_json", "error_in_200", "other_rows" or "bare_object".
        rows_pay: whether a row that succeeded lessens what its invoice says is due, which is not
            documented either.
        rate_limit: requests in any five minutes; None switches it off.
        tenant: must come with a sign-in, where authinfo is there to say so.
        granted_scope: what the token says it is good for; None leaves it out.
        clock_skew: seconds by which the Date header is off; None leaves it out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.url = ""
        self.client_id = "sandbox-client"
        self.client_secret = "sandbox-client-secret"  # opens nothing
        self.tenant = "sandbox"
        self.has_authinfo = True
        self.auth_url: str | None = None
        self.token_lifetime = 3_600.0
        self.permissions = {"read:invoices", "edit:invoices"}
        self.granted_scope: str | None = None
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
        self.rows: dict[int, dict[str, Any]] = {}
        self.invoices: dict[int, dict[str, Any]] = {}
        self.writes: list[tuple[int, dict[str, Any], bool]] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._tokens: dict[str, tuple[float, set[str]]] = {}
        self._posted_at: dict[int, float] = {}
        self._poison: dict[int | str, str] = {}
        self._by_intent: dict[str, list[int]] = {}
        self._recent: deque[float] = deque()
        self._next = {"row": 1, "invoice": 1001}

    # --- what people and Halo itself do -----------------------------------------------------------

    def add_invoice(
        self, number: str | None = None, total: float = 10.99, currency: int = 1
    ) -> int:
        """An invoice; `currency` is the tenant's number for one. Returns its id."""
        name = self._next["invoice"]
        self._next["invoice"] += 1
        self.invoices[name] = {
            "id": name, "invoicenumber": number or f"INV-{name}", "total": total, "currency_code": currency,
        }  # fmt: skip
        return name

    def add_row(
        self,
        intent_id: str | None,
        invoice_id: int,
        amount: Any,
        status: Any = NEW_STATUS,
        **other: Any,
    ) -> int:
        """A payment row, as Halo makes it when a customer starts to pay; returns its id."""
        name = self._next["row"]
        self._next["row"] += 1
        now = _iso(self.clock())
        self.rows[name] = {
            "id": name, "invoice_id": invoice_id, "date": now, "amount": amount, "method": 12,
            "status": status, "type": 0, "module_id": 231, "intent_id": intent_id, "intent_date": now,
            "intent_response": None, "webhook_payload": None, "webhook_received_date": NEVER,
            "thirdpartyid": "", "client_id": 7, "client_name": "A customer",
            "invoice_invoicenumber": self.invoices.get(invoice_id, {}).get("invoicenumber"), **other,
        }  # fmt: skip
        if intent_id is not None:
            self._by_intent.setdefault(intent_id, []).append(name)
        return name

    def rows_of(self, intent_id: str) -> list[dict[str, Any]]:
        """All rows of one intent."""
        return [self.rows[i] for i in self._by_intent.get(intent_id, []) if i in self.rows]

    def delete_row(self, row_id: int) -> None:
        """A person deletes a row."""
        del self.rows[row_id]

    def native_webhook(self, event: dict[str, Any]) -> None:
        """Halo's own Stripe integration takes an event in and writes the rows of its intent."""
        intent = event["data"]["object"]["id"]
        state = event["type"].removeprefix("payment_intent.")
        for row in self.rows_of(intent):
            row.update(
                status=self.status[state], webhook_payload=json.dumps(event),
                webhook_received_date=_iso(self.clock()),
            )  # fmt: skip

    def poison(
        self, which: int | str, message: str = "Could not convert string to integer."
    ) -> None:
        """From now on a POST with this row (its id, or its intent's) fails as a whole."""
        self._poison[which] = message

    def unpoison(self, which: int | str) -> None:
        """The row can be written again."""
        self._poison.pop(which, None)

    def expire_tokens(self) -> None:
        """All tokens end now."""
        self._tokens.clear()

    # --- how it answers -----------------------------------------------------------------------------

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
        if request.path == "/api/authinfo" and request.method == "GET":
            if not self.has_authinfo:
                return Reply(
                    404, b"<html><body>Not found</body></html>", {"Content-Type": "text/html"}
                )
            return json_reply(
                {"auth_url": self.auth_url or f"{self.url}/auth", "tenant_id": self.tenant}
            )
        if request.path == "/auth/token" and request.method == "POST":
            return self._token(request)
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

    def _token(self, request: Request) -> Reply:
        if not request.headers.get("content-type", "").startswith(
            "application/x-www-form-urlencoded"
        ):
            return json_reply({"error": "invalid_request"}, 400)
        form = dict(parse_qsl(request.body.decode()))
        request.body = b""  # it holds the secret
        if form.get("grant_type") != "client_credentials":
            return json_reply({"error": "unsupported_grant_type"}, 400)
        if (form.get("client_id"), form.get("client_secret")) != (
            self.client_id,
            self.client_secret,
        ):
            return json_reply({"error": "invalid_client"}, 401)
        if self.has_authinfo and self.tenant and form.get("tenant") != self.tenant:
            return json_reply(
                {"error": "invalid_request", "error_description": "The tenant is unknown."}, 400
            )
        scopes = set(form.get("scope", "").split())
        if not scopes or not scopes <= {"read:invoices", "edit:invoices", "all"}:
            return json_reply({"error": "invalid_scope"}, 400)
        token = secrets.token_hex(24)
        self._tokens[token] = (self.clock() + self.token_lifetime, scopes)
        answer = {
            "access_token": token, "token_type": "Bearer", "expires_in": int(self.token_lifetime),
        }  # fmt: skip
        if self.granted_scope is not None:
            answer["scope"] = self.granted_scope
        return json_reply(answer)

    def _unauthorised(self, request: Request) -> Reply | None:
        token = request.authorization.removeprefix("Bearer ")
        until, scopes = self._tokens.get(token, (0.0, set()))
        if until <= self.clock():
            return Reply(401, b"")
        needed = "read:invoices" if request.method == "GET" else "edit:invoices"
        if needed not in self.permissions or not {needed, "all"} & scopes:
            return json_reply(
                {
                    "ClassName": "System.UnauthorizedAccessException",
                    "Message": "You do not have permission to access this.",
                },
                403,
            )
        return None

    def _answer(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        if len(parts) == 2 and parts[1] == "InvoicePayment":
            if request.method == "GET":
                return self._list(request)
            return self._post(request) if request.method == "POST" else _not_allowed()
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
        return json_reply(self._invoice(name) if invoices else self.rows[name])

    def _shows(self, row_id: int) -> bool:
        """Whether a row that was posted stands in lists by now."""
        return self._posted_at.get(row_id, 0.0) <= self.clock() - self.list_lag_seconds

    def _list(self, request: Request) -> Reply:
        query = request.params()
        refused = _refused_filters(query)
        if refused:
            return json_reply(refused, 400)
        if "intent_id" in query and not self.filter_ignored:
            found = self.rows_of(query["intent_id"])
        else:
            found = list(self.rows.values())
        for key in ("invoice_id", "client_id"):
            if key in query:
                found = [row for row in found if str(row.get(key)) == query[key]]
        if "search" in query:
            words = query["search"].lower()
            found = [row for row in found if words in json.dumps(row).lower()]
        if (order := query.get("order")) is not None:
            # ids only grow, so the rows stand by id already.
            found = found if order == "id" else sorted(found, key=lambda row: str(row.get(order)))
            found = found[::-1] if query.get("orderdesc") == "true" else found
        found = [row for row in found if self._shows(row["id"])]
        total = len(found)
        if query.get("pageinate") == "true" and self.paging != "ignored":
            size = min(int(query.get("page_size", "50")), self.page_cap)
            number = 1 if self.paging == "same_page" else int(query.get("page_no", "1"))
            found = found[(number - 1) * size : number * size]
        elif "count" in query:
            found = found[: int(query["count"])]
        return json_reply(
            found if self.list_shape == "bare" else {"payments": found, "record_count": total}
        )

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
        return self._answer_to_post([self._apply(_floats(row)) for row in posted])

    def _problems(self, place: int, row: Any) -> dict[str, list[str]]:
        if not isinstance(row, dict):
            return {f"[{place}]": ["Could not convert to an object."]}
        known = self.rows.get(row["id"]) if isinstance(row.get("id"), int) else None
        for name in (row.get("id"), row.get("intent_id"), (known or {}).get("intent_id")):
            if name in self._poison:
                return {f"[{place}].status": [self._poison[name]]}
        problems = {}
        for key in _WHOLE:
            if key in row and (isinstance(row[key], bool) or not isinstance(row[key], int)):
                problems[f"[{place}].{key}"] = [
                    f"Could not convert {type(row[key]).__name__} to integer."
                ]
        for key in (*_TEXTS, *_DATES):
            if row.get(key) is not None and not isinstance(row[key], str):
                problems[f"[{place}].{key}"] = ["Could not convert to string."]
        for key in _DATES:
            if isinstance(row.get(key), str) and not _is_date(row[key]):
                problems[f"[{place}].{key}"] = ["Could not convert string to DateTime."]
        if "amount" in row and (
            isinstance(row["amount"], bool) or not isinstance(row["amount"], int | Decimal)
        ):
            problems[f"[{place}].amount"] = ["Could not convert string to double."]
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
            self.rows[name].update(posted)
            self.writes.append((name, posted, False))
            return int(name)
        fields = {"intent_id": None, "amount": 0, **posted}
        name = self.add_row(**fields)
        self._posted_at[name] = self.clock()
        self.writes.append((name, posted, True))
        return name

    def _answer_to_post(self, ids: list[int]) -> Reply:
        rows = [self.rows[name] for name in ids]
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

    def _invoice(self, name: int) -> dict[str, Any]:
        invoice = self.invoices[name]
        rows = [row for row in self.rows.values() if row["invoice_id"] == name]
        paid = sum(row["amount"] for row in rows if row["status"] == self.status["succeeded"])
        paid = paid if self.rows_pay else 0
        return {
            **invoice, "amountpaid": paid, "amountdue": invoice["total"] - paid,
            "paymentstatus": 2 if paid >= invoice["total"] else 0,
            "datepaid": _iso(self.clock()) if paid >= invoice["total"] else NEVER, "payments": rows,
        }  # fmt: skip


def _refused_filters(query: dict[str, str]) -> dict[str, list[str]]:
    """What is wrong with a listing's parameters, by name.

    Nobody knows whether Halo passes over a parameter that it doesn't document. Here it is refused,
    so that nobody comes to rely on one.
    """
    problems = {}
    for key, value in query.items():
        kind = _FILTERS.get(key)
        if kind is int and not value.removeprefix("-").isdigit():
            problems[key] = [f"The value '{value}' is not valid."]
        elif key == "pageinate" or re.fullmatch(r"orderdesc[2-5]?", key):
            if value.lower() not in ("true", "false"):
                problems[key] = [f"The value '{value}' is not valid."]
        elif kind is None and not re.fullmatch(r"order[2-5]?", key):
            problems[key] = ["The parameter is unknown."]
    return problems


def _record_not_found() -> Reply:
    return json_reply({"ClassName": "System.Exception", "Message": "Record not found"}, 400)


def _not_allowed() -> Reply:
    return json_reply({"Message": "The requested resource does not support this method."}, 405)


def _floats(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(value) if isinstance(value, Decimal) else value for key, value in row.items()
    }


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
