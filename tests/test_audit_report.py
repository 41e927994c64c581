"""How an audit is shown: JSON, CSV, the page in a browser, and the terminal at any width."""

import csv
import json
import shutil
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright

from syncd.audit.findings import Audit, Difference, Finding, Fix, money, sums
from syncd.audit.html import as_html
from syncd.audit.report import COLUMNS, Places, as_json, fix_words, write_csv
from syncd.audit.text import lines
from syncd.text.links import halo_invoice, stripe_payment
from tests.conftest import NOW

PLACES = Places("https://example.halopsa.com", test=True, account="")
CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

EVIL = '=HYPERLINK("http://evil.example","<script>alert(1)</script>")'


def report(*findings: Finding, notes: tuple[str, ...] = ()) -> Audit:
    return Audit(0, 1, 1, 0, 1, 0, 0, 1, findings, sums(findings), notes=notes)


def story() -> Audit:
    """Differences of every kind that is drawn in its own way."""
    found = (
        Finding(
            Difference.PAID_AT_STRIPE_ONLY, "Stripe has the money, and Halo's row doesn't say paid.",
            intent_id="pi_3QAbcdefghijklmnopqrstuv", invoice_id=7, invoice_number="INV-7",
            made=int(NOW), at_stripe="succeeded", in_halo="not paid (status 1)",
            amount=Decimal("210.00"), currency="USD",
        ),
        Finding(
            Difference.WRONG_AMOUNT,
            "Stripe received 60.00 USD, Halo's row of it says 20.00 USD: Halo is 40.00 USD short.",
            intent_id="pi_3QWrong", invoice_id=8,
            amount=Decimal("-40.00"), currency="USD",
        ),
        Finding(
            Difference.SEVERAL_PAYMENTS, "2 paid rows.", intents=("pi_3QOne", "pi_3QTwo"),
            invoice_id=9, amount=Decimal(15), currency="USD",
        ),
        Finding(
            Difference.REFUNDED, "Stripe refunded it.", intent_id="pi_3QBack", acknowledged=True,
            amount=Decimal(5), currency="USD",
        ),
    )  # fmt: skip
    shop = Finding(
        Difference.ELSEWHERE, "Two mugs", intent_id="pi_3QShop", made=int(NOW),
        at_stripe="succeeded", in_halo="no row", amount=Decimal(900), currency="JPY",
    )  # fmt: skip
    return Audit(
        int(NOW), int(NOW) + 60, 8, 1, 4, 1, 1, 6, found, sums(found), (shop,), sums([shop, shop]),
        ("something",), 3, Fix(("pi_3QAbcdefghijklmnopqrstuv",), (), (), 2),
    )  # fmt: skip


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    """No cell begins a formula, whatever Halo or Stripe call things; numbers stay numbers."""
    names = [EVIL, "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "plain"]
    found = report(*[
        Finding(Difference.WRONG_AMOUNT, name, invoice_number=name, amount=Decimal("-0.99"), currency="USD")
        for name in names
    ])  # fmt: skip
    with (tmp_path / "a.csv").open("w", newline="") as to:
        write_csv(found, PLACES, to)
    with (tmp_path / "a.csv").open(newline="") as back:
        head, *lines = list(csv.reader(back))
    assert head == list(COLUMNS)
    assert [line[head.index("amount")] for line in lines] == ["-0.99"] * len(names)
    texts = [line[head.index("invoice")] for line in lines]
    assert texts == [
        f"'{EVIL}", "'+1", "'-2+3", "'@SUM(A1)", "' =1", "' =1", "plain",
    ]  # fmt: skip


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_and_harmless() -> None:
    """Everything from outside is text; nothing is fetched; both colour schemes are there."""
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    found = report(
        Finding(
            Difference.UNKNOWN_AT_STRIPE, evil, intent_id=f"pi_{evil}", invoice_id=7,
            invoice_number=evil, at_stripe=evil, in_halo=evil, amount=Decimal("1.5"), currency=evil,
        ),
        notes=(evil,),
    )  # fmt: skip
    page = as_html(found, Places(f"https://x.example/{evil}", test=True, account=evil))
    tags = Tags()
    tags.feed(page)
    names = {tag for tag, _ in tags.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form"}
    assert all(not key.startswith("on") for _, attrs in tags.tags for key in attrs)
    assert not any("src" in attrs for _, attrs in tags.tags)
    assert tags.text.count(evil) >= 6
    assert "prefers-color-scheme: dark" in page
    assert "url(" not in page
    assert "@import" not in page
    links = [attrs["href"] or "" for tag, attrs in tags.tags if tag == "a"]
    assert [link[:28] for link in links] == [
        "https://dashboard.stripe.com", 'https://x.example/"><script>',
    ]  # fmt: skip


def test_json_keeps_amounts_exact() -> None:
    """Amounts in JSON are texts: a reader's doubles can't bend them."""
    amount = Decimal("900719925474099.31")
    said = json.loads(as_json(report(Finding(Difference.MISSING, "", amount=amount)), PLACES))
    assert said["differences"][0]["amount"] == said["sums"][0]["amount"] == "900719925474099.31"


def test_links() -> None:
    """Live and test data, and a connected account's, each have their place in the dashboard."""
    at = "https://dashboard.stripe.com"
    assert stripe_payment("pi_1", test=False) == f"{at}/payments/pi_1"
    assert stripe_payment("pi_1", test=True) == f"{at}/test/payments/pi_1"
    assert stripe_payment("pi_1", test=True, account="acct_1") == f"{at}/acct_1/test/payments/pi_1"
    assert stripe_payment("pi_/../x", test=False) == f"{at}/payments/pi_%2F..%2Fx"
    assert halo_invoice("https://h.example/", 7) == (
        "https://h.example/invoices?mainview=invoices&invoiceid=7"
    )


def test_the_csv_holds_everything(tmp_path: Path) -> None:
    """Also several payments with their links, what was acknowledged, and what isn't Halo's."""
    with (tmp_path / "a.csv").open("w", newline="") as to:
        write_csv(story(), PLACES, to)
    with (tmp_path / "a.csv").open(newline="") as back:
        found = list(csv.DictReader(back))
    at = "https://dashboard.stripe.com/test/payments/"
    assert [(one["difference"], one["payment"], one["acknowledged"]) for one in found] == [
        ("paid_at_stripe_only", "pi_3QAbcdefghijklmnopqrstuv", ""),
        ("wrong_amount", "pi_3QWrong", ""),
        ("several_payments", "pi_3QOne pi_3QTwo", ""),
        ("refunded", "pi_3QBack", "yes"),
        ("elsewhere", "pi_3QShop", ""),
    ]
    assert found[2]["stripe_link"] == f"{at}pi_3QOne {at}pi_3QTwo"
    assert (found[4]["amount"], found[4]["currency"], found[4]["text"]) == (
        "900",
        "JPY",
        "Two mugs",
    )


def test_the_json_lists_what_is_not_halos() -> None:
    """In a place of its own, with its sums, and how many of them aren't listed."""
    said = json.loads(as_json(story(), PLACES))
    elsewhere = said["elsewhere"]
    assert elsewhere["sums"] == [{
        "difference": "elsewhere", "acknowledged": False, "currency": "JPY", "count": 2,
        "amount": "1800", "of_unknown_amount": 0,
    }]  # fmt: skip
    assert elsewhere["left_out"] == 1
    [shop] = elsewhere["payments"]
    assert (shop["payment"], shop["amount"], shop["currency"], shop["text"]) == (
        "pi_3QShop", "900", "JPY", "Two mugs",
    )  # fmt: skip
    assert shop["stripe_link"] == "https://dashboard.stripe.com/test/payments/pi_3QShop"
    several = said["differences"][2]
    assert (several["payment"], several["stripe_link"]) == (None, None)
    assert [link.rpartition("/")[2] for link in several["stripe_links"]] == several["payments"]


def test_the_terminal_at_80_columns() -> None:
    """Grouped as the page is, each sentence on lines of its own."""
    assert list(lines(story(), 80, lambda text: f"*{text}*")) == [
        "8 payments since 2026-11-24 06:00 UTC: 1 agrees, 4 differ, 1 acknowledged, 1",
        "isn't Halo's, 1 not begun. That makes 3 differences.",
        "",
        "*In sum*",
        "  Paid at Stripe, not in Halo              1  210.00 USD",
        "  Paid, but not the same amount            1  Halo is 40.00 USD short",
        "  Several payments, more than the invoice  1  15.00 USD",
        "  Refunded at Stripe, acknowledged         1  5.00 USD",
        "",
        "*Paid at Stripe, not in Halo*",
        "",
        "  pi_3QAbcdefghijklmnopqrstuv  210.00 USD  INV-7  2026-11-24",
        "    Stripe: succeeded  Halo: not paid (status 1)",
        "    Stripe has the money, and Halo's row doesn't say paid.",
        "",
        "*Paid, but not the same amount*",
        "",
        "  pi_3QWrong  Halo is 40.00 USD short  id 8",
        "    Stripe received 60.00 USD, Halo's row of it says 20.00 USD: Halo is",
        "    40.00 USD short.",
        "",
        "*Several payments, more than the invoice*",
        "",
        "  pi_3QOne  15.00 USD  id 9",
        "  pi_3QTwo",
        "    2 paid rows.",
        "",
        "*Refunded at Stripe, acknowledged*",
        "",
        "  pi_3QBack  5.00 USD",
        "    Stripe refunded it.",
        "",
        "*Paid at Stripe, not Halo's: 2 payments, 1800 JPY*",
        "  Money that came in at Stripe and has no row in Halo; nothing in it names an",
        "  invoice of Halo's. It counts as no difference. Look whether one should have",
        "  had a row.",
        "  pi_3QShop  900 JPY  2026-11-24  Two mugs",
        "  1 more: see --json, --csv or --html.",
        "",
        "Not compared: something",
        "--fix: 1 payment made due: the next push takes it; 2 differences need a person.",
    ]


@given(st.integers(1, 300))
def test_no_width_breaks_an_id_or_an_amount(width: int) -> None:
    """However narrow: what is to be copied stands whole on one line; what can fit, fits."""
    shown = list(lines(story(), width, str))
    for one in (*story().findings, *story().elsewhere):
        for whole in (*one.payments, one.stake):
            assert any(whole in line for line in shown)
    if width >= 60:
        assert max(map(len, shown)) <= width


def test_what_is_short_is_not_set_off() -> None:
    """Too little and too much in one currency are two sums: together they'd look like nothing."""
    found = [
        Finding(Difference.WRONG_AMOUNT, "", amount=Decimal(by), currency="USD")
        for by in ("-40.00", "40.00", "-1.00")
    ]
    assert [(one.count, one.stake) for one in sums(found)] == [
        (2, "Halo is 41.00 USD short"), (1, "Halo has 40.00 USD too much"),
    ]  # fmt: skip


def test_what_fix_did_is_always_said() -> None:
    """Also that there was nothing to do, or nothing that could be done."""
    assert fix_words(Fix((), (), (), 0)) == "--fix: there was nothing to put right."
    assert fix_words(Fix((), (), (), 1)) == "--fix: 1 difference needs a person."
    assert fix_words(Fix(("a", "b"), ("c",), ("d",), 2)) == (
        "--fix: 2 payments made due: the next push takes them; 1 payment stands on the attention "
        "list (syncd attention retry, once it was put right); 1 was dismissed by a person, and left "
        "alone; 2 differences need a person."
    )


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("40.0", "USD", "40.00 USD"), ("40.0", "JPY", "40 JPY"), ("1.5", "KWD", "1.500 KWD"),
        ("0.30000000000000004", "EUR", "0.30 EUR"), ("1.234", "EUR", "1.234 EUR"),
        ("15.0", None, "15.00 (currency unknown)"), ("7", "XYZ", "7.00 XYZ"),
    ],
)  # fmt: skip
def test_money_is_written_with_its_decimals(amount: str, currency: str | None, text: str) -> None:
    """As people write it; what could be money is never rounded away."""
    assert money(Decimal(amount), currency) == text


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium isn't installed")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Narrow and wide: nothing stands beside the page, no id is broken; the style is let through."""
    (tmp_path / "a.html").write_text(as_html(story(), PLACES), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page()
        for width in (375, 700, 1200):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto((tmp_path / "a.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.locator("thead").first.is_visible() == (width == 1200)
            ids = page.locator("td.id a")
            assert ids.count() == 6
            assert all(ids.nth(n).bounding_box()["height"] < 30 for n in range(6))  # type: ignore[index]  # all are shown
        assert "--fix" in page.locator("footer").inner_text()
        assert page.locator("time, img, script").count() == 0
        assert "T" not in page.locator("td.date").first.inner_text()
        browser.close()
