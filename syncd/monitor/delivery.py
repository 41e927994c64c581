"""Delivers notifications (by Apprise) and the heartbeat.

The only module that uses `apprise`. The addresses are secrets, because they contain passwords and
tokens: logs and errors show only the name of the service. A notification that cannot be delivered
raises nothing.
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
"""After so many seconds syncd stops waiting for a notification service; its thread keeps running."""

PING_SECONDS_MAX = 10.0


async def send(notice: Notice, urls: Sequence[str], report: Report) -> bool:
    """Send one notification to every address. Returns whether any service accepted it.

    The log names each service that did not.
    """
    problems = await deliver(notice, urls)
    for number, (url, problem) in enumerate(zip(urls, problems, strict=True), start=1):
        if problem is not None:
            report.log(
                "warning",
                "notification_failed",
                service=service_of(url),
                number=number,
                text=f"The notification service {service_of(url)} (address {number} in notify_urls) did "
                f"not accept a notification: {problem}. syncd retries if no other service accepted it. "
                "To see the cause, run, with the address: apprise -vv -b test URL",
            )
    taken = problems.count(None)
    if taken:
        report.log("info", "notified", title=notice.title, services=taken)
    return taken > 0


async def deliver(notice: Notice, urls: Sequence[str]) -> list[str | None]:
    """Send one notification to every address. Returns each one's problem; None if it was accepted."""
    return await asyncio.gather(*(_send_one(notice, url) for url in urls))


async def _send_one(notice: Notice, url: str) -> str | None:
    """Send in a thread, because Apprise blocks, and a hanging thread must not delay the service's end.

    Returns the problem, without the address; None if the notification was accepted.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str | None] = loop.create_future()

    def settle(problem: str | None) -> None:
        if not done.done():
            done.set_result(problem)

    def work() -> None:
        problem = _deliver(notice, url)
        with suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(settle, problem)

    threading.Thread(target=work, name="notification", daemon=True).start()
    try:
        return await asyncio.wait_for(done, SEND_SECONDS_MAX)
    except TimeoutError:
        return f"no answer in {SEND_SECONDS_MAX:.0f} s"


def _deliver(notice: Notice, url: str) -> str | None:
    """Send with Apprise, which is loaded only here, because most processes send nothing."""
    try:
        import apprise

        _silence()
        # A redirect could send the notification to a host that is not configured.
        asset = apprise.AppriseAsset(
            app_id="syncd",
            app_desc="syncd",
            app_url="",
            async_mode=False,
            secure_logging=True,
            service_timeout=0,
            http_redirects=False,
        )
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            return "Apprise cannot parse the address"
        taken = service.notify(
            title=notice.title,
            body=notice.body,
            notify_type=str(notice.tone),
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # noqa: BLE001  # no error of a plug-in may stop syncd
        return type(error).__name__  # the message of the error may contain the address
    return None if taken else "the notification service refused it or cannot be reached"


def _silence() -> None:
    """Silence libraries whose log may contain the address."""
    for name in ("apprise", "requests", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def service_of(url: str) -> str:
    """The part of an address that is not secret."""
    return url.partition("://")[0]


async def ping(url: str, report: Report, transport: Any = None) -> bool:
    """Request the heartbeat address once, and log a failure, without the address."""
    problem = await beat(url, transport)
    if problem is not None:
        text = (
            f"The heartbeat address did not accept the request: {problem}. syncd sends the next one "
            "after the next poll. Check the secret heartbeat_url."
        )
        report.log("warning", "heartbeat_failed", text=text)
    return problem is None


async def beat(url: str, transport: Any = None) -> str | None:
    """Request the heartbeat address once. Returns the problem, without the address."""
    try:
        async with httpx.AsyncClient(
            timeout=PING_SECONDS_MAX,
            follow_redirects=False,
            transport=transport or EnvironmentTransport(),
        ) as client:
            answer = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return type(error).__name__
    return None if answer.is_success else f"HTTP {answer.status_code}"
