"""What syncd notifies about, and when: no message is lost, repeated or sent too often."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from syncd.monitor.alerts import (
    FailingCheck,
    Health,
    HealthReading,
    HealthState,
    Notice,
    Notified,
    Rules,
    Tone,
    assess,
    judge,
)
from syncd.monitor.watcher import HEALTH, NOTIFIED
from syncd.text.wording import needing

RULES = Rules(stale_seconds=900, every_seconds=3_600, budget_low=0.1)
BUDGETS = {"stripe": (9_000, 10_000), "halo": (300, 300)}


class Teller:
    """Judges one reading after the other, as the service does; every message is delivered."""

    def __init__(self) -> None:
        self.notified, self.health = Notified(), HealthState()

    def hear(self, reading: HealthReading) -> Notice | None:
        self.health = assess(self.health, reading, RULES)
        self.notified, notice = judge(self.notified, self.health, reading, RULES)
        return notice


def test_attention_is_told_once_and_collected() -> None:
    """New entries are reported once; entries of the next hour are collected in the next message."""
    teller = Teller()
    one = {"pi_1": "Set halo.status.canceled."}
    assert teller.hear(HealthReading(0, attention=one, attention_counts={"payment": 1})) == Notice(
        "1 payment needs attention",
        "1 new entry on the attention list, 1 in all:\n- pi_1: Set halo.status.canceled.\n"
        "For the reasons and what to do, run: syncd attention",
        Tone.WARNING,
    )
    assert teller.hear(HealthReading(60, attention=one, attention_counts={"payment": 1})) is None
    two = {"pi_2": "b"} | one
    assert teller.hear(HealthReading(120, attention=two, attention_counts={"payment": 2})) is None
    three = {"pi_3": "c"} | two
    assert (
        teller.hear(HealthReading(3_599, attention=three, attention_counts={"payment": 3})) is None
    )
    assert teller.hear(
        HealthReading(3_600, attention=three, attention_counts={"payment": 3})
    ) == Notice(
        "3 payments need attention",
        "2 new entries on the attention list, 3 in all:\n- pi_3: c\n- pi_2: b\n"
        "For the reasons and what to do, run: syncd attention",
        Tone.WARNING,
    )
    assert (
        teller.hear(HealthReading(9_000, attention=three, attention_counts={"payment": 3})) is None
    )


def test_attention_that_comes_back() -> None:
    """A payment that left the attention list and returns is reported again."""
    teller = Teller()
    teller.hear(HealthReading(0, attention={"pi_1": "a"}, attention_counts={"payment": 1}))
    assert teller.hear(HealthReading(60)) is None
    notified = teller.hear(
        HealthReading(7_200, attention={"pi_1": "a"}, attention_counts={"payment": 1})
    )
    assert notified is not None


def test_a_thousand_are_one_message() -> None:
    """However many entries there are, a message names ten and counts the rest."""
    lines = {f"pi_{n}": "why" for n in range(500)}
    notice = Teller().hear(HealthReading(0, attention=lines, attention_counts={"payment": 1_234}))
    assert notice is not None
    assert notice.title == "1,234 payments need attention"
    assert notice.body.count("\n") == 12
    assert "- and 490 more" in notice.body


def test_a_side_that_fails_and_works_again() -> None:
    """A failing side is reported after stale_after, not before, and again when it works."""
    teller = Teller()
    halo = {"halo": FailingCheck("Halo answered 503.", worked_at=100)}
    assert teller.hear(HealthReading(999, failing=halo)) is None
    assert teller.hear(HealthReading(1_000, failing=halo)) == Notice(
        "Halo does not work",
        "Halo: nothing has worked for 15 min. Halo answered 503. syncd retries automatically, and "
        "nothing is lost. For details, run: syncd status",
        Tone.FAILURE,
    )
    assert teller.hear(HealthReading(5_000, failing=halo)) is None
    assert teller.hear(HealthReading(5_060)) == Notice(
        "Halo works again", "Halo works again.", Tone.SUCCESS
    )
    assert teller.hear(HealthReading(5_120)) is None


def test_a_side_that_never_worked() -> None:
    """If a side never worked, the time counts from its first observed failure."""
    teller = Teller()
    store = {"store": FailingCheck("The database is locked.")}
    assert teller.hear(HealthReading(0, failing=store)) is None
    assert teller.hear(HealthReading(899, failing=store)) is None
    notice = teller.hear(HealthReading(900, failing=store))
    assert notice is not None
    assert notice.title == "The database does not work"


def test_a_side_that_is_only_busy() -> None:
    """If a side is only busy, the message names one time and no failure."""
    teller = Teller()
    busy = {"stripe": FailingCheck("no poll has worked for 20 min", busy=True)}
    assert teller.hear(HealthReading(0, failing=busy)) is None
    assert teller.hear(HealthReading(900, failing=busy)) == Notice(
        "Stripe does not work",
        "Stripe: no poll has worked for 20 min. syncd retries automatically, and nothing is lost. "
        "For details, run: syncd status",
        Tone.FAILURE,
    )


def test_what_needs_attention_is_named() -> None:
    """The title counts payments, refunds, disputes and unreadable answers separately."""
    assert [
        needing(counts)
        for counts in (
            {},
            {"payment": 1},
            {"refunded": 2},
            {"payment": 3, "disputed": 1, "refunded": 2},
            {"payment": 1_200, "unreadable": 1},
        )
    ] == [
        "",
        "1 payment needs attention",
        "2 refunds need attention",
        "3 payments, 2 refunds and 1 dispute need attention",
        "1,200 payments and 1 unreadable answer need attention",
    ]


def test_a_gap_is_told_once() -> None:
    """A filled gap between polls is reported once."""
    teller = Teller()
    gap = (500, "No poll for 40 days.")
    assert teller.hear(HealthReading(1_000, gap=gap)) == Notice(
        "A gap between polls was filled", "No poll for 40 days.", Tone.WARNING
    )
    assert teller.hear(HealthReading(90_000, gap=gap)) is None


def test_budgets_that_run_low() -> None:
    """A low Stripe budget is reported at once, a low Halo budget only after an hour.

    A low budget is reported again only after a real recovery.
    """
    teller = Teller()
    low = BUDGETS | {"stripe": (999, 10_000)}
    notice = teller.hear(HealthReading(0, budgets=low))
    assert notice is not None
    assert notice.title == "Few requests to Stripe are left"
    assert notice.body.startswith("999 of the 10,000 Stripe API reads")
    assert teller.hear(HealthReading(10_000, budgets=BUDGETS | {"stripe": (1_001, 10_000)})) is None
    assert teller.hear(HealthReading(20_000, budgets=low)) is None  # it had not really recovered
    assert teller.hear(HealthReading(30_000, budgets=BUDGETS)) is None
    assert teller.hear(HealthReading(40_000, budgets=low)) is not None
    window = BUDGETS | {"halo": (2, 300)}
    assert teller.hear(HealthReading(50_000, budgets=window)) is None
    assert teller.hear(HealthReading(53_599, budgets=window)) is None
    notice = teller.hear(HealthReading(53_600, budgets=window))
    assert notice is not None
    assert notice.title == "Few requests to Halo are left"


def test_all_of_one_moment_is_one_message() -> None:
    """Several problems at once go into one message with the tone of the worst problem."""
    notice = Teller().hear(
        HealthReading(
            10_000,
            failing={"halo": FailingCheck("down.", worked_at=0)},
            attention={"pi_1": "a"},
            attention_counts={"payment": 1},
            gap=(1, "A gap."),
        )
    )
    assert notice is not None
    assert (
        notice.title
        == "Halo does not work; 1 payment needs attention; a gap between polls was filled"
    )
    assert (notice.tone, notice.body.count("\n\n")) == (Tone.FAILURE, 2)


def test_a_message_that_was_not_delivered() -> None:
    """A message that was not delivered is created again at the next reading."""
    reading = HealthReading(0, attention={"pi_1": "a"}, attention_counts={"payment": 1})
    health = assess(HealthState(), reading, RULES)
    _, first = judge(Notified(), health, reading, RULES)
    _, again = judge(Notified(), health, replace(reading, at=60), RULES)
    assert first == again is not None


def test_since_when_it_stands_so() -> None:
    """The level is the worst that applies; its time changes only when the level changes."""
    young = FailingCheck("starting: no poll has worked yet", starting=True)
    steps = [
        (HealthReading(10, failing={"halo": young}), Health.STARTING, 0),
        (HealthReading(20), Health.WELL, 20),
        (HealthReading(30), Health.WELL, 20),
        (
            HealthReading(40, attention={"pi_1": "a"}, attention_counts={"payment": 1}),
            Health.ATTENTION,
            40,
        ),
        (
            HealthReading(
                50,
                attention_counts={"payment": 1},
                failing={"halo": FailingCheck("no"), "stripe": young},
            ),
            Health.FAILING,
            50,
        ),
        (HealthReading(60), Health.WELL, 60),
        (HealthReading(15), Health.WELL, 15),  # the clock was set back
    ]
    health = HealthState()
    for reading, level, since in steps:
        health = assess(health, reading, RULES)
        assert (health.level, health.since) == (level, since)


readings = st.builds(
    lambda failing, ids, low, gap: HealthReading(
        0,
        failing={name: FailingCheck("why", worked_at=0) for name in failing},
        attention=dict.fromkeys(ids, "why"),
        attention_counts={"payment": len(ids)},
        gap=(gap, "A gap.") if gap else None,
        budgets={side: (0 if side in low else 100, 100) for side in ("stripe", "halo")},
    ),
    st.sets(st.sampled_from(["stripe", "halo", "store"])),
    st.lists(st.sampled_from([f"pi_{n}" for n in range(6)]), unique=True),
    st.sets(st.sampled_from(["stripe", "halo"])),
    st.integers(0, 2),
)


MATTERS = (
    "gap",
    "attention",
    "Halo does not work",
    "Stripe does not work",
    "The database does not work",
    "to Stripe",
    "to Halo",
)
"""What titles report, at most once in an hour each."""


@given(st.lists(st.tuples(st.integers(1, 4_000), readings), max_size=40))
def test_never_a_flood(steps: list[tuple[int, HealthReading]]) -> None:
    """No problem is reported twice within an hour, and the stored state can be read back unchanged."""
    teller, at = Teller(), 1_000_000
    last: dict[str, int] = {}
    for passed, reading in steps:
        at += passed
        notice = teller.hear(replace(reading, at=at))
        assert NOTIFIED.decode(NOTIFIED.encode(teller.notified)) == teller.notified
        assert HEALTH.decode(HEALTH.encode(teller.health)) == teller.health
        for matter in MATTERS:
            if notice is not None and matter in notice.title:
                assert at - last.get(matter, 0) >= RULES.every_seconds
                last[matter] = at


def test_the_matters_that_are_looked_for() -> None:
    """Each of MATTERS is in the title of the message that reports it."""
    reading = HealthReading(
        1_000_000,
        failing={n: FailingCheck("why", worked_at=0) for n in ("stripe", "halo", "store")},
        attention={"pi_1": "why"},
        attention_counts={"payment": 1},
        gap=(1, "A gap."),
        budgets={"stripe": (0, 100), "halo": (0, 100)},
    )
    teller = Teller()
    quiet = replace(reading, failing={}, attention={}, attention_counts={}, gap=None)
    notices = [teller.hear(one) for one in (quiet, replace(reading, at=1_010_000))]
    titles = "; ".join(notice.title for notice in notices if notice is not None)
    assert [matter for matter in MATTERS if matter not in titles] == []


@given(st.lists(st.lists(st.sampled_from([f"pi_{n}" for n in range(6)]), unique=True), max_size=9))
def test_nobody_stays_untold(lists: list[list[str]]) -> None:
    """An entry that stays on the list is reported exactly once, before or at the last reading."""
    teller, heard = Teller(), ""
    for number, ids in enumerate([*lists, ["pi_last"]]):
        reading = HealthReading(
            number * 60, attention=dict.fromkeys(ids, "why"), attention_counts={"payment": len(ids)}
        )
        notice = teller.hear(reading)
        heard += notice.body if notice else ""
    final = HealthReading(1e6, attention={"pi_last": "why"}, attention_counts={"payment": 1})
    notice = teller.hear(final)
    assert ("pi_last" in heard) is (notice is None)
