"""The part of `check` that tests notifications: it sends a test message and a heartbeat."""

import socket

from syncd.config.model import Config
from syncd.monitor.alerts import Notice, Tone
from syncd.monitor.delivery import beat, deliver, service_of
from syncd.preflight.check import Area, Line, failed, passed, warned

_HERE = Area.MESSAGES


async def message_lines(config: Config) -> list[Line]:
    """Send a test message to every address, and one heartbeat. One line each, without addresses."""
    return [*await _messages(config), await _heartbeat(config)]


async def _messages(config: Config) -> list[Line]:
    urls = config.notify_urls
    if not urls:
        text = "no address is set, so syncd cannot notify you when something needs attention"
        remedy = "Set the secret notify_urls; see docs/page-and-alerts.md."
        return [warned(_HERE, "messages", text, remedy)]
    host = config.halo.url.partition("://")[2]
    body = f"A test from {socket.gethostname()}: you receive the notifications of syncd for {host}."
    problems = await deliver(Notice(f"syncd ({host}): test", body, Tone.SUCCESS), urls)
    return [
        _line(f"message {number} ({service_of(url)})", problem)
        for number, (url, problem) in enumerate(zip(urls, problems, strict=True), start=1)
    ]


def _line(what: str, problem: str | None) -> Line:
    if problem is None:
        return passed(
            _HERE,
            what,
            "the notification service accepted the test message; check that you received it",
        )
    remedy = "To see the cause, run, with the address: apprise -vv -b test URL"
    return failed(_HERE, what, f"the service did not accept the test message: {problem}", remedy)


async def _heartbeat(config: Config) -> Line:
    if config.heartbeat_url is None:
        text = "no address is set, so nobody notices if the service does not run"
        remedy = "Set the secret heartbeat_url; see docs/page-and-alerts.md."
        return warned(_HERE, "heartbeat", text, remedy)
    problem = await beat(config.heartbeat_url)
    if problem is None:
        return passed(_HERE, "heartbeat", "the address accepted the request")
    remedy = "Check that the address is right, and that this machine can reach it."
    return failed(_HERE, "heartbeat", f"the address did not accept the request: {problem}", remedy)
