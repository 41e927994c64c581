"""The page over plain HTTP: its content, who may read it, and which input it must not let through."""

import base64
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from syncd import __version__
from syncd.core.payments import Observation, PaymentState
from syncd.core.records import Condition, Outcome, Pushed, ReportedState
from syncd.monitor.alerts import HealthState, level_of
from syncd.monitor.health import Check
from syncd.monitor.status import gather
from syncd.sandbox import Fault
from syncd.service.web.page import Snapshot, banner, headers, stripe_link
from syncd.service.web.server import _mark
from syncd.store.history import PUSHES_MAX
from syncd.store.store import Store
from tests.conftest import NOW, Rig
from tests.test_attention import copy_payment
from tests.test_process import daemon, until


class Parts(HTMLParser):
    """What a page would load or run, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.loads += [str(v) for name, v in attrs if name in ("src", "srcset", "data", "action")]
        if tag == "link":
            self.loads += [str(value) for name, value in attrs if name == "href"]


def push(number: int, at: float, lag: float | None = 5.0) -> Outcome:
    """An outcome with a push, as the store records it."""
    made = Pushed(at, f"pi_{number}", "none", PaymentState.SUCCEEDED, lag, (number,))
    return Outcome(f"pi_{number}", PaymentState.SUCCEEDED, Condition.IN_STEP, pushed=made)


def test_the_page_without_a_browser(live: Rig) -> None:
    """The page is complete without a script: state, reasons, remedies, links, pushes, budgets, version."""
    held, paid = live.pay("succeeded", rows=(5.0,)), live.pay("succeeded")
    with daemon(live) as running:
        until(lambda: running.events("held") and running.events("pushed"))
        page = until(lambda: (p := running.get("/")[1]) and "1 payment needs attention" in p and p)
        assert running.stop() == 0
    for piece in (
        "The amounts differ",
        f"syncd attention retry {held}",
        "adds up to 5.00 USD",
        f"https://dashboard.stripe.com/test/payments/{held}",
        f"payments/{paid}",
        live.box.halo.url,
        "of 10,000 left",
        "of 300 left",
        f"Version {__version__}",
        "halo.status.succeeded",
        "10.99 USD",
    ):
        assert piece in page
    for secret in (live.box.stripe.api_key, live.box.halo.client_secret):
        assert secret not in page
    found = Parts(page)
    assert (found.handlers, [load[:9] for load in found.loads]) == ([], ["data:imag"])
    assert [found.tags.count(tag) for tag in ("script", "style", "img", "form")] == [1, 1, 0, 0]


def test_what_a_browser_is_told(live: Rig) -> None:
    """The response headers, complete: a browser may load, run and send only what belongs to the page."""
    import urllib.request

    with daemon(live) as running:
        with urllib.request.urlopen(running.url + "/", timeout=5) as answer:
            told = {name.lower(): value for name, value in answer.headers.items()}
        policy = re.sub(r"'sha256-[\w+/]{43}='", "'sha256-…'", told["content-security-policy"])
        assert policy == (
            "default-src 'none'; style-src 'sha256-…'; script-src 'sha256-…'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert {name: told.get(name) for name in (
            "x-frame-options", "referrer-policy", "cache-control", "x-content-type-options",
            "set-cookie", "content-type", "server",
        )} == {
            "x-frame-options": "DENY", "referrer-policy": "no-referrer",
            "cache-control": "no-store", "x-content-type-options": "nosniff", "set-cookie": None,
            "content-type": "text/html; charset=utf-8", "server": None,
        }  # fmt: skip
        assert told["content-security-policy"] == headers()["Content-Security-Policy"]
        # Without a token, only addresses are accepted as host: a name may belong to somebody else.
        port = running.url.rpartition(":")[2]
        for host, code in {
            "127.0.0.1": 200,
            "localhost": 200,
            "[::1]": 200,
            "evil.example": 421,
            "": 421,
        }.items():
            for path in ("/", "/livez"):
                assert running.get(path, Host=f"{host}:{port}")[0] == code


def test_who_may_read_it(live: Rig) -> None:
    """With a token, programs send it as a bearer token, and browsers as the password of basic auth."""
    import urllib.error
    import urllib.request

    def basic(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    with daemon(live, SYNCD_WEB_TOKEN="a-token-of-ours") as running:
        for given, code in {
            "Bearer a-token-of-ours": 200, "bearer a-token-of-ours": 200,
            basic("", "a-token-of-ours"): 200, basic("anybody", "a-token-of-ours"): 200,
            "": 401, "Bearer": 401, "Bearer a-token-of-our": 401, "a-token-of-ours": 401,
            basic("a-token-of-ours", ""): 401, basic("x", "a-token-of-ours:"): 401,
            "Basic a-token-of-ours": 401, "Basic ÿ": 401, "Digest a-token-of-ours": 401,
        }.items():  # fmt: skip
            assert running.get("/", Authorization=given)[0] == code, given
        assert (
            running.get("/", Authorization=basic("", "a-token-of-ours"), Host="syncd.example")[0]
            == 200
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(running.url + "/", timeout=5)
        with refused.value as answer:
            assert answer.headers.get_all("WWW-Authenticate") == [
                'Basic realm="syncd", charset="UTF-8"',
                'Bearer realm="syncd"',
            ]
            assert b"syncd" not in answer.read()


def test_never_thousands(live: Rig) -> None:
    """The page limits a long attention list and many pushes, and counts the rest."""
    store = live.open()
    odd = [(f"evt_{n}", f"It can't be read ({n}).", None) for n in range(3_000)]
    now = int(time.time())
    held = [
        Observation(f"pi_held_{n}", PaymentState.SUCCEEDED, now, True, now, 1_099, 1_099, "usd")
        for n in range(99)
    ]
    pushed = [
        Observation(f"pi_{n}", PaymentState.SUCCEEDED, now, False, None, 1_099, 1_099, "usd")
        for n in range(3_000)
    ]
    store.take_in([*held, *pushed], now, unreadable=odd)
    why = "It is held."
    store.record(
        [
            Outcome(seen.intent_id, PaymentState.SUCCEEDED, Condition.HELD, "row_unreadable", why)
            for seen in held
        ],
        now,
    )
    store.record([push(n, time.time() - 60) for n in range(3_000)], time.time())
    store.close()
    with daemon(live) as running:
        page = until(
            lambda: (
                (p := running.get("/")[1])
                and "99 payments and 3,000 unreadable answers need" in p
                and p
            )
        )
    assert page.count("It can&#39;t be read") + page.count(why) == 50
    assert "And 3,049 more" in page
    assert page.count("<tr><td") == 20
    assert "in the last hour: 3099 succeeded (3000 written by syncd)" in page
    assert len(page) < 100_000


def test_while_halo_is_down(live: Rig) -> None:
    """If Halo fails, the page shows so first, with the reason."""
    live.box.halo.faults.append(Fault("html", times=None))
    live.pay("succeeded")
    with daemon(live) as running:
        page = until(lambda: (p := running.get("/")[1]) and "Halo does not work" in p and p)
    assert "instead of JSON" in page


def test_the_worst_comes_first(live: Rig) -> None:
    """While Halo is down the banner says so, before the payments that need attention."""
    held = live.pay("succeeded", rows=(5.0,))
    with daemon(live) as running:
        until(lambda: "<h1>1 payment needs attention</h1>" in running.get("/")[1])
        page = running.get("/")[1]
        live.box.halo.faults.append(Fault("html", times=None))
        live.pay("succeeded")
        down = until(lambda: (p := running.get("/")[1]) and "Halo does not work</h1>" in p and p)
    banner = down.partition('id="glance"')[2].partition("</section>")[0]
    assert "syncd pushes nothing until Halo answers." in banner
    assert "1 payment needs attention." in banner
    assert "all other payments" in page
    assert "all other payments" not in down
    # What the reader needs to find the payment and to correct it.
    for piece in (
        "A customer",
        f'data-copy="{held}"',
        f'data-copy="syncd attention retry {held}"',
        'href="#why-amount_mismatch"',
        'id="why-amount_mismatch"',
    ):
        assert piece in page


WORKS, RECENT, DOWN = (
    Check(True, "worked 1 s ago"),
    Check(True, "it hung", 1.0, reason="it hung"),
    Check(False, "no answer", reason="no answer"),
)
STOPPED = Check(False, "Halo does not store the status", reason="x")


@pytest.mark.parametrize(
    ("checks", "counts", "headline", "sentences"),
    [
        ({}, {}, "All is well", ["Halo shows what Stripe reports."]),
        ({}, {"payment": 2, "disputed": 1}, "2 payments and 1 dispute need attention",
         ["syncd pushes all other payments as usual. The list below says what to do."]),
        ({"stripe": DOWN}, {"payment": 2}, "Stripe does not work",
         ["No answer.", "syncd reads no payments until Stripe answers.",
          "Nothing is lost: syncd retries automatically.", "2 payments need attention."]),
        ({"halo": DOWN}, {}, "Halo does not work",
         ["No answer.", "syncd pushes nothing until Halo answers.",
          "Nothing is lost: syncd retries automatically."]),
        ({"stripe": DOWN, "halo": DOWN}, {}, "Stripe and Halo do not work",
         ["No answer.", "syncd reads no payments until Stripe answers.",
          "syncd pushes nothing until Halo answers.",
          "Nothing is lost: syncd retries automatically."]),
        ({"store": DOWN, "halo": RECENT}, {"payment": 1}, "The database does not work",
         ["No answer.", "syncd reads and pushes nothing until the database works.",
          "Nothing is lost: syncd retries automatically.", "1 payment needs attention."]),
        ({"stripe": RECENT}, {"payment": 1}, "Stripe failed recently",
         ["It hung.", "syncd reads no payments until Stripe answers.",
          "Nothing is lost: syncd retries automatically.", "1 payment needs attention."]),
        ({"writes": STOPPED, "stripe": RECENT}, {"tenant": 1, "payment": 3}, "Writing to Halo does not work",
         ["Halo does not store the status.",
          "syncd writes nothing more in this tenant, and tries one row again once a day.",
          "Nothing is lost.", "1 problem of the tenant and 3 payments need attention."]),
        ({"writes": STOPPED, "halo": DOWN}, {"tenant": 1, "payment": 3}, "Halo does not work",
         ["No answer.", "Halo does not store the status.", "syncd pushes nothing until Halo answers.",
          "syncd writes nothing more in this tenant, and tries one row again once a day.",
          "Nothing is lost: syncd retries automatically.",
          "1 problem of the tenant and 3 payments need attention."]),
    ],
)  # fmt: skip
def test_the_banner_names_the_worst_first(
    rig: Rig, checks: dict[str, Check], counts: dict[str, int], headline: str, sentences: list[str]
) -> None:
    """The banner shows a failed side or database first, then stopped writes, then payments."""
    whole = {"stripe": WORKS, "halo": WORKS, **checks}
    store = rig.open()
    try:
        status = replace(
            gather(rig.config(), store, NOW, checks=whole), checks=whole, attention_counts=counts
        )
    finally:
        store.close()
    level = level_of({n: c.failing for n, c in whole.items() if not c.ok}, sum(counts.values()))
    cards = [(name, _mark(check), check.text) for name, check in whole.items()]
    shown = banner(Snapshot(status, rig.config(), level, HealthState(level), cards, [], [], []))
    assert (shown.headline, list(shown.sentences)) == (headline, sentences)


def test_a_tenant_in_which_writes_stopped(live: Rig) -> None:
    """If writes are stopped, the page shows the cause, the payment and the command; /readyz answers 503."""
    live.proven = False
    live.box.halo.keeps.drops = frozenset({"status"})
    payment = live.pay("succeeded")
    with daemon(live) as running:
        page = until(
            lambda: (p := running.get("/")[1]) and "Writing to Halo does not work</h1>" in p and p
        )
        status, ready = running.get("/readyz")
        assert running.stop() == 0
    banner = page.partition('id="glance"')[2].partition("</section>")[0]
    assert "writes_not_stored" in banner
    assert payment in banner
    assert "syncd attention retry writes_not_stored" in page
    assert "stopped since" in page.partition('id="where"')[2]
    assert (status, "writes_not_stored" in ready) == (503, True)


def test_the_history_is_bounded(rig: Rig) -> None:
    """The store keeps two days of pushes, up to a limit; the newest come first."""

    def fill(store: Store) -> tuple[int, int, list[Pushed]]:
        store.record([push(1, NOW - 49 * 3_600), push(2, NOW - 47 * 3_600)], NOW)
        store.record([push(3, NOW, None)], NOW)
        kept = store.people.pushes(0)
        store.record([push(n, NOW + 1) for n in range(PUSHES_MAX)], NOW)
        return len(store.people.pushes(0)), len(store.people.pushes(0, PUSHES_MAX * 2)), kept

    capped, all_of_them, kept = rig.stored(fill)
    assert [one.intent_id for one in kept] == ["pi_3", "pi_2"]
    assert kept[0] == Pushed(NOW, "pi_3", "none", PaymentState.SUCCEEDED, None, (3,))
    assert capped == all_of_them == PUSHES_MAX


def test_what_a_push_leaves(rig: Rig) -> None:
    """The store keeps for each push its rows, what Halo showed before, and the lag."""
    payment = rig.pay("processing", rows=(4.0, 6.99))
    rig.clock.seconds += 60
    rig.cycle()
    rig.clock.seconds += 60
    rig.box.stripe.advance(payment, "succeeded")
    rig.clock.seconds += 5
    rig.cycle()
    rows = tuple(row["id"] for row in rig.box.halo.rows_of(payment))
    assert rig.stored(lambda store: store.people.pushes(0)) == [
        Pushed(NOW + 125, payment, "processing", PaymentState.SUCCEEDED, 5.0, rows),
        Pushed(NOW + 60, payment, "status 1", PaymentState.PROCESSING, 60.0, rows),
    ]


def test_what_stripe_said(rig: Rig) -> None:
    """The history shows each Halo payment at the time of Stripe's report, whoever wrote it."""
    rig.clock.seconds = NOW + 3_600
    written = rig.pay("succeeded", created=NOW)
    first = rig.box.stripe.create_intent(created=NOW)
    rig.box.halo.add_row(first, rig.box.halo.add_invoice(), 10.99)
    rig.box.stripe.advance(first, "processing")
    rig.box.halo.native_webhook(rig.box.stripe.events[-1])
    read = rig.pay(None, created=NOW + 60)
    rig.box.stripe.advance(read, "canceled", emit=False)  # no event reports it: the sweep reads it
    rig.pay("succeeded", rows=())  # not Halo's
    rig.once()
    for hours in (2, 3):
        rig.clock.seconds = NOW + hours * 3_600
        rig.sweep()
    assert set(rig.stored(lambda store: store.people.reported_states(NOW))) == {
        ReportedState(int(NOW) + 3_600, written, PaymentState.SUCCEEDED),
        ReportedState(int(NOW) + 3_600, first, PaymentState.PROCESSING),
        ReportedState(int(NOW) + 60, read, PaymentState.CANCELED),
    }
    pushes = rig.stored(lambda store: store.people.pushes(0))
    assert {one.intent_id for one in pushes} == {written, read}
    assert rig.stored(lambda store: store.people.reported_states(NOW + 3_601)) == []


def test_links_to_stripe(rig: Rig) -> None:
    """Links to Stripe use live or test mode and the account; only payment intents get a link."""
    assert stripe_link("pi_1", rig.config()) == "https://dashboard.stripe.com/test/payments/pi_1"
    assert stripe_link("evt_1", rig.config()) is None
    assert stripe_link('pi_1"><script>', rig.config()) is None
    rig.settings["SYNCD_STRIPE_API_KEY"] = "rk_live_1"
    assert stripe_link("pi_1", rig.config()) == "https://dashboard.stripe.com/payments/pi_1"
    rig.settings["SYNCD_STRIPE__ACCOUNT"] = "acct_1"
    assert stripe_link("pi_1", rig.config()) == (
        "https://dashboard.stripe.com/acct_1/payments/pi_1"
    )


def test_ten_thousand_entries(live: Rig) -> None:
    """The page shows the first 50 entries, all kinds among them, and the command that lists all."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    held, paid = live.pay("succeeded", rows=(5.0,)), live.pay("succeeded")
    live.once()
    refund = live.box.stripe.refund(paid, 500)
    live.once()
    copy_payment(live, held, 9_999)
    with daemon(live) as running:
        page = until(lambda: (p := running.get("/")[1]) and "Needs attention" in p and p)
        assert running.stop() == 0
    assert "And 9,951 more: <code>syncd attention --all</code>" in page
    assert page.count('class="reason"') == 50
    assert refund in page
    assert len(page) < 300_000
