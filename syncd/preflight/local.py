"""The part of `check` that examines this machine: the file, the secrets, the database, the port."""

import errno
import http.client
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from syncd.config.advice import advice_for
from syncd.config.model import Config, address
from syncd.config.secrets import SECRETS, Found, find_secret
from syncd.core.errors import Failure, StoreUnavailable, StoreUnusable
from syncd.preflight.check import Area, Line, failed, passed, warned
from syncd.store.db.connection import FILE_CHECK_BYTES_MAX
from syncd.store.store import Store
from syncd.text.database_url import file_of, url_of

ROOM_BYTES_FAIL = 10 * 1024 * 1024
"""With less free space than this (bytes), a commit may fail at any time."""

ROOM_BYTES_WARN = 200 * 1024 * 1024

STATE_DIRECTORIES = Path("/var/lib")
"""Where systemd creates the folder of a service (StateDirectory=) on its first start."""

_HERE = Area.CONFIGURATION


def file_line(file: Path | None) -> Line:
    """The configuration file: who may change it, and so redirect the secrets to another address."""
    what = "the file"
    if file is None:
        return passed(_HERE, what, "no file: the configuration comes from the environment")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o022:
        who, level = ("everybody", failed) if mode & 0o002 else ("its group", warned)
        text = (
            f"{who} may change {file} (mode {mode:04o}), and so send the secrets to another address"
        )
        return level(_HERE, what, text, f"chmod 644 {file}")
    return passed(_HERE, what, f"{file} is read; every key is known")


def secret_lines(environment: Mapping[str, str], file: Path | None = None) -> list[Line]:
    """Where each secret comes from, and who can read the secret there."""
    return [
        line
        for name, variable in SECRETS.items()
        if (line := _secret_line(name, variable, find_secret(name, environment, file))) is not None
    ]


def _secret_line(name: str, variable: str, found: Found) -> Line | None:
    what = f"secret {name}"
    if not found.source:
        return None
    if found.source == variable:
        text = f"in the environment ({variable}): child processes and crash reports get it too"
        remedy = "Use a file with mode 600 and LoadCredential= (systemd) instead."
        return warned(_HERE, what, text, remedy)
    place = Path(found.source)
    mode = stat.S_IMODE(place.stat().st_mode)
    if mode & 0o007:
        text = f"{place} can be read by everybody (mode {mode:04o})"
        return failed(_HERE, what, text, f"chmod 600 {place}, and renew the secret.")
    # systemd shares a credential with the service's account by an access list, which shows as
    # a group's right to read.
    if mode & 0o070 and not place.is_relative_to("/run/credentials"):
        text = f"{place} can be read by its group (mode {mode:04o})"
        return warned(_HERE, what, text, f"chmod 600 {place}")
    return passed(_HERE, what, f"{place}, readable by its owner alone")


def advice_lines(config: Config) -> list[Line]:
    """Unusual settings."""
    return [
        (failed if advice.wrong else warned)(_HERE, advice.key, advice.text, advice.remedy)
        for advice in advice_for(config)
    ]


def database_lines(url: str, password: str | None = None) -> list[Line]:
    """The database and its folder. A database file that does not exist yet is not created."""
    what, file = "the database", file_of(url)
    if file is None:
        return _server_lines(url, password)
    path = Path(file)
    try:
        return _file_lines(path, path.parent)
    except OSError as error:
        text = f"this account cannot read {path}: {error.strerror}"
        remedy = "Run syncd check as root, or as the account that syncd runs as."
        return [warned(_HERE, what, text, remedy)]


def _file_lines(path: Path, folder: Path) -> list[Line]:
    what = "the database"
    if not folder.is_dir():
        if folder.parent == STATE_DIRECTORIES:
            text = (
                f"the folder {folder} does not exist yet; the service creates it on its first start"
            )
            return [passed(_HERE, what, text)]
        text = f"the folder {folder} does not exist"
        remedy = f"Create the folder for the account that syncd runs as: install -d -m 700 {folder}"
        return [failed(_HERE, what, text, remedy)]
    return [_room_line(folder), _folder_line(folder), _file_line(path)]


def _server_lines(url: str, password: str | None) -> list[Line]:
    """A database server: reachable, a tested version, encrypted in transit, durable."""
    what = "the database"
    try:
        store = Store.open(url, password=password)
        facts = store.housekeeping.facts()
        store.close()
    except StoreUnusable as error:
        return [_refused(failed, error)]
    except StoreUnavailable as error:
        return [_refused(warned, error)]
    text = f"{facts['product']} answers; {facts['size_bytes'] / 1024**2:,.1f} MiB"
    lines = [passed(_HERE, what, text)]
    what = "the way to the database"
    if facts["local"] or facts["encrypted"]:
        how = "encrypted by TLS" if facts["encrypted"] else "does not leave this machine"
        lines.append(passed(_HERE, what, how))
    else:
        text = "not encrypted: others on the network can read and change the data of syncd"
        remedy = "Add ?sslmode=verify-full&sslrootcert=/path/to/ca.pem to state.url."
        lines.append(warned(_HERE, what, text, remedy))
    if facts["fsync"] != "on":
        text = "fsync is off in the database server: a loss of power can damage the database"
        lines.append(
            failed(
                _HERE,
                "the database's disk",
                text,
                "Set fsync = on in the configuration of the database server.",
            )
        )
    return lines


def _refused(level: Callable[[Area, str, str, str], Line], error: Failure) -> Line:
    """An unusable database: the first sentence of the message is the problem, the rest the remedy."""
    happened, _, helps = str(error).partition(". ")
    remedy = helps or "Correct state.url in the configuration."
    return level(_HERE, "the database", happened.removesuffix("."), remedy)


def _folder_line(folder: Path) -> Line:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o002 and not mode & stat.S_ISVTX:
        text = f"everybody may change {folder} (mode {mode:04o})"
        return failed(_HERE, "the database's folder", text, f"chmod 700 {folder}")
    if not os.access(folder, os.W_OK):
        text = f"this account cannot write {folder}"
        remedy = "Run syncd check as root, or as the account that syncd runs as."
        return warned(_HERE, "the database's folder", text, remedy)
    return passed(_HERE, "the database's folder", str(folder))


def _room_line(folder: Path) -> Line:
    what, free = "free disk space", shutil.disk_usage(folder).free
    text = f"{free / 1024**2:,.0f} MiB free in {folder}"
    if free < ROOM_BYTES_FAIL:
        return failed(
            Area.MACHINE, what, text, "Free space on this disk: syncd cannot write its database."
        )
    if free < ROOM_BYTES_WARN:
        return warned(Area.MACHINE, what, text, "Free space on this disk soon.")
    return passed(Area.MACHINE, what, text)


def _file_line(path: Path) -> Line:
    what = "the database"
    if not path.exists():
        return passed(_HERE, what, f"{path} is created on the first start")
    mode, size = stat.S_IMODE(path.stat().st_mode), path.stat().st_size
    try:
        Store.open(url_of(path)).close()
    except StoreUnusable as error:
        return _refused(failed, error)
    except StoreUnavailable as error:
        return _refused(warned, error)
    if mode & 0o077:
        text = f"other accounts may read {path} (mode {mode:04o})"
        return warned(_HERE, what, text, f"chmod 600 {path}")
    how = (
        "sound"
        if size <= FILE_CHECK_BYTES_MAX
        else "opens; not checked completely, because it is large"
    )
    return passed(_HERE, what, f"{path}, {size / 1024**2:,.1f} MiB, {how}")


def port_line(config: Config) -> Line:
    """The port for health and metrics: free, or in use by a syncd that answers."""
    what, listen = "the port", config.web.listen
    host, port = address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE and is_syncd(host, port, config.web_token):
                return passed(_HERE, what, f"{listen}: syncd is running there")
            text = f"cannot listen on {listen}: {error.strerror or error}"
            remedy = "Stop the program that uses the port, or set another address in web.listen."
            return failed(_HERE, what, text, remedy)
    return passed(_HERE, what, f"{listen} is free")


def is_syncd(host: str, port: int, token: str | None) -> bool:
    """Whether the program that listens there is syncd."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # an address that listens everywhere is asked at home
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(http.client.HTTPConnection(host, port, timeout=3.0)) as connection:
        try:
            connection.request("GET", "/livez", headers=headers)
            body = json.loads(connection.getresponse().read(10_000))
        except (OSError, http.client.HTTPException, ValueError):
            return False
    return isinstance(body, dict) and "loop" in body.get("checks", {})
