"""Runs as a part of the service, before syncd: tries what the service must not be able to do."""

import contextlib
import ctypes
import json
import mmap
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

STATE = Path(os.environ["STATE_DIRECTORY"])
FOLDERS = (
    "/", "/boot", "/dev", "/etc", "/etc/syncd", "/home", "/opt", "/opt/syncd", "/proc/sys/kernel",
    "/root", "/run", "/run/systemd", "/srv", "/sys", "/sys/fs/cgroup", "/usr", "/usr/local/bin", "/var",
    "/var/cache", "/var/lib", "/var/log", "/var/spool",
    str(STATE), "/tmp", "/var/tmp",
)  # fmt: skip


def works(what: Callable[[], object]) -> bool:
    """Whether an operation works."""
    with contextlib.suppress(OSError):
        what()
        return True
    return False


def writes(folder: str) -> None:
    file = Path(folder) / "probe-of-syncd"
    file.write_text("here")
    file.unlink()


def unshares() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def sets_user_id() -> None:
    file = STATE / "probe-of-syncd"
    file.write_text("")
    try:
        file.chmod(0o4755)
    finally:
        file.unlink()


def main() -> None:
    """Try everything, and write the results to the state directory."""
    status = dict(
        line.split(":\t", 1)
        for line in Path("/proc/self/status").read_text("ascii").splitlines()
        if ":\t" in line
    )
    answers = {
        "writable": [folder for folder in FOLDERS if works(partial(writes, folder))],
        "can": {
            "read /etc/shadow": works(lambda: Path("/etc/shadow").read_bytes()),
            "read the secrets' files": works(
                lambda: Path("/etc/syncd/stripe_api_key").read_bytes()
            ),
            "list /root": works(lambda: list(Path("/root").iterdir())),
            "open a packet socket": works(
                lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
            ),
            "open a netlink socket": works(
                lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
            ),
            "map memory to write and run": works(
                lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close()
            ),
            "make a namespace": works(unshares),
            "set the user id on a file": works(sets_user_id),
            "set the host name": works(lambda: socket.sethostname("elsewhere")),
            "see process 1": Path("/proc/1").exists(),
        },
        "capabilities": status["CapEff"].strip(),
        "no_new_privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
    }
    (STATE / "probe.json").write_text(json.dumps(answers), "utf-8")


if __name__ == "__main__":
    main()
