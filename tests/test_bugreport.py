"""`syncd bugreport` writes one file without secrets, names, ids and amounts."""

import json
import os
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.cli.commands.support.bugreport import vocabulary
from syncd.core.errors import BadAnswer
from syncd.sandbox import Fault
from syncd.store.coordination import SHAPES
from syncd.text.anonymize import Anonymizer
from syncd.text.shape import shape_of, shape_of_body
from tests.conftest import Rig

NAMES = ("Zimmermann", "Quesnel", "Østergård", "ACME-Dental", "jane.doe@clinic.example")
AMOUNTS = ("4711.23", "4,711.23", "471123")
IDS = ("pi_3Planted00001", "evt_1Planted00002", "cus_Planted3", "acct_1Planted4", "INV-2026-0815")
SECRETS = ("rk_live_PlantedSecret55", "pi_3Planted00001_secret_Hidden66", "hunter2-hunter2")


def sentence(number: int) -> str:
    """A sentence with a name, ids, an amount and secrets, which must not leave the machine."""
    return (
        f"Halo refused {IDS[number % 5]} of {NAMES[number % 5]} ({AMOUNTS[number % 3]} USD), "
        f"invoice {IDS[4]}: key {SECRETS[0]} {SECRETS[1]} password={SECRETS[2]}"
    )


class Planted:
    """A tenant and a journal full of names, ids, amounts and secrets."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        lines = [
            json.dumps({
                "event": "held", "level": "warning", "timestamp": "2026-11-27T10:00:00Z",
                "intent": IDS[0], "reason": sentence(n), "rows": [471123, 815], "amount": 4711.23,
                "status": 471123, NAMES[n % 5]: NAMES[n % 5], "pause_seconds": 12.5,
            }) for n in range(5)
        ]  # fmt: skip
        lines += [sentence(n) for n in range(5)]
        lines.append(
            json.dumps(
                {
                    "event": "fault",
                    "level": "error",
                    "text": f"ValueError: {sentence(1)}",
                    "exception": f'Traceback\n  File "/opt/syncd/lib/python3.11/site-packages/syncd/sync/run.py"'
                    f", line 77, in work\n    raise ValueError\nValueError: {sentence(2)}",
                }
            )
        )
        programs = rig.folder / "programs"
        programs.mkdir()
        (rig.folder / "journal").write_text("\n".join(lines))
        (programs / "journalctl").write_text(f"#!/bin/sh\ncat {rig.folder}/journal\n")
        (programs / "journalctl").chmod(0o755)
        self.around = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SYNCD_PUSH__INVOICE_METADATA_KEY": NAMES[0],
            "SYNCD_NOTIFY_URLS": f"json://user:{SECRETS[2]}@127.0.0.1:9/",
        }
        held = rig.pay("succeeded", amount=471123, rows=(4711.23, 1.0))
        row = rig.box.halo.rows_of(held)[0]
        row["client_name"], row["invoice_invoicenumber"] = NAMES[0], IDS[4]
        self.held, self.row = held, row["id"]
        odd = {"livemode": False, "id": 7, NAMES[1]: sentence(3), "client": {"name": NAMES[0]}}
        rig.box.stripe.record("payment_intent.succeeded", odd)

    def report(self, *arguments: str) -> "Any":
        account = {"SYNCD_STRIPE__ACCOUNT": IDS[3]} if "--offline" in arguments else {}
        return self.rig.command("bugreport", "-", *arguments, extra={**self.around, **account})


@pytest.fixture
def planted(live: Rig) -> Planted:
    return Planted(live)


def sections(text: str) -> dict[str, str]:
    """The report's sections by title."""
    parts = re.split(r"^== (.+) ==$", text, flags=re.MULTILINE)
    return {
        title.partition(":")[0]: body.strip()
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_nothing_planted_is_found(planted: Planted) -> None:
    """The bug report contains what a developer needs, but no planted name, id, amount or secret."""
    rig = planted.rig
    rig.command("--once", extra=planted.around)
    rig.box.halo.faults.append(Fault("html", method="GET", path="InvoicePayment"))
    rig.command("--once", extra=planted.around)
    done = planted.report()
    assert done.returncode == 0, done.stderr
    text = done.stdout
    both = text + planted.report("--offline").stdout
    for word in (*NAMES, *AMOUNTS, *IDS, *SECRETS, planted.held, rig.box.stripe.api_key,
                 rig.box.halo.client_secret, rig.box.halo.client_id, *NAMES[4].split("@")):  # fmt: skip
        assert word.lower() not in both.lower(), word
    found = sections(text)
    assert "not available" not in text
    assert "syncd" in json.loads(found["Versions"])
    assert "poll.interval = auto (default)" in found["Configuration"]
    assert "stripe_api_key = set (SYNCD_STRIPE_API_KEY)" in found["Configuration"]
    assert "pass Stripe: read Events: allowed" in found["syncd check"]
    status = json.loads(found["syncd status"])
    assert status["attention"] >= 1
    counts = json.loads(found["Counts"])
    assert counts["conditions"]["held"] == 1
    assert counts["attention"] == {"amount_mismatch": 1, "unreadable": 1}
    assert json.loads(found["Database"])["rows"]["payments"] == 1
    log = [json.loads(line) for line in found["Log"].splitlines() if line.startswith("{")]
    assert (log[0]["event"], log[0]["level"], log[0]["pause_seconds"]) == ("held", "warning", 12.5)
    assert log[0]["intent"] == log[1]["intent"]
    assert log[0]["reason"].startswith(f"Halo refused {log[0]['intent']} of …")
    assert 'File "syncd/sync/run.py", line 77, in work' in log[-1]["exception"]


def test_shapes_of_unreadable_answers(planted: Planted) -> None:
    """The bug report has the shapes of an unreadable event and of a web page instead of rows."""
    rig = planted.rig
    rig.box.halo.faults.append(Fault("html", method="GET", path="InvoicePayment", times=None))
    rig.pay("succeeded")
    rig.clock.seconds = time.time()
    rig.cycle()  # as the service does
    shapes = json.loads(
        sections(planted.report("--offline").stdout)[
            "Answers that could not be read (field names and types only)"
        ]
    )
    by_side = {one["side"]: one["shape"] for one in shapes}
    assert by_side["stripe"]["type"] == "text of 24"
    assert "…" in by_side["stripe"]["data"]["object"]
    assert "text/html" in by_side["halo"]


@pytest.mark.parametrize("how", ["single run", "backfill", "put off"])
def test_shapes_of_answers_outside_the_service(rig: Rig, how: str) -> None:
    """Single runs, backfills and postponed payments also store the shape of an unreadable answer."""
    payment = rig.pay("succeeded")
    match = None if how != "put off" else lambda asked: payment in str(asked.params())
    rig.box.halo.faults.append(
        Fault("html", method="GET", path="InvoicePayment", times=None, match=match)
    )
    if how == "put off":
        rig.pay("succeeded")
        rig.cycle()
    else:
        with pytest.raises(BadAnswer):
            rig.backfill() if how == "backfill" else rig.once()
    kept = rig.stored(lambda store: store.read(SHAPES))
    assert [(one.side, "text/html" in one.shape) for one in kept] == [("halo", True)]


def test_with_ids(planted: Planted) -> None:
    """With --with-ids, the bug report contains names and ids, but no secrets."""
    text = planted.report("--with-ids", "--offline").stdout
    for word in (*NAMES[:3], *IDS, rig_client := planted.rig.box.halo.client_id):
        assert word in text, word
    assert rig_client
    for secret in (*SECRETS, planted.rig.box.stripe.api_key, planted.rig.box.halo.client_secret):
        assert secret not in text


def test_a_file_of_ones_own(planted: Planted) -> None:
    """Only its owner can read the report's file, and `syncd bugreport` overwrites no file."""
    place = planted.rig.folder / "problem.txt"
    done = planted.rig.command("bugreport", "--offline", str(place))
    assert done.returncode == 0, done.stderr
    assert place.stat().st_mode & 0o777 == 0o600
    assert planted.rig.command("bugreport", "--offline", str(place)).returncode == 2


def test_what_is_broken_is_reported(live: Rig) -> None:
    """A wrong configuration and a missing database do not stop the bug report; it reports both."""
    done = live.command("bugreport", "-", "--offline", extra={"SYNCD_POLL__INTERVAL": "often"})
    assert done.returncode == 0, done.stderr
    found = sections(done.stdout)
    assert "poll.interval" in found["Configuration"]
    assert found["Database"] == "not available: ConfigurationError"
    assert "syncd" in json.loads(found["Versions"])


# --- the parts -------------------------------------------------------------------------------------

WORDS = vocabulary()


def test_the_vocabulary() -> None:
    """The vocabulary contains syncd's own words, and no customer names of the demo."""
    assert {"Stripe", "Halo", "refuses", "invoice"} <= WORDS
    assert not {"Alder", "Dental", "Juniper"} & WORDS


@given(
    st.text(alphabet="ABCDEFXYZabcxyzéß", min_size=3, max_size=12).filter(lambda w: w not in WORDS),
    st.integers(10, 10**9),
)
def test_an_unknown_word_or_number_never_stays(word: str, number: int) -> None:
    """The anonymizer replaces every word and number that syncd does not write itself."""
    shown = Anonymizer(WORDS).text(
        f"Halo refused {word} for {number} of ({word}): [{word}]={number}.5"
    )
    assert word not in shown
    assert str(number) not in shown
    assert shown.startswith("Halo refused …")


def test_the_shape() -> None:
    """A shape has field names, types and lengths, but no content."""
    value = {"id": "pi_1", "amount": 5, "paid": True, "list": [{"a": None}, 2], "none": []}
    assert json.loads(shape_of(value)) == {
        "id": "text of 4",
        "amount": "whole number",
        "paid": "bool",
        "list": [{"a": "null"}, "2 in all"],
        "none": [],
    }
    assert (
        shape_of_body(b"<html>", "text/html; charset=x") == "text/html, 6 bytes, begins with a tag"
    )
    assert shape_of_body(b"", "Zimmer mann") == "unknown, 0 bytes, begins and is empty"
