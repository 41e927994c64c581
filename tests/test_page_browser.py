"""The page in a real browser: updates, safety, contrast in both schemes, narrow and wide."""

import base64
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from syncd.core.payments import Observation, PaymentState
from syncd.core.records import Condition, Outcome, Pushed
from syncd.monitor.alerts import Health
from syncd.sandbox.faults import Fault
from tests.conftest import Rig
from tests.test_process import daemon, until

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""A folder to keep pictures of the page in, for the documentation."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium isn't installed")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MARKUP = '<img src=x onerror="window.harmed = 1"><script>window.harmed = 1</script>'

CONTRAST = """(selectors) => {
  const channels = (colour) => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const rgba = channels(getComputedStyle(e).backgroundColor);
      if (rgba[3] === 255) return rgba;
    }
    return [255, 255, 255, 255];
  };
  return Object.fromEntries(selectors.map((selector) => {
    const element = document.querySelector(selector);
    const pair = [light(channels(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    return [selector, (pair[0] + 0.05) / (pair[1] + 0.05)];
  }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, with a temporary profile."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@contextmanager
def seen(browser: Browser, url: str, *, allowed: str = "", **options: object) -> Iterator[Page]:
    """Open the page; each message or error in the browser's console fails the test."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.extend(_elsewhere(request.url, url)))
    page.goto(url)
    try:
        yield page
        assert [text for text in complaints if not allowed or allowed not in text] == []
        assert context.cookies() == []
    finally:
        context.close()


def _elsewhere(asked: str, url: str) -> list[str]:
    return [] if asked.startswith((url, "data:")) else [f"it asked {asked}"]


def a_day(rig: Rig) -> None:
    """A store with the pushes of a busy day."""
    chance, now = random.Random(3), time.time()  # noqa: S311  # a picture, not a secret
    states = [*PaymentState] + [PaymentState.SUCCEEDED] * 8 + [PaymentState.PROCESSING] * 2
    pushes = []
    for number in range(160):
        hours = chance.choice([1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 14, 16, 20, 22])
        at = now - (hours + chance.random()) * 3_600
        lag = chance.lognormvariate(7.5 if 10 <= hours <= 12 else 5, 0.7)
        name = f"pi_3Q{chance.randrange(16**22):022x}"
        old = chance.choice(["none", "processing", "requires_action"])
        pushes.append(Pushed(at, name, old, chance.choice(states), lag, (4_000 + number,)))
    pushes.sort(key=lambda one: one.at)
    store = rig.open()
    said = [
        Observation(
            p.intent_id,
            p.new,
            int(p.at - (p.lag_seconds or 0)),
            False,
            amount=1_099,
            amount_received=1_099,
            currency="usd",
        )
        for p in pushes
    ]
    store.take_in(said, now)
    # syncd wrote the state of three payments in four; for the fourth, Halo's own webhook was first.
    store.record(
        [
            Outcome(
                p.intent_id,
                p.new,
                Condition.IN_STEP,
                acked=True,
                rows=p.rows,
                pushed=p if n % 4 else None,
            )
            for n, p in enumerate(pushes)
        ],
        now,
    )
    store.close()


def refresh(page: Page) -> None:
    """Make the page refresh, as when its tab is shown again."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_it_updates_without_a_reload(live: Rig, browser: Browser) -> None:
    """The page updates in place, from all well to attention and back; open parts and selections stay."""
    live.pay("succeeded")
    with daemon(live) as running:
        until(lambda: "All is well" in running.get("/")[1])
        with seen(browser, running.url + "/") as page:
            expect(page.locator("h1")).to_have_text("All is well")
            expect(page.locator("#attention")).to_have_count(0)
            page.evaluate("window.sameDocument = true")
            page.click("summary")
            held = live.pay("succeeded", rows=(5.0,))
            until(lambda: "1 payment needs" in running.get("/")[1])
            page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            refresh(page)
            page.evaluate("new Promise(requestAnimationFrame)")
            assert asked == []  # somebody is copying text of the page
            page.evaluate("getSelection().removeAllRanges()")
            refresh(page)
            expect(page.locator("h1")).to_have_text("1 payment needs attention")
            expect(page.locator("#attention .id")).to_have_text(held)
            expect(page).to_have_title("1 payment needs attention · syncd")
            order = page.eval_on_selector_all("main > section", "all => all.map(e => e.id)")
            assert order == [
                "glance",
                "checks",
                "attention",
                "day",
                "pushes",
                "where",
                "budgets",
                "configuration",
            ]
            live.box.halo.rows_of(held)[0]["amount"] = 10.99
            live.command("attention", "retry", held)
            until(lambda: running.get("/")[1].count("<tr><td") == 2)
            refresh(page)
            expect(page.locator("#attention")).to_have_count(0)
            expect(page.locator("#pushes tbody tr")).to_have_count(2)
            expect(page.locator("details")).to_have_attribute("open", "")
            assert page.evaluate("window.sameDocument") is True


def test_it_asks_by_itself_and_says_when_nobody_answers(live: Rig, browser: Browser) -> None:
    """The page refreshes every ten seconds; if syncd does not answer, the page says so."""
    with daemon(live) as running:
        until(lambda: "All is well" in running.get("/")[1])
        with seen(browser, running.url + "/", allowed="ERR_CONNECTION_REFUSED") as page:
            page.clock.install()
            page.reload()
            expect(page.locator("#old")).to_be_hidden()
            with page.expect_response(running.url + "/"):
                page.clock.fast_forward(10_000)
            running.stop()
            page.clock.fast_forward(10_000)
            expect(page.locator("#old")).to_contain_text("No answer from syncd since")


def test_links(live: Rig, browser: Browser) -> None:
    """A payment, a refund and a dispute link to the payment in Stripe, and each invoice links to Halo."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    held, paid = live.pay("succeeded", rows=(5.0,)), live.pay("succeeded")
    with daemon(live) as running:
        until(lambda: live.statuses(paid) == [3])
        refund, dispute = live.box.stripe.refund(paid, 500), live.box.stripe.dispute(paid)
        until(lambda: "1 payment, 1 refund and 1 dispute need" in running.get("/")[1])
        with seen(browser, running.url + "/") as page:
            for name, payment in ((held, held), (refund, paid), (dispute, paid)):
                line = page.locator("#attention li", has=page.get_by_text(name, exact=True))
                expect(line.locator("a.id")).to_have_attribute(
                    "href", f"https://dashboard.stripe.com/test/payments/{payment}"
                )
                [row] = live.box.halo.rows_of(payment)
                invoice = line.get_by_role("link", name=f"INV-{row['invoice_id']}", exact=True)
                expect(invoice).to_have_attribute(
                    "href",
                    f"{live.box.halo.url}/invoices?mainview=invoices&invoiceid={row['invoice_id']}",
                )
                expect(line.locator("p").first).to_contain_text(f"Halo's row {row['id']}")


def test_markup_is_harmless(live: Rig, browser: Browser) -> None:
    """Markup in ids and texts is shown as text and does nothing."""
    store = live.open()
    store.take_in([], time.time(), unreadable=[(f"evt_{MARKUP}", f"Look: {MARKUP}", None)])
    made = Pushed(time.time(), MARKUP, MARKUP, PaymentState.SUCCEEDED, 1.0, (1,))
    store.record([Outcome("pi_1", PaymentState.SUCCEEDED, Condition.IN_STEP, pushed=made)], 0)
    store.close()
    held = live.pay("succeeded", rows=())
    live.box.halo.add_row(held, live.box.halo.add_invoice(MARKUP), 5.0)
    with daemon(live) as running:
        until(lambda: "1 payment and 1 unreadable answer need" in running.get("/")[1])
        with seen(browser, running.url + "/") as page:
            refresh(page)
            page.wait_for_timeout(300)
            expect(page.locator("#attention .id")).to_have_text([held, f"evt_{MARKUP}"])
            expect(page.locator("#attention .reason").last).to_have_text(f"Look: {MARKUP}")
            expect(page.locator("#attention .invoice")).to_have_text(MARKUP)
            expect(page.locator("#pushes .id")).to_have_text(MARKUP)
            assert page.evaluate("window.harmed") is None
            assert page.locator("img").count() == 0


def test_without_a_script(live: Rig, browser: Browser) -> None:
    """Without JavaScript the page shows its content and reloads once a minute."""
    live.pay("succeeded", rows=(5.0,))
    with daemon(live) as running:
        until(lambda: "1 payment needs" in running.get("/")[1])
        with seen(browser, running.url + "/", java_script_enabled=False) as page:
            expect(page.locator("h1")).to_have_text("1 payment needs attention")
            expect(page.locator("time").first).to_contain_text("UTC")
            expect(page.locator("meta[http-equiv=refresh]")).to_have_attribute("content", "60")


def test_behind_a_token(live: Rig, browser: Browser) -> None:
    """If a browser has the token as a password, it shows the page and refreshes it."""
    with daemon(live, SYNCD_WEB_TOKEN="a-token-of-ours") as running:
        known = "Basic " + base64.b64encode(b":a-token-of-ours").decode()
        until(lambda: "All is well" in running.get("/", Authorization=known)[1])
        given = {"username": "anybody", "password": "a-token-of-ours"}
        with seen(browser, running.url + "/", http_credentials=given) as page:
            with page.expect_response(running.url + "/") as answer:
                refresh(page)
            assert answer.value.status == 200
            expect(page.locator("#old")).to_be_hidden()


def test_copy_buttons_and_equal_tiles(live: Rig, browser: Browser) -> None:
    """A button copies the id or command next to it; tiles have the same height, however long an error is."""
    held = live.pay("succeeded", rows=(5.0,))
    with daemon(live) as running:
        until(lambda: "1 payment needs attention" in running.get("/")[1])
        live.box.halo.faults.append(Fault("html", times=None))
        live.pay("succeeded")
        until(lambda: "instead of JSON" in running.get("/")[1])
        permissions = ["clipboard-read", "clipboard-write"]
        with seen(browser, running.url + "/", permissions=permissions) as page:
            for text in (held, f"syncd attention retry {held}"):
                page.locator(f'button[data-copy="{text}"]').click()
                expect(page.locator(f'button[data-copy="{text}"]')).to_have_text("Copied")
                assert page.evaluate("navigator.clipboard.readText()") == text
            heights = page.evaluate(
                "[...document.querySelectorAll('.cards li')].map((e) => e.getBoundingClientRect().height)"
            )
            assert len(set(heights)) == 1
            assert max(heights) < 200
            page.get_by_role("link", name="The amounts differ").click()
            expect(page.locator("#why-amount_mismatch")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legible(live: Rig, browser: Browser, scheme: str) -> None:
    """Both schemes have enough contrast, and nothing is wider than the window, narrow or wide."""
    a_day(live)
    live.box.stripe.permissions |= {"refunds", "disputes"}
    held = live.pay("succeeded", rows=(5.0,))
    live.box.halo.rows_of(held)[0]["client_name"] = (
        "A customer with a long name, Ltd & Sons, Somewhere"
    )
    live.pay("payment_failed")
    paid = live.pay("succeeded")
    live.pay("succeeded", rows=())
    with daemon(live) as running:
        until(lambda: live.statuses(paid) == [3])
        live.box.stripe.refund(paid, 500)
        until(lambda: "1 payment and 1 refund need" in running.get("/")[1])
        for name, width, height in (("phone", 360, 800), ("desk", 1_200, 1_000)):
            view = {"width": width, "height": height}
            with seen(browser, running.url + "/", viewport=view, color_scheme=scheme) as page:
                contrasts = page.evaluate(
                    CONTRAST,
                    [
                        "h1",
                        "#glance p",
                        ".cards span",
                        ".reason",
                        ".quiet",
                        "a.id",
                        "code",
                        ".legend li",
                        "footer p",
                        "footer a",
                        "td",
                        "dt",
                        "a.invoice",
                    ],
                )
                assert {k: round(v, 1) for k, v in contrasts.items() if v < 4.5} == {}
                for level in Health:
                    page.evaluate(
                        "(l) => { document.querySelector('#glance').className = l }", level
                    )
                    assert page.evaluate(CONTRAST, ["h1"])["h1"] >= 4.5, level
                refresh(page)
                assert page.evaluate("document.documentElement.scrollWidth") == width
                ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert ground == {"light": "rgb(246, 247, 248)", "dark": "rgb(19, 23, 27)"}[scheme]
                expect(page.locator("rect.fill").first).to_be_visible()
                expect(page.locator("rect.fill.pale").first).to_be_visible()
                expect(page.locator("circle.middle").first).to_be_visible()
                if SCREENSHOTS:
                    page.evaluate("document.querySelector('#glance').className = 'attention'")
                    page.screenshot(path=Path(SCREENSHOTS) / f"page-{name}-{scheme}.png")
