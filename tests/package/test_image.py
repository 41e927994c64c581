"""The container image: built by `make image` over a bare Debian, and run against the sandbox.

No registry is used: the base is Debian 12 with its Python, as `.ci/debian` makes it. Each RUN step and each
container is a chroot (buildah's isolation for machines without namespaces). So the tests do not cover what
the kernel adds: a read-only root and dropped capabilities. They are skipped, with the reason, without
buildah, root or a mirror.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from syncd import __version__
from tests.conftest import ROOT, Rig
from tests.documents import written_by_halo
from tests.isolation import for_downloads
from tests.package.reach import Reach, bare_debian, copied, reach, roomy
from tests.package.test_container import PROBE, USER
from tests.ports import free_port
from tests.test_process import until

IMAGE = f"localhost/syncd:{__version__}"
CONTAINER = "syncd-of-the-tests"


@dataclass(frozen=True, slots=True)
class Built:
    """A store of images with syncd's image, and a container of it."""

    environment: dict[str, str]

    def buildah(self, *arguments: str) -> str:
        """Run buildah; returns its output."""
        return subprocess.run(
            ["buildah", *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=self.environment,
        ).stdout

    def inside(self, folder: Path, *command: str, **variables: str) -> list[str]:
        """The command line that runs a command in the container, as the image's user."""
        config, state = folder / "etc", folder / "state"
        return [
            "buildah",
            "run",
            f"--volume={config}:/etc/syncd:ro",
            f"--volume={config}:/run/secrets:ro",
            f"--volume={state}:/var/lib/syncd",
            *(f"--env={name}={text}" for name, text in variables.items()),
            CONTAINER,
            "--",
            *command,
        ]

    def run(
        self, folder: Path, *command: str, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container to its end."""
        return subprocess.run(
            self.inside(folder, *command, **variables),
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )


def _attempt(what: str, arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        arguments,
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        cwd=ROOT,
    )
    if done.returncode != 0:
        pytest.skip(f"{what} does not work on this machine: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _base(environment: dict[str, str], there: Reach) -> None:
    """An image of a bare Debian with Python's venv module, as the Containerfile needs it."""
    name = _attempt("buildah", ["buildah", "from", "scratch"], environment)
    with bare_debian() as tree:
        root = _attempt("buildah mount", ["buildah", "mount", name], environment)
        copied(tree, Path(root))
    variables = [f"--env={key}={text}" for key, text in there.variables.items()]
    install = "apt-get update -qq && apt-get install -qq --no-install-recommends python3-venv"
    run = ["buildah", "run", *variables, name, "--", "sh", "-c", install]
    _attempt("a step of a build", run, environment)
    _attempt(
        "buildah commit",
        ["buildah", "commit", "--quiet", "--rm", name, "localhost/base"],
        environment,
    )


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    """The image, built once, and a container of it."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah isn't there: apt install buildah")
    if os.geteuid() != 0:
        pytest.skip("only root can build over a root file system")
    there = reach()
    with TemporaryDirectory(prefix="syncd-images-", dir=roomy()) as folder:
        settings = Path(folder) / "storage.conf"
        settings.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        environment = {
            **for_downloads(),
            "CONTAINERS_STORAGE_CONF": str(settings),
            "BUILDAH_ISOLATION": "chroot",
        }
        conf = Path(folder) / "pip.conf"
        conf.write_text(there.pip)
        try:
            _base(environment, there)
            shown = " ".join(f"--volume={path}:{path}:ro" for path in there.shown)
            done = subprocess.run(
                ["make", "--silent", "image"],
                cwd=ROOT,
                check=False,
                capture_output=True,
                text=True,
                timeout=900,
                env={
                    **environment,
                    "BASE": "localhost/base",
                    "IMAGE_ARGS": f"--pull-never {shown}",
                    "PIP_CONFIG_FILE": str(conf),
                },
            )
            assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
            assert done.stdout.splitlines()[-1] == f"syncd:{__version__}"
            made = Built(environment)
            made.buildah("from", "--pull-never", f"--name={CONTAINER}", IMAGE)
            yield made
        finally:
            for command in (["rm", "--all"], ["rmi", "--all", "--force"]):
                subprocess.run(
                    ["buildah", *command], check=False, capture_output=True, env=environment
                )


def described(built: Built) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(built.buildah("inspect", "--type", "image", IMAGE))[
        "Docker"
    ]["config"]
    return found


@pytest.mark.slow
def test_what_the_image_says_of_itself(built: Built) -> None:
    """The image has an unprivileged user, one volume, a health check, SIGTERM to stop, syncd as its entry."""
    found = described(built)
    assert (found["User"], list(found["Volumes"]), found["StopSignal"]) == (
        f"{USER}:{USER}",
        ["/var/lib/syncd"],
        "SIGTERM",
    )
    assert found["Healthcheck"]["Test"] == ["CMD", *PROBE, "livez"]
    assert found["Entrypoint"] == ["/opt/syncd/bin/syncd"]
    assert not [one for one in found["Env"] if "KEY" in one or "SECRET" in one or "TOKEN" in one]


@pytest.mark.slow
def test_the_image_runs(built: Built, live: Rig) -> None:
    """In the image syncd is set up, started, healthy, pushes and stops; its own files are read-only."""
    box, folder = live.box, live.folder / "made"
    written_by_halo(box)
    for one in (folder / "etc", folder / "state"):  # as docs/install.md makes the folder
        one.mkdir(parents=True, mode=0o700)
        os.chown(one, USER, USER)
    assert built.run(folder, "/opt/syncd/bin/syncd", "--version").stdout == f"syncd {__version__}\n"
    assert built.run(folder, "id", "-u").stdout == f"{USER}\n"
    tried = built.run(folder, "sh", "-c", "touch /opt/syncd/x || touch /etc/x || touch /usr/x")
    assert tried.returncode != 0
    assert built.run(folder, "/opt/syncd/bin/python", "-m", "pip").returncode != 0
    driver = "import psycopg; print(psycopg.pq.__impl__)"
    assert built.run(folder, "/opt/syncd/bin/python", "-c", driver).stdout == "binary\n"

    answers = {
        "SYNCD_HALO__URL": box.halo.url,
        "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
        "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
        "SYNCD_POLL__INTERVAL": "1s",
        "SYNCD_STRIPE_API_KEY": box.stripe.api_key,
        "SYNCD_STRIPE__API_BASE": box.stripe.url,
        "SYNCD_WEB__LISTEN": f"127.0.0.1:{free_port()}",
        "CREDENTIALS_DIRECTORY": "",
    }
    init = subprocess.run(
        ["buildah", "run", f"--volume={folder / 'etc'}:/here", *(f"--env={k}={v}" for k, v in answers.items()),
         CONTAINER, "--", "/opt/syncd/bin/syncd", "init", "--defaults", "--config", "/here/config.toml"],
        check=False, capture_output=True, text=True, env=built.environment, timeout=60,
    )  # fmt: skip
    assert init.returncode == 0, init.stdout + init.stderr
    made = {one.name: one.stat() for one in (folder / "etc").iterdir()}
    assert set(made) == {"config.toml", "stripe_api_key", "halo_client_secret"}
    assert {found.st_uid for found in made.values()} == {USER}
    assert oct(made["stripe_api_key"].st_mode)[-3:] == "600"

    payment = live.pay("succeeded")
    with (live.folder / "log").open("wb") as log:
        running = subprocess.Popen(
            built.inside(folder, *described(built)["Entrypoint"]),
            stdout=log,
            stderr=log,
            env=built.environment,
            start_new_session=True,
        )
    try:
        until(lambda: live.statuses(payment) == [3], 60)
        for page in ("livez", "readyz"):
            asked = [*PROBE, page]
            until(lambda: built.run(folder, *asked).returncode == 0, 30)  # noqa: B023
        os.kill(_program(running.pid), signal.SIGTERM)
        assert running.wait(30) == 0
    finally:
        if running.poll() is None:
            with suppress(OSError, ValueError):
                os.kill(_program(running.pid), signal.SIGKILL)
            running.kill()
            running.wait(30)
    told = (live.folder / "log").read_text()
    assert '"stopped"' in told
    os.chown(folder / "etc/stripe_api_key", 0, 0)  # as if root had written the secret on the host
    refused = built.run(folder, "/opt/syncd/bin/syncd", "check")
    assert refused.returncode == 78
    assert (
        f"uid {USER}, as which syncd runs, can't read /run/secrets/stripe_api_key (owner uid 0, mode 600)"
        in " ".join(refused.stdout.split())
    )
    assert box.stripe.api_key not in told


def _program(above: int) -> int:
    """The process of the image's user below a process."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
    below = {above}
    while more := {one for one, parent in parents.items() if parent in below} - below:
        below |= more
    (found,) = [
        one
        for one in below
        if Path(f"/proc/{one}").stat().st_uid == USER
        and Path(f"/proc/{one}/cmdline").read_bytes().startswith(b"/opt/syncd/")
    ]
    return found
