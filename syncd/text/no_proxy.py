"""The hosts that `NO_PROXY` exempts from the proxies in the environment.

httpx raises an exception for many entries of `NO_PROXY` that other programs accept (networks such
as `fd00::/8`, `[::1]`, names with non-ASCII letters), so syncd reads the variable itself. An
unusable entry is skipped, and `no_proxy_problems` names it. Pure.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from syncd.text.sanitize import plain

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EVERY_HOST = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Exemption:
    """One entry of `NO_PROXY`: hosts that are reached without a proxy.

    Attributes:
        name: a host name in ASCII, which covers its subdomains; ``*`` for every host; None for a
            network.
        network: the addresses; None for a name. A host name is not resolved for it.
        port: the only port that is exempt; None for every port.
        scheme: the only scheme that is exempt; None for both.
    """

    name: str | None = None
    network: Network | None = None
    port: int | None = None
    scheme: str | None = None

    def covers(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether a request to this host is sent without a proxy; `port` is None for the usual one."""
        if self.scheme is not None and self.scheme != scheme:
            return False
        if self.port is not None and self.port != (port or _DEFAULT_PORTS.get(scheme)):
            return False
        if self.name == _EVERY_HOST:
            return True
        host = host.strip("[]").lower().rstrip(".")
        if self.network is not None:
            return _in_network(host, self.network)
        return host == self.name or host.endswith(f".{self.name}")


def no_proxy_problems(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each entry of `NO_PROXY` that is skipped or was rewritten."""
    variable, problems = _variable(environment), []
    for entry in _entries(environment):
        _, at, host = entry.rpartition("@")  # before the host may be a password
        exemption, shown = parse_exemption(entry), plain(f"…{at}{host}" if at else host, 100)
        if exemption is None:
            problems.append(
                f"{variable}: syncd skips the entry {shown!r}, which is not a host, a host with a "
                "port, an address or a network. Correct or remove it."
            )
        elif not entry.isascii():
            problems.append(
                f"{variable}: syncd reads the entry {shown!r} as {exemption.name!r}. Write "
                f"{exemption.name!r} there, because many programs do not accept other letters."
            )
    return problems


def exemptions(environment: Mapping[str, str]) -> tuple[Exemption, ...]:
    """The usable entries of `NO_PROXY`."""
    found = [parse_exemption(entry) for entry in _entries(environment)]
    return tuple(one for one in found if one is not None)


def parse_exemption(entry: str) -> Exemption | None:
    """Parse one entry of `NO_PROXY`; None if it is unusable.

    Accepted are ``*``, names (``example.com``, ``.example.com``, ``*.example.com``), addresses,
    networks (``10.0.0.0/8``, ``fd00::/8``), IPv6 in brackets, each with a port or a scheme in
    front.
    """
    scheme, found, rest = entry.lower().rpartition("://")
    if found and scheme not in ("http", "https", "all"):
        return None
    only = scheme if scheme in ("http", "https") else None
    rest = rest.rstrip("/") if found else rest
    if rest == _EVERY_HOST:
        return Exemption(name=_EVERY_HOST, scheme=only)
    if (network := _network(rest)) is not None:
        return Exemption(network=network, scheme=only)
    host, port = _split_port(rest)
    if port == 0:
        return None
    if (network := _network(host)) is not None:
        return Exemption(network=network, port=port, scheme=only)
    name = None if "[" in host else _ascii_name(host)
    return None if name is None else Exemption(name=name, port=port, scheme=only)


def _variable(environment: Mapping[str, str]) -> str:
    """The variable's value; the lower-case spelling wins, as in other programs."""
    return "no_proxy" if "no_proxy" in environment else "NO_PROXY"


def _entries(environment: Mapping[str, str]) -> list[str]:
    text = environment.get(_variable(environment), "")
    return [entry for entry in re.split(r"[,\s]+", text) if entry]


def _network(text: str) -> Network | None:
    bare = re.sub(r"^\[([^\[\]]*)\]", r"\1", text)
    try:
        return ipaddress.ip_network(bare, strict=False)
    except ValueError:
        return None


def _split_port(text: str) -> tuple[str, int | None]:
    """Split ``host:port``; the port is 0 if it is invalid, None if there is none."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    usable = re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= 65_535
    return host, int(port) if usable else 0


def _ascii_name(host: str) -> str | None:
    """A host name in ASCII, without the mark for subdomains; None if it is invalid."""
    bare = host.removeprefix("*").removeprefix(".").rstrip(".")
    try:
        name = bare.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return name if _NAME.fullmatch(name) else None


def _in_network(host: str, network: Network) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped if network.version == 4 else address
    return address in network
