"""Reads single things from Halo that a push does not need, such as an invoice's figures.

Each function has a result for "not shown": an account may have the permission for one page of Halo
but not for another (source: Halo's clients).
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncd.clients.halo.parse import error_text, read_listing, read_row
from syncd.core.errors import (
    BadAnswer,
    LinkFailure,
    PermissionMissing,
    ServerError,
    Side,
    SignInRefused,
)
from syncd.core.rows import WholeRow
from syncd.core.rules.proof import FieldChange
from syncd.text.sanitize import plain

INVOICE_FIGURES = ("amountdue", "amountpaid", "paymentstatus", "datepaid", "total")
"""The fields of an invoice that a payment may change."""

NAMES_MAX = 20_000
CHANGES_MAX = 200

Read = Callable[[str, Mapping[str, str] | None], Awaitable[Any]]
"""The type of `Connection.read`: takes a path and parameters, returns parsed JSON."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of Halo's own history of an invoice.

    Attributes:
        at, who: as Halo shows them.
        field: the field that changed from `change.before` to `change.after`.
    """

    at: str
    who: str
    field: FieldChange


@dataclass(frozen=True, slots=True)
class Names:
    """Names for the tenant's numbers, as far as Halo shows them.

    Attributes:
        modules: by module id, with whether the module is switched on.
        lists: the lookup lists: by the list's number, names by id.
    """

    modules: Mapping[int, tuple[str, bool]]
    lists: Mapping[int, Mapping[int, str]]

    def method_list(self, seen: Mapping[int, str]) -> int | None:
        """The lookup list of payment methods: the only list that agrees with all rows seen so far.

        Args:
            seen: the name that rows show beside the number of their method.
        """
        if not seen:
            return None
        fitting = [
            number
            for number, names in self.lists.items()
            if all(names.get(method) == name for method, name in seen.items())
        ]
        return fitting[0] if len(fitting) == 1 else None


@dataclass(frozen=True, slots=True)
class HaloDetails:
    """Reads single things from Halo."""

    read: Read

    async def whole_row(self, intent_id: str, row_id: int) -> WholeRow | None:
        """Read one row by its id, or from its payment's list if Halo does not show single rows.

        Returns None if Halo has no such row.

        Raises:
            LinkFailure: Halo shows the row in neither way.
        """
        try:
            body = await self.read(f"/api/InvoicePayment/{row_id}", None)
        except BadAnswer as error:
            if error.status in (400, 404) and not intent_id:
                return None
            # Halo may also answer "no such row" if it does not show single rows.
            return await self.listed_row(intent_id, row_id)
        except (PermissionMissing, SignInRefused):
            return await self.listed_row(intent_id, row_id)
        row = read_row(body)
        if row.id == row_id:
            return WholeRow(row, body)
        if not error_text(body):  # no row, or an answer in another form than a row
            return await self.listed_row(intent_id, row_id)
        listed = await self.listed_row(intent_id, row_id)
        if listed is None:  # an error instead of the row says nothing about whether there is one
            what = f"GET /api/InvoicePayment/{row_id}"
            raise BadAnswer(Side.HALO, f"Halo answered an error to {what}: {error_text(body)}")
        return listed

    async def row_alone(self, row_id: int) -> WholeRow | None:
        """Read one row by its id; None if Halo has no such row.

        Raises:
            LinkFailure: Halo does not show the row by its id.
        """
        try:
            body = await self.read(f"/api/InvoicePayment/{row_id}", None)
        except BadAnswer as error:
            if error.status in (400, 404):
                return None
            raise
        row = read_row(body)
        return WholeRow(row, body) if row.id == row_id else None

    async def listed_row(self, intent_id: str, row_id: int) -> WholeRow | None:
        """Read one row from the list of its payment; None if the list does not show the row.

        Raises:
            LinkFailure: the request failed.
        """
        listing = read_listing(await self.read("/api/InvoicePayment", {"intent_id": intent_id}))
        for raw in listing[0] if listing is not None else ():
            row = read_row(raw)
            if row.id == row_id:
                return WholeRow(row, raw, alone=False)
        return None

    async def invoice_figures(self, invoice_id: int) -> dict[str, str] | None:
        """The amounts due and paid of an invoice; None if Halo does not show the invoice.

        Raises:
            LinkFailure: Halo cannot be reached, or limits requests.
        """
        body = await self._shown(f"/api/Invoice/{invoice_id}")
        if not isinstance(body, dict):
            return None
        return {
            name: plain(str(body[name]), 40)
            for name in INVOICE_FIGURES
            if body.get(name) is not None
        }

    async def invoice_changes(self, invoice_id: int) -> list[Change] | None:
        """Halo's history of an invoice's changes, in Halo's order; None if Halo does not show it."""
        body = await self._shown("/api/InvoiceChange", {"invoice_id": str(invoice_id)})
        listed = body.get("changehistory") if isinstance(body, dict) else body
        if not isinstance(listed, list):
            return None
        return [_change_of(one) for one in listed[:CHANGES_MAX] if isinstance(one, dict)]

    async def names(self) -> Names:
        """The tenant's modules and lookup lists; empty if Halo does not show them.

        Raises:
            LinkFailure: Halo cannot be reached, or limits requests.
        """
        modules: dict[int, tuple[str, bool]] = {}
        for one in _items(await self._shown("/api/Features")):
            name = one.get("actual_name") or one.get("module_name")
            number = _number(one.get("id"))
            if number is not None and isinstance(name, str):
                # Without this field, assume that the module is switched on.
                modules[number] = (plain(name, 80), one.get("enabled") not in _SWITCHED_OFF)
        lists: dict[int, dict[int, str]] = {}
        for one in _items(await self._shown("/api/Lookup")):
            number, key, name = (
                _number(one.get("lookupid")),
                _number(one.get("id")),
                one.get("name"),
            )
            if number is not None and key is not None and isinstance(name, str):
                lists.setdefault(number, {})[key] = plain(name, 80)
        return Names(modules, lists)

    async def _shown(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """A page's JSON; None if Halo does not show this page to the account."""
        try:
            return await self.read(path, params)
        except (PermissionMissing, SignInRefused, BadAnswer, ServerError) as error:
            if isinstance(error, LinkFailure) and error.retry_after_seconds is not None:
                raise
            return None


def _change_of(one: Mapping[str, Any]) -> Change:
    def text(name: str) -> str:
        value = one.get(name)
        return "" if value is None else plain(str(value), 80)

    change = FieldChange(text("field_name"), text("old_value") or None, text("new_value") or None)
    return Change(text("datetime"), text("who"), change)


def _items(body: Any) -> list[dict[str, Any]]:
    """The objects of an answer that is a list, or an object around one list."""
    if isinstance(body, dict):
        lists = [value for value in body.values() if isinstance(value, list)]
        body = lists[0] if len(lists) == 1 else []
    if not isinstance(body, list):
        return []
    return [one for one in body[:NAMES_MAX] if isinstance(one, dict)]


def _number(value: object) -> int | None:
    """A whole number, also if it is sent as text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_SWITCHED_OFF = (False, "false", "False", "0")
