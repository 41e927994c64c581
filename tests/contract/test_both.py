"""The contract that both adapters fulfil, whichever API they talk to."""

from email.utils import formatdate

import pytest

from syncd.clients.retry import ATTEMPTS_MAX
from syncd.core.errors import (
    BadAnswer,
    LinkFailure,
    PermissionMissing,
    RateLimited,
    ServerError,
    SignInRefused,
    Unreachable,
)
from syncd.sandbox import Fault, Request, Sandbox
from tests.contract.conftest import LISTING, SIDES, Bench

both = pytest.mark.parametrize("side", SIDES)

TRANSIENT = {
    "500": ServerError,
    "502": ServerError,
    "503": ServerError,
    "504": ServerError,
    "html_500": ServerError,
    "reset": Unreachable,
    "truncated": Unreachable,
}


def _strike(bench: Bench, side: str, kind: str, times: int | None = None, **more: object) -> None:
    fault = Fault(kind, times=times, path=LISTING[side], **more)  # type: ignore[arg-type]
    bench.side(side).faults.append(fault)


@both
@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_passing_fault_is_ridden_out(bench: Bench, side: str, kind: str) -> None:
    """After two failed requests the adapter succeeds on the third; it waits before each retry."""
    _strike(bench, side, kind, times=2)
    bench.read(side)
    assert len(bench.listings(side)) == 3
    first, second = bench.waited
    assert 0 < first < 2 * second


@both
@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_lasting_fault_is_named(bench: Bench, side: str, kind: str) -> None:
    """If a fault lasts, the adapter gives up after a few attempts and raises the matching error."""
    _strike(bench, side, kind)
    with pytest.raises(TRANSIENT[kind]) as caught:
        bench.read(side)
    assert caught.value.side == side
    assert 3 <= len(bench.listings(side)) <= ATTEMPTS_MAX
    assert sum(bench.waited) < 60


@both
def test_a_side_that_hangs(bench: Bench, side: str) -> None:
    """A request without an answer ends at the timeout, and the adapter retries it."""
    _strike(bench, side, "hang", times=1)
    bench.read(side, timeout=0.3)
    assert len(bench.listings(side)) == 2


@both
def test_a_side_that_is_not_there(bench: Bench, side: str) -> None:
    """If nothing listens at the address, the error names the side and the setting to check."""
    bench.side(side).url = "http://127.0.0.1:9"
    with pytest.raises(Unreachable, match="can't be reached") as caught:
        bench.read(side)
    assert (caught.value.side, caught.value.maybe_applied) == (side, False)
    key = "halo.url" if side == "halo" else "stripe.api_base"
    end = f"nothing listens at the address (connection refused); check {key}."
    assert str(caught.value).endswith(end)


@both
def test_a_host_that_is_not_found(bench: Bench, side: str) -> None:
    """If the host name does not resolve, the error says so and names the setting to check."""
    bench.side(side).url = "http://acme.invalid"
    with pytest.raises(Unreachable) as caught:
        bench.read(side)
    key = "halo.url" if side == "halo" else "stripe.api_base"
    assert str(caught.value).endswith(f": host not found; check {key} and the DNS of this machine.")


@both
def test_a_side_that_never_answers(bench: Bench, side: str) -> None:
    """If no attempt gets an answer before the timeout, the error says that no answer came in time."""
    _strike(bench, side, "hang", times=9)
    with pytest.raises(Unreachable, match=r"no answer in time \(ReadTimeout\)"):
        bench.read(side, timeout=0.2)


@both
@pytest.mark.parametrize("kind", ["html", "garbage", "empty", "cut_json"])
def test_an_answer_that_is_none(bench: Bench, side: str, kind: str) -> None:
    """If a side answers with HTML, an empty body or unusable JSON, the adapter raises and does not retry."""
    _strike(bench, side, kind)
    with pytest.raises(BadAnswer, match=r"isn't a|not JSON|instead of JSON|contains no list"):
        bench.read(side)
    assert (len(bench.listings(side)), bench.waited) == (1, [])


# --- limits ----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("kind", ["429", "503"])
def test_retry_after_in_seconds(bench: Bench, side: str, kind: str) -> None:
    """The adapter waits at least as long as Retry-After says, and only a little longer."""
    _strike(bench, side, kind, times=1, retry_after=7)
    bench.read(side)
    (wait,) = bench.waited
    assert 7 <= wait < 9


@both
def test_retry_after_as_a_date(bench: Bench, side: str) -> None:
    """Retry-After may also be a date."""
    date = formatdate(bench.clock() + 9, usegmt=True)
    _strike(bench, side, "429", times=1, retry_after=date)
    bench.read(side)
    (wait,) = bench.waited
    assert 9 <= wait < 11


@both
def test_retry_after_as_a_date_by_another_clock(bench: Bench, side: str) -> None:
    """A date in Retry-After is compared with the clock of the side that sent it, not of the host."""
    getattr(bench.box, side).clock_skew = 3_600
    date = formatdate(bench.clock() + 3_609, usegmt=True)
    _strike(bench, side, "429", times=1, retry_after=date)
    bench.read(side)
    (wait,) = bench.waited
    assert 9 <= wait < 11


@both
@pytest.mark.parametrize("value", ["-5", "soon", "", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "٣"])
def test_retry_after_that_is_nonsense(bench: Bench, side: str, value: str) -> None:
    """An unreadable, negative, huge or past Retry-After value is ignored; the normal retry wait applies."""
    _strike(bench, side, "503", times=1, retry_after=value.encode().decode("latin-1"))
    bench.read(side)
    (wait,) = bench.waited
    assert 0 < wait < 3


@both
def test_retry_after_beyond_patience(bench: Bench, side: str) -> None:
    """If Retry-After is too long for one call, the adapter raises RateLimited at once, without a wait."""
    _strike(bench, side, "429", retry_after=120)
    with pytest.raises(RateLimited) as caught:
        bench.read(side)
    assert (caught.value.retry_after_seconds, bench.waited) == (120, [])
    assert len(bench.listings(side)) == 1


@both
def test_retry_after_is_bounded(bench: Bench, side: str) -> None:
    """A Retry-After of a year is reduced to one day."""
    _strike(bench, side, "429", retry_after=31_536_000)
    with pytest.raises(RateLimited) as caught:
        bench.read(side)
    assert caught.value.retry_after_seconds == 86_400


# --- signing in ------------------------------------------------------------------------------------


@both
def test_401_that_stays(bench: Bench, side: str) -> None:
    """If a 401 persists, the adapter fails without waiting.

    Halo gets one new sign-in, Stripe gets no retry.
    """
    _strike(bench, side, "401")
    with pytest.raises(SignInRefused) as caught:
        bench.read(side)
    assert caught.value.side == side
    assert len(bench.listings(side)) == {"stripe": 1, "halo": 2}[side]
    assert bench.waited == []
    signings = [r for r in bench.box.halo.requests if r.path == "/auth/token"]
    assert len(signings) == {"stripe": 0, "halo": 2}[side]


@both
def test_403_names_the_permission(bench: Bench, side: str) -> None:
    """The error of a 403 names the missing permission, and the adapter does not retry."""
    bench.side(side).permissions.clear()
    with pytest.raises(PermissionMissing) as caught:
        bench.read(side)
    named = {"stripe": "'rak_event_read'", "halo": "permission to read invoices"}[side]
    assert named in str(caught.value)
    assert len(bench.listings(side)) == 1


# --- where requests go -----------------------------------------------------------------------------


@both
def test_redirects_are_not_followed(bench: Bench, side: str) -> None:
    """The adapter refuses a redirect and sends nothing to the redirect's target."""
    with Sandbox(clock=bench.clock) as elsewhere:
        location = f"{elsewhere.stripe.url}{LISTING[side]}"
        _strike(bench, side, "redirect", location=location)
        with pytest.raises(BadAnswer):
            bench.read(side)
        assert elsewhere.stripe.requests == []
    assert len(bench.listings(side)) == 1


@both
def test_the_secret_goes_to_its_own_side_alone(bench: Bench, side: str) -> None:
    """Stripe receives only Stripe's key, and Halo's API receives only Halo's token."""
    bench.read("stripe")
    bench.read("halo")
    stripe, halo = bench.box.stripe, bench.box.halo
    assert {r.authorization for r in stripe.requests} == {f"Bearer {stripe.api_key}"}
    tokens = {r.authorization for r in bench.listings("halo")}
    assert len(tokens) == 1
    assert stripe.api_key not in tokens.pop()
    assert {r.authorization for r in halo.requests if r.path != LISTING["halo"]} == {""}
    for request in bench.side(side).requests:
        told = f"{request.path} {request.query} {request.headers} {request.body!r}"
        assert stripe.api_key not in told
        assert halo.client_secret not in told


# --- what is counted and what errors contain --------------------------------------------------------


@both
def test_every_request_asks_for_room_and_is_counted(bench: Bench, side: str) -> None:
    """Each request, also a retry or a sign-in, takes a slot of the throttle first and is then counted."""
    _strike(bench, side, "500", times=1)
    _strike(bench, side, "429", times=1, retry_after=1)
    _strike(bench, side, "reset", times=1)
    bench.read(side)
    signing = {"stripe": [], "halo": ["ok", "ok"]}[side]
    assert bench.noted == [*signing, "error", "limited", "error", "ok"]
    assert bench.taken == len(bench.noted) == len(bench.side(side).requests)


@both
@pytest.mark.parametrize("kind", ["400", "401", "403", "429", "500", "html", "garbage", "reset"])
def test_no_failure_shows_a_secret(bench: Bench, side: str, kind: str) -> None:
    """If an answer repeats a secret or a token of ours, the error does not contain it."""
    fault = Fault(kind, times=None, path=LISTING[side])
    mine = {"stripe": bench.box.stripe.api_key, "halo": bench.box.halo.client_secret}[side]
    sent = {mine, "pi_3Q_secret_abc"}

    def repeat_all(request: Request) -> bool:
        token = request.authorization.removeprefix("Bearer ")
        sent.add(token)
        fault.text = f"You sent {mine} and {token} for pi_3Q_secret_abc."
        return True

    fault.match = repeat_all
    bench.side(side).faults.append(fault)
    with pytest.raises(LinkFailure) as caught:
        bench.read(side)
    told = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert not [secret for secret in sent if secret in told]
    assert "<" not in told.replace(repr(type(caught.value)), "").replace(
        repr(caught.value.side), ""
    )


@both
def test_no_adapter_shows_a_secret(bench: Bench, side: str) -> None:
    """The repr of an adapter shows its URL and no secret."""
    bench.read("halo")

    async def show(adapter: object) -> str:
        return repr(adapter)

    shown = bench.stripe(show) if side == "stripe" else bench.halo(show)
    assert bench.side(side).url in shown
    assert bench.box.stripe.api_key not in shown
    assert bench.box.halo.client_secret not in shown


def test_an_answer_without_end_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of Halo that exceeds the size limit is refused while it is read."""
    monkeypatch.setattr("syncd.clients.halo.connection.BODY_BYTES_MAX", 1_000_000)
    _strike(bench, "halo", "huge", size=8_000_000)
    with pytest.raises(BadAnswer, match="larger than 1000000 bytes"):
        bench.read("halo")
    assert len(bench.listings("halo")) == 1
