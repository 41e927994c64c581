"""Replaces a booted systemd, pip and pipx for the commands of the documents.

It is run under the name of the program that it replaces (see `documents.Machine`). It reads the
units that the reader installs and starts the real program as the units define: with its
credentials and its state directory, until the program reports READY. It refuses everything that it
does not know, so that no command in the documents passes because it is ignored. Other tests run the
units under a real systemd, with systemd-nspawn.
"""

import base64
import contextlib
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

MACHINE = Path(os.environ.get("MACHINE", "/nowhere"))
UNITS = MACHINE / "etc/systemd/system"
RUNNING = MACHINE / "run"
ROOT = Path(__file__).parents[1]

_FOLDERS = re.compile(r"(?<![\w./-])/(etc|opt|var/lib|usr/local|root)(?=[/\s]|$)")
_DATABASE = re.compile(r"sqlite:////var/lib")


def moved(text: str, machine: Path) -> str:
    """Return a command or a value with its absolute paths moved into the machine."""
    text = _DATABASE.sub(f"sqlite:///{machine}/var/lib", text)
    return _FOLDERS.sub(lambda found: f"{machine}/{found[1]}", text)


def main(name: str, arguments: list[str]) -> int:
    """Do what the program `name` would do with these arguments."""
    return {
        "systemctl": systemctl,
        "journalctl": journalctl,
        "systemd-creds": systemd_creds,
        "systemd-run": systemd_run,
        "pip": pip,
        "pipx": pipx,
        "python3": python3,
        "sqlite3": sqlite3_shell,
        "curl": curl,
        "python": python,
    }[name](arguments)


# --- systemd -------------------------------------------------------------------------------------


def systemctl(arguments: list[str]) -> int:
    """Run one of the verbs that the documents use."""
    match [one for one in arguments if one != "--no-pager"]:
        case ["daemon-reload"]:
            return 0
        case ["enable", "--now", name] | ["start", name]:
            start(name)
        case ["disable", "--now", name] | ["stop", name]:
            stop(name)
        case ["restart", name]:
            stop(name)
            start(name)
        case ["reload", name]:
            reload(name)
        case ["edit", name]:  # the real one opens an editor on a drop-in of the unit
            if not service_of(name):
                sys.exit(f"there is no unit {name}")
        case ["status", name]:
            sys.stdout.write(f"{name}.service: active (running), process {pid_of(name)}\n")
        case _:
            refuse("systemctl", arguments)
    return 0


def start(name: str) -> None:
    """Start a service as its unit defines and wait until it is ready; a running service keeps running."""
    if (RUNNING / name / "pid").exists():
        return
    unit = service_of(name)
    own = RUNNING / name
    environment = dict(
        os.environ, CREDENTIALS_DIRECTORY=str(credentials(unit, own / "credentials"))
    )
    environment.pop("SYNCD_CONFIG", None)  # a service inherits nothing from the shell
    (folder,) = unit["StateDirectory"]
    state = MACHINE / "var/lib/private" / folder
    state.mkdir(parents=True, exist_ok=True, mode=int(unit["StateDirectoryMode"][0], 8))
    link = MACHINE / "var/lib" / folder
    if not link.is_symlink():
        link.symlink_to(state)
    (own / "notify").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(own / "notify"))
        environment["NOTIFY_SOCKET"] = str(own / "notify")
        with (own / "log").open("ab") as log:
            process = subprocess.Popen(
                unit["ExecStart"][0].split(),
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (own / "pid").write_text(str(process.pid))
        manager.settimeout(1)
        for _ in range(30):
            if process.poll() is not None:
                sys.exit(f"{name} ended with {process.returncode}:\n{(own / 'log').read_text()}")
            try:
                if b"READY=1" in manager.recv(4_096):
                    return
            except TimeoutError:
                continue
    sys.exit(f"{name} was not ready in time:\n{(own / 'log').read_text()}")


def reload(name: str) -> None:
    """Run the unit's reload commands in order; exit at the first that fails."""
    environment = dict(
        os.environ,
        CREDENTIALS_DIRECTORY=str(RUNNING / name / "credentials"),
        MAINPID=str(pid_of(name)),
    )
    environment.pop("SYNCD_CONFIG", None)
    for command in service_of(name)["ExecReload"]:
        words = shlex.split(command.replace("$$", "$"))  # systemd reads "$$" as one dollar
        if subprocess.run(words, env=environment, check=False).returncode != 0:
            sys.exit(f"{name} was not reloaded: {command} failed")


def stop(name: str) -> None:
    """Ask a service to end and wait for it; do nothing if the service does not run."""
    if not (RUNNING / name / "pid").exists():
        return
    pid = pid_of(name)
    os.kill(pid, signal.SIGTERM)
    for _ in range(1_000):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            (RUNNING / name / "pid").unlink()
            return
        time.sleep(0.02)
    sys.exit(f"{name} didn't stop")


def pid_of(name: str) -> int:
    """Return the process ID of a running service."""
    try:
        pid = int((RUNNING / name / "pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        sys.exit(f"{name} is not running")
    return pid


def service_of(name: str) -> dict[str, list[str]]:
    """Return a unit's [Service] with its drop-ins; an empty value clears the earlier values."""
    base, at, instance = name.partition("@")
    main_file = UNITS / f"{base}{at}.service"
    found: dict[str, list[str]] = {}
    for file in [main_file, *sorted((UNITS / f"{name}.service.d").glob("*.conf"))]:
        section = ""
        for line in file.read_text().splitlines():
            if head := re.fullmatch(r"\[(\w+)\]", line.strip()):
                section = head[1]
            elif section == "Service" and (pair := re.match(r"(\w+)=(.*)", line)):
                value = moved(pair[2].replace("%i", instance), MACHINE)
                found[pair[1]] = [*found.get(pair[1], []), value] if value else []
    return found


def credentials(unit: dict[str, list[str]], folder: Path) -> Path:
    """Return the folder with the secrets of a service."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for entry in unit.get("LoadCredential", []):
        name, _, source = entry.partition(":")
        (folder / name).write_bytes(Path(source).read_bytes())
    for entry in unit.get("LoadCredentialEncrypted", []):
        name, _, source = entry.partition(":")
        kept, _, secret = Path(source).read_text().partition(":")
        if kept != name:
            sys.exit(f"{source} was encrypted for {kept!r}, not for {name!r}")
        (folder / name).write_bytes(base64.b64decode(secret))
    for file in folder.iterdir():
        file.chmod(0o400)
    return folder


def journalctl(arguments: list[str]) -> int:
    """Print the log of a service, or its last lines."""
    match arguments:
        case ["-u", name, *rest]:
            known_options("journalctl", [one for one in rest if one.startswith("-")])
            lines = (RUNNING / name / "log").read_text().splitlines(keepends=True)
            last = int(rest[rest.index("-n") + 1]) if "-n" in rest else len(lines)
            sys.stdout.writelines(lines[-last:])
        case _:
            refuse("journalctl", arguments)
    return 0


def systemd_creds(arguments: list[str]) -> int:
    """Encode a secret for its name; the real program would encrypt it with a key of this machine."""
    match arguments:
        case ["encrypt", option, source, target] if option.startswith("--name="):
            known_options("systemd-creds", [option])
            secret = base64.b64encode(Path(source).read_bytes()).decode()
            Path(target).write_text(f"{option.removeprefix('--name=')}:{secret}")
        case _:
            refuse("systemd-creds", arguments)
    return 0


def systemd_run(arguments: list[str]) -> int:
    """Run a command with these properties."""
    unit: dict[str, list[str]] = {}
    options = []
    while arguments and arguments[0].startswith("-"):
        options.append(arguments.pop(0))
        if options[-1] == "-p":
            key, _, value = arguments.pop(0).partition("=")
            unit.setdefault(key, []).append(value)
    known_options("systemd-run", options)
    folder = credentials(unit, RUNNING / "transient")
    done = subprocess.run(
        arguments, env=dict(os.environ, CREDENTIALS_DIRECTORY=str(folder)), check=False
    )
    return done.returncode


# --- the database --------------------------------------------------------------------------------


def sqlite3_shell(arguments: list[str]) -> int:
    """Copy a database that is in use."""
    match arguments:
        case [source, command] if command.startswith(".backup "):
            with (
                contextlib.closing(sqlite3.connect(source)) as one,
                contextlib.closing(sqlite3.connect(command.removeprefix(".backup "))) as other,
            ):
                one.backup(other)
        case _:
            refuse("sqlite3", arguments)
    return 0


# --- programs that a minimal system lacks ---------------------------------------------------------


def curl(arguments: list[str]) -> int:
    """Print the answer to a GET, or to a POST of -d's text; with -f, fail on an error."""
    rest, data = list(arguments), None
    if "-d" in rest:
        at = rest.index("-d")
        _, text = rest[at : at + 2]
        data = text.encode()
        del rest[at : at + 2]
    *options, address = rest
    known_options("curl", options)
    try:
        with urllib.request.urlopen(address, data, timeout=30) as answer:  # loopback
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            sys.stdout.write(error.read().decode())
        return 22 if any(one.startswith("-") and "f" in one for one in options) else 0
    return 0


def python(arguments: list[str]) -> int:
    """Run the Python of the tests, for a document that calls it by its short name."""
    return subprocess.run([sys.executable, *arguments], check=False).returncode


# --- installing ----------------------------------------------------------------------------------


def python3(arguments: list[str]) -> int:
    """Create a virtual environment; this file replaces its pip, because there may be no network."""
    match arguments:
        case ["-m", "venv", folder]:
            make_environment(Path(folder))
            stand_in(Path(folder) / "bin/pip")
        case _:
            refuse("python3", arguments)
    return 0


def pip(arguments: list[str]) -> int:
    """Install the project as pip does; the lock's packages are already here and are only checked."""
    match arguments:
        case ["install", *rest]:
            known_options("pip", [one for one in rest if one.startswith("-")])
            if "-r" in rest:
                lock = Path(rest[rest.index("-r") + 1]).read_text()
                if "--require-hashes" in rest and "--hash=sha256:" not in lock:
                    sys.exit("the lock has no hashes")
                commands_of(lock, Path(os.environ["STAND_IN"]).parent)
            if "." in rest:
                install(Path(os.environ["STAND_IN"]).parents[1], rest)
        case _:
            refuse("pip", arguments)
    return 0


def commands_of(lock: str, folder: Path) -> None:
    """Create the commands of the lock's packages where pip would create them."""
    for package in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE):
        with contextlib.suppress(metadata.PackageNotFoundError):
            for entry in metadata.distribution(package).entry_points.select(
                group="console_scripts"
            ):
                place = folder / entry.name
                if not place.exists():
                    place.write_text(
                        f"#!{folder}/python\nimport sys\nfrom {entry.module} import {entry.attr}\n"
                        f"sys.exit({entry.attr}())\n"
                    )
                    place.chmod(0o755)


def pipx(arguments: list[str]) -> int:
    """Install into $PIPX_HOME/venvs, as pipx does, with a link in $PIPX_BIN_DIR."""
    match arguments:
        case ["install", "."] | ["install", "--force", "."]:
            place = Path(os.environ["PIPX_HOME"]) / "venvs/syncd"
            if place.exists() and "--force" not in arguments:
                sys.exit("pipx: syncd is installed already")
            make_environment(place)
            install(place, ["--force-reinstall", "--no-deps", "."])
            command = Path(os.environ["PIPX_BIN_DIR"]) / "syncd"
            command.unlink(missing_ok=True)
            command.symlink_to(place / "bin/syncd")
        case _:
            refuse("pipx", arguments)
    return 0


def make_environment(folder: Path) -> None:
    """Create a virtual environment that uses the packages of the tests' own one instead of a network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")


def install(folder: Path, arguments: list[str]) -> None:
    """Build the project and install it into an environment, with the real pip."""
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet",
            "--disable-pip-version-check", "--no-index", "--no-build-isolation", *arguments,
        ], check=True,
    )  # fmt: skip


def stand_in(place: Path) -> None:
    """Create a program that runs this file under the program's name."""
    place.write_text(
        f'#!/bin/sh\nSTAND_IN="$0" exec {sys.executable} -E {__file__} {place.name} "$@"\n'
    )
    place.chmod(0o755)


def known_options(program: str, options: list[str]) -> None:
    """Refuse options that the real program does not have, if the program is installed here."""
    asked = [sys.executable, "-m", "pip", "install"] if program == "pip" else [program]
    path = os.pathsep.join(os.environ["PATH"].split(os.pathsep)[2:])
    try:
        said = subprocess.run(
            [*asked, "--help"],
            env=dict(os.environ, PATH=path),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return
    for option in options:
        if not re.search(rf"(?<![\w-]){re.escape(option.partition('=')[0])}(?![\w-])", said):
            sys.exit(f"{program} has no option {option}")


def refuse(program: str, arguments: list[str]) -> None:
    """Exit, because this file does not know the command."""
    sys.exit(f"{program} {' '.join(arguments)}: not known here; see tests/service_manager.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
