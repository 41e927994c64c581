"""What the libraries work out again for each request, remembered: the answers are the same.

A story sends hundreds of requests to the same few addresses. The libraries parse each address, and look
for cookies and coroutines, each time anew.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from httpx import _urlparse, _urls
from tenacity import _utils

from syncd.clients import retry

_extract_cookies = httpx.Cookies.extract_cookies
_is_coroutine_callable = _utils.is_coroutine_callable


def _cookies(self: httpx.Cookies, response: httpx.Response) -> None:
    """An answer that sets no cookie brings none."""
    if "set-cookie" in response.headers:
        _extract_cookies(self, response)


_KINDS: dict[Any, bool] = {}
"""For each class of callables whether a call gives something to wait for."""


def _is_async(call: Callable[..., Any]) -> bool:
    """Whether a call gives something to wait for: functions and methods say so in their code."""
    code = getattr(call, "__code__", None)
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE)
    if isinstance(call, functools.partial) or inspect.isclass(call):
        return _is_coroutine_callable(call)
    kind = type(call)
    if kind not in _KINDS:
        _KINDS[kind] = _is_coroutine_callable(call)
    return _KINDS[kind]


_parsed = functools.lru_cache(20_000)(_urlparse.urlparse)

SWIFT: tuple[tuple[Any, str, Any], ...] = (
    (_urlparse, "urlparse", _parsed),
    (_urls, "urlparse", _parsed),
    (httpx.Cookies, "extract_cookies", _cookies),
    (_utils, "is_coroutine_callable", _is_async),
    (retry, "parsedate_to_datetime", functools.lru_cache(20_000)(parsedate_to_datetime)),
)
"""Which function of which module, and what stands in for it."""
