"""Faults that either side can be told to have."""

from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.sandbox.http import Reply, Request, json_reply

KINDS = (
    "429", "lock_429", "500", "502", "503", "504", "500_after", "504_after", "reset",
    "reset_after", "hang", "hang_after", "applied_late", "html", "html_500", "truncated", "cut_json",
    "empty", "garbage", "401", "403", "400", "200", "redirect", "huge",
)  # fmt: skip

LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>"


@dataclass(slots=True)
class Fault:
    """One kind of misbehaviour, for some requests.

    Attributes:
        kind: one of KINDS. Kinds that end in `_after` act after the request was carried out.
        times: how many requests are affected; None for no limit.
        method, path: which requests (`path` is a part of the path); None for all.
        after: how many such requests pass first.
        match: a further test of the request.
        retry_after: the value of a 429's or 503's Retry-After; None leaves it out.
        seconds: how long a hang lasts, or how late a late request is carried out.
        location: the target of a redirect.
        size: bytes of a huge answer.
        text: the message of an error.
        body: the answer's body instead of an error with `text`; HTML if it begins with "<".
        status: the status of that answer, or of an answer to a late request or after a hang; None
            for the kind's own.
    """

    kind: str
    times: int | None = 1
    method: str | None = None
    path: str | None = None
    after: int = 0
    match: Callable[[Request], bool] | None = None
    retry_after: str | float | None = None
    seconds: float = 3_600.0
    location: str = "https://elsewhere.example/api"
    size: int = 100_000_000
    text: str = "Something went wrong"
    body: bytes | None = None
    status: int | None = None
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            message = f"{self.kind} is not a fault; there are {', '.join(KINDS)}"
            raise ValueError(message)

    def strikes(self, request: Request) -> bool:
        """Whether the fault affects this request; counts the request."""
        if (self.method and request.method != self.method) or (
            self.path and self.path not in request.path
        ):
            return False
        if self.match is not None and not self.match(request):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        self.struck += 1
        return True

    @property
    def applies(self) -> bool:
        """Whether the request is carried out nevertheless."""
        return self.kind.endswith("_after") or self.kind in (
            "truncated",
            "cut_json",
            "empty",
            "garbage",
        )

    def reply(self, carried_out: Reply | None) -> Reply:  # one line a kind
        """The answer that the client gets."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        match self.kind:
            case "reset" | "reset_after":
                return Reply(0, reset=True)
            case "hang" | "hang_after":
                late = carried_out or json_reply({}, self.status or 200)
                late.delay_seconds = self.seconds
                return late
            case "applied_late":
                return json_reply({"Message": "Gateway timeout"}, self.status or 504)
            case "html":
                return Reply(200, LOGIN_PAGE, {"Content-Type": "text/html"})
            case "html_500":
                return Reply(500, LOGIN_PAGE, {"Content-Type": "text/html"})
            case "truncated":
                whole = carried_out or json_reply({})
                whole.cut = len(whole.body) // 2
                return whole
            case "cut_json":
                whole = carried_out or json_reply({})
                whole.body = whole.body[: len(whole.body) // 2]
                return whole
            case "empty":
                return Reply(200, b"", {"Content-Type": "application/json"})
            case "garbage":
                return json_reply("well, well")
            case "redirect":
                return Reply(self.status or 302, b"", {"Location": self.location})
            case "huge":
                return Reply(
                    200, b'["' + b"x" * self.size + b'"]', {"Content-Type": "application/json"}
                )
        status = int(
            self.kind.split("_")[1] if self.kind == "lock_429" else self.kind.split("_")[0]
        )
        reply = json_reply(
            {"Message": self.text, "error": {"message": self.text, "type": "api_error"}}, status
        )
        if self.body is not None:
            kind = "text/html" if self.body.startswith(b"<") else "application/json"
            reply = Reply(self.status or status, self.body, {"Content-Type": kind})
        reply.headers.update(headers)
        if self.kind == "429":
            reply.headers["Stripe-Rate-Limited-Reason"] = "global-rate"
        return reply
