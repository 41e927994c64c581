"""The proxies in the environment; `text.no_proxy` reads the hosts that are exempt from them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.request import getproxies

import httpx

from syncd.text.no_proxy import Exemption, exemptions


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxy each request goes through.

    Attributes:
        by_scheme: the address of the proxy for ``http``, ``https`` or ``all`` schemes.
        exemptions: the hosts that are reached directly.
    """

    by_scheme: Mapping[str, str]
    exemptions: tuple[Exemption, ...]

    def proxy_for(self, url: httpx.URL) -> str | None:
        """The address of the proxy for a URL; None for a direct connection."""
        proxy = self.by_scheme.get(url.scheme) or self.by_scheme.get("all")
        if proxy is None or self._is_exempt(url):
            return None
        return proxy

    def _is_exempt(self, url: httpx.URL) -> bool:
        host = url.raw_host.decode("ascii")
        return any(one.covers(url.scheme, host, url.port) for one in self.exemptions)


def environment_proxies() -> Proxies:
    """Read `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case."""
    found = getproxies()
    by_scheme = {
        scheme: found[scheme] if "://" in found[scheme] else f"http://{found[scheme]}"
        for scheme in ("http", "https", "all")
        if found.get(scheme)
    }
    return Proxies(by_scheme, exemptions(os.environ))


class EnvironmentTransport(httpx.AsyncBaseTransport):
    """Sends each request directly or through a proxy, according to the environment."""

    def __init__(self) -> None:
        self._proxies = environment_proxies()
        self._tls = httpx.create_ssl_context()
        self._transports: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        proxy = self._proxies.proxy_for(request.url)
        transport = self._transports.get(proxy)
        if transport is None:
            transport = httpx.AsyncHTTPTransport(verify=self._tls, proxy=proxy)
            self._transports[proxy] = transport
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()
