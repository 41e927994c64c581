"""The part of `check` that looks whether people are reached: it sends what can only be tried by sending."""

import socket

from syncd.config.model import Config
from syncd.monitor.alerts import Notice, Tone
from syncd.monitor.delivery import beat, deliver, service_of
from syncd.preflight.check import Area, Line, failed, passed, warned

_HERE = Area.MESSAGES


async def message_lines(config: Config) -> list[Line]:
    """Send a test message to every address and one heartbeat; one line each, without the addresses."""
    return [*await _messages(config), await _heartbeat(config)]


async def _messages(config: Config) -> list[Line]:
    urls = config.notify_urls
    if not urls:
        text = "no address is configured, so nobody is told when something needs a person"
        remedy = "Give the secret notify_urls: docs/page-and-alerts.md says how."
        return [warned(_HERE, "messages", text, remedy)]
    host = config.halo.url.partition("://")[2]
    body = f"A test from {socket.gethostname()}: messages of syncd for {host} reach you here."
    problems = await deliver(Notice(f"syncd ({host}): test", body, Tone.SUCCESS), urls)
    return [
        _line(f"message {number} ({service_of(url)})", problem)
        for number, (url, problem) in enumerate(zip(urls, problems, strict=True), start=1)
    ]


def _line(what: str, problem: str | None) -> Line:
    if problem is None:
        return passed(_HERE, what, "the test message was taken; look whether it came")
    remedy = "Try its address by hand, where its secrets may be seen: apprise -vv -b test URL"
    return failed(_HERE, what, f"the test message wasn't taken: {problem}", remedy)


async def _heartbeat(config: Config) -> Line:
    if config.heartbeat_url is None:
        text = "no address is configured, so nobody is told when the service can't run at all"
        remedy = "Give the secret heartbeat_url: docs/page-and-alerts.md says how."
        return warned(_HERE, "heartbeat", text, remedy)
    problem = await beat(config.heartbeat_url)
    if problem is None:
        return passed(_HERE, "heartbeat", "its address took a ping")
    remedy = (
        "Look whether the address is still the switch's own, and whether this machine reaches it."
    )
    return failed(_HERE, "heartbeat", f"its address did not take the ping: {problem}", remedy)
