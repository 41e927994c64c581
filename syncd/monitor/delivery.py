"""What leaves the house for people: messages by Apprise, and the heartbeat.

The only room that knows `apprise`; with `halo_sink`, the only one that knows `httpx`. The addresses
are secrets: they carry passwords and tokens. No log and no error shows more of them than the
service's name. Nothing here ever raises for a message that could not be delivered.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from syncd.clients.proxy import EnvironmentTransport
from syncd.monitor.alerts import Notice
from syncd.monitor.report import Report

SEND_SECONDS_MAX = 60.0
"""A service that hasn't taken a message by then is given up; its thread is left behind."""

PING_SECONDS_MAX = 10.0


async def send(notice: Notice, urls: Sequence[str], report: Report) -> bool:
    """Send one message to every address. Returns whether any of them took it.

    One that took it is never sent the same again; one that didn't is named in the log.
    """
    problems = await deliver(notice, urls)
    for number, (url, problem) in enumerate(zip(urls, problems, strict=True), start=1):
        if problem is not None:
            report.log(
                "warning", "notification_failed", service=service_of(url), number=number,
                text=f"This service did not take a message: {problem}. Try its address by hand, "
                "where its secrets may be seen: apprise -vv -b test URL",
            )  # fmt: skip
    taken = problems.count(None)
    if taken:
        report.log("info", "notified", title=notice.title, services=taken)
    return taken > 0


async def deliver(notice: Notice, urls: Sequence[str]) -> list[str | None]:
    """Send one message to every address. Returns what went wrong with each; None where it was taken."""
    return await asyncio.gather(*(_send_one(notice, url) for url in urls))


async def _send_one(notice: Notice, url: str) -> str | None:
    """Send in a thread of its own: Apprise waits, and a thread that hangs must not hold up an end.

    Returns what went wrong, without the address; None where the message was taken.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str | None] = loop.create_future()

    def settle(problem: str | None) -> None:
        if not done.done():
            done.set_result(problem)

    def work() -> None:
        problem = _deliver(notice, url)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, problem)

    threading.Thread(target=work, name="notification", daemon=True).start()
    try:
        return await asyncio.wait_for(done, SEND_SECONDS_MAX)
    except TimeoutError:
        return f"no answer in {SEND_SECONDS_MAX:.0f} s"


def _deliver(notice: Notice, url: str) -> str | None:
    """Let Apprise deliver; loaded only here, because most of the time nothing is to be told."""
    try:
        import apprise

        _silence()
        # A redirect could carry a message to a host nobody configured.
        asset = apprise.AppriseAsset(
            app_id="syncd", app_desc="syncd", app_url="", async_mode=False, secure_logging=True,
            service_timeout=0, http_redirects=False,
        )  # fmt: skip
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            return "Apprise can't read its address"
        taken = service.notify(
            title=notice.title, body=notice.body, notify_type=str(notice.tone),
            body_format=apprise.NotifyFormat.TEXT,
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001  # whatever a plug-in does, the sync goes on
        return type(error).__name__  # its words may hold the address
    return None if taken else "it was refused or not reached"


def _silence() -> None:
    """What these libraries log may hold the address."""
    for name in ("apprise", "requests", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def service_of(url: str) -> str:
    """The part of an address that is no secret."""
    return url.partition("://")[0]


async def ping(url: str, report: Report, transport: Any = None) -> bool:
    """Ask the heartbeat's address once: when that stops, its service raises the alarm.

    What goes wrong is said in the log, without the address.
    """
    problem = await beat(url, transport)
    if problem is not None:
        text = f"The heartbeat address did not take the ping: {problem}."
        report.log("warning", "heartbeat_failed", text=text)
    return problem is None


async def beat(url: str, transport: Any = None) -> str | None:
    """Ask the heartbeat's address once. Returns what went wrong, without the address."""
    try:
        async with httpx.AsyncClient(
            timeout=PING_SECONDS_MAX, follow_redirects=False,
            transport=transport or EnvironmentTransport(),
        ) as client:  # fmt: skip
            answer = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return type(error).__name__
    return None if answer.is_success else f"it answered {answer.status_code}"
