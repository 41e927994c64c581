"""Names of numbers in `calibrate` and `check`, and their output if no webhook wrote a row."""

import json

import pytest

from syncd.sandbox import Fault
from tests.conftest import Rig


@pytest.fixture
def rows(live: Rig) -> Rig:
    """Rows that show the name of their method."""
    live.pay("succeeded")
    for row in live.box.halo.rows.values():
        row["payment_method_name"] = "Stripe"
    return live


def test_names(rows: Rig) -> None:
    """`calibrate` names the method, from the one matching lookup list, and the module."""
    done = rows.command("calibrate")
    assert "method = 12 (Stripe), module_id = 231 (Stripe Payments)" in done.stdout
    (one,) = json.loads(rows.command("calibrate", "--json").stdout)["new_row"]
    assert (one["method"], one["method_text"], one["module_text"]) == (
        12,
        "12 (Stripe)",
        "231 (Stripe Payments)",
    )


def test_check_names_them(rows: Rig) -> None:
    """`check` names the method and the module of new rows."""
    rows.settings |= {
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__NEW_ROW__METHOD": "12",
        "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
    }
    done = rows.command("check", "--json")
    assert "method 12 (Stripe), module_id 231 (Stripe Payments)" in done.stdout


@pytest.mark.parametrize("kind", ["403", "html", "500"])
def test_a_tenant_without_these_pages(rows: Rig, kind: str) -> None:
    """If Halo does not show these pages, `calibrate` prints bare numbers and exits with the same code."""
    before = rows.command("calibrate").returncode
    for path in ("/api/Features", "/api/Lookup"):
        rows.box.halo.faults.append(Fault(kind, times=None, path=path))
    done = rows.command("calibrate")
    assert done.returncode == before
    assert (
        "method = 12 (Stripe), module_id = 231\n" in done.stdout
    )  # the row itself names the method


def test_no_webhook_ever(rows: Rig) -> None:
    """If no webhook wrote a row, `calibrate` lists rows made by hand and says how to find the numbers."""
    rows.box.halo.add_row(None, rows.box.halo.add_invoice(), 1.0, status=3)
    text = rows.command("calibrate").stdout
    assert "Halo's own Stripe webhook wrote none of these rows" in text
    assert "row 2 has status 3" in text
    assert "syncd prove pi_…" in text


def test_numbers_as_text_and_modules_that_do_not_say_whether_they_are_on(rows: Rig) -> None:
    """`calibrate` reads ids that are text; a module without `enabled` does not count as switched off."""
    rows.box.halo.tables = {
        "Features": [{"id": "231", "actual_name": "Stripe Payments"}],
        "Lookup": [{"lookupid": "71", "id": "12", "name": "Stripe"}],
    }
    assert (
        "method = 12 (Stripe), module_id = 231 (Stripe Payments)\n"
        in rows.command("calibrate").stdout
    )
    rows.box.halo.tables["Features"][0]["enabled"] = False
    assert "231 (Stripe Payments, switched off)" in rows.command("calibrate").stdout


def test_no_rows_at_all(live: Rig) -> None:
    """If Halo has no payment rows, `calibrate` says how to make rows that show the numbers."""
    text = live.command("calibrate").stdout
    assert "Halo has no payment rows yet, so no row proves a number." in text
    assert "add a payment by hand for each status" in text
