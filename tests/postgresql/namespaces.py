"""Separate hosts for the two services and the database: Linux network namespaces.

Each host has one link per network (database, stripe, halo). All links meet in bridges of one more
namespace, in which the sandbox runs. The machine's own network sees nothing of this. Needs root. A
link is cut by taking its far end off the bridge: packets are dropped, and no connection is closed.
"""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NETWORKS = {"database": 1, "stripe": 2, "halo": 3}
"""The networks, with the third number of their addresses."""

HOSTS = {"hub": 1, "db": 2, "first": 3, "second": 4}
"""The hosts, with the last number of their addresses; the sandbox runs on the hub."""

_NEWUTS = 0x04000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """Why hosts cannot be created here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command ip is not installed (Debian: apt install iproute2)"
    probe = f"syncd-{os.getpid()}-probe"
    made = _ip("netns", "add", probe)
    inside = ("-n", probe, "link", "add", "name", "bridge0", "type", "bridge")
    possible = made.returncode == 0 and _ip(*inside).returncode == 0
    _ip("netns", "delete", probe)
    return None if possible else f"no network namespaces here: {made.stderr.strip()}"


def _ip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _must(*arguments: str) -> None:
    done = _ip(*arguments)
    assert done.returncode == 0, (arguments, done.stderr)


def address(host: str, network: str) -> str:
    """The address of a host in a network."""
    return f"10.77.{NETWORKS[network]}.{HOSTS[host]}"


@dataclass
class Hosts:
    """The hosts; `close` removes the hosts with all their links."""

    _prefix: str = field(init=False, default_factory=lambda: f"syncd-{os.getpid()}")

    def start(self) -> None:
        """Create every host with its links."""
        for host in HOSTS:
            _must("netns", "add", self._name(host))
            _must("-n", self._name(host), "link", "set", "lo", "up")
        hub = self._name("hub")
        for network in NETWORKS:
            _must("-n", hub, "link", "add", "name", network, "type", "bridge")
            _must("-n", hub, "address", "add", f"{address('hub', network)}/24", "dev", network)
            _must("-n", hub, "link", "set", network, "up")
            for host in HOSTS:
                if host != "hub" and (host != "db" or network == "database"):
                    self._link(host, network)

    def _link(self, host: str, network: str) -> None:
        hub, there, far = self._name("hub"), self._name(host), self._far(host, network)
        _must("-n", hub, "link", "add", "name", far, "type", "veth",
              "peer", "name", network, "netns", there)  # fmt: skip
        _must("-n", there, "address", "add", f"{address(host, network)}/24", "dev", network)
        _must("-n", there, "link", "set", network, "up")
        _must("-n", hub, "link", "set", far, "master", network)
        _must("-n", hub, "link", "set", far, "up")

    def _name(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    @staticmethod
    def _far(host: str, network: str) -> str:
        return f"{host}-{network}"[:15]

    def cut(self, host: str, *networks: str) -> None:
        """Drop every packet between a host and some networks."""
        for network in networks:
            _must("-n", self._name("hub"), "link", "set", self._far(host, network), "nomaster")

    def mend(self, host: str, *networks: str) -> None:
        """Undo `cut`."""
        for network in networks:
            far = self._far(host, network)
            _must("-n", self._name("hub"), "link", "set", far, "master", network)

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """Run the block on a host: its sockets, and the processes and threads that it starts.

        The host has its own host name, so that syncd does not take both hosts for the same.
        """
        with ExitStack() as stack:
            for kind in ("net", "uts"):
                before = stack.enter_context(Path("/proc/thread-self/ns", kind).open("rb"))
                stack.callback(_enter, before.fileno())
            with Path("/run/netns", self._name(host)).open("rb") as there:
                _enter(there.fileno())
            if _LIBC.unshare(_NEWUTS) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            socket.sethostname(host)
            yield

    def close(self) -> None:
        """Remove the hosts."""
        for host in HOSTS:
            with contextlib.suppress(OSError):
                _ip("netns", "delete", self._name(host))


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
