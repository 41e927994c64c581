"""The container's files, checked without an image, and the health check itself.

test_image.py builds and runs the image. The compose file and the manifest are checked here against the
schemas of their formats, and for what the schemas leave open.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd import __version__
from syncd.config.load import PLACES
from syncd.config.model import State
from tests.conftest import ROOT, Rig
from tests.test_process import daemon, until

PACKAGING = ROOT / "packaging"
PROBE = ["/opt/syncd/bin/python", "/opt/syncd/health.py"]
USER = 10001

COMPOSE_KEYS = {
    "image", "restart", "read_only", "cap_drop", "security_opt", "environment", "volumes", "tmpfs",
    "secrets", "stop_grace_period", "healthcheck",
}  # fmt: skip


@pytest.fixture
def containerfile() -> str:
    return (PACKAGING / "Containerfile").read_text()


def test_the_containerfile(containerfile: str) -> None:
    """The Containerfile has a base that can be pinned, an unprivileged user, one volume, a health check."""
    lines = containerfile.splitlines()
    assert next(line for line in lines if not line.startswith("#")).startswith("ARG BASE=")
    assert [line for line in lines if line.startswith("FROM ")] == [
        "FROM ${BASE} AS build",
        "FROM ${BASE}",
    ]
    assert f"USER {USER}:{USER}" in lines
    assert [line for line in lines if line.startswith("VOLUME")] == ["VOLUME /var/lib/syncd"]
    assert f"SYNCD_CONFIG={PLACES[0]}" in containerfile
    assert "--require-hashes -r requirements-postgresql.lock" in containerfile
    health = next(line for line in lines if line.startswith("HEALTHCHECK"))
    assert f'CMD ["{PROBE[0]}", "{PROBE[1]}", "livez"]' in health
    assert State().url == "sqlite:////var/lib/syncd/syncd.db"


def test_everything_that_is_copied_is_there(containerfile: str) -> None:
    """Each file that the Containerfile copies exists, and is not ignored."""
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", containerfile, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored


def test_the_compose_file() -> None:
    """The compose file has a read-only root, no capabilities, both secrets and the program's version."""
    read = yaml.safe_load((PACKAGING / "compose.yaml").read_text())
    assert set(read) == {"services", "volumes", "secrets"}
    (service,) = read["services"].values()
    assert set(service) == COMPOSE_KEYS
    assert service["image"] == f"syncd:{__version__}"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["healthcheck"]["test"] == ["CMD", *PROBE, "livez"]
    mounts = {one["target"]: one for one in service["volumes"]}
    assert set(mounts) == {"/etc/syncd/config.toml", "/var/lib/syncd"}
    assert all(set(one) <= {"type", "source", "target", "read_only"} for one in service["volumes"])
    assert mounts["/var/lib/syncd"]["source"] in read["volumes"]
    # Neither docker compose nor podman-compose honours a uid or a mode of a secret from a file.
    assert (
        set(service["secrets"]) == set(read["secrets"]) == {"stripe_api_key", "halo_client_secret"}
    )


def validated(*tool: str, text: str, folder: Path) -> int:
    """Check a file against its schema; returns the exit code."""
    file = folder / "checked.yaml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", *tool, file], check=False, capture_output=True, text=True, timeout=60
    )
    assert "No module named" not in done.stderr, "install requirements-dev.lock again"
    return done.returncode


COMPOSE_SCHEMA = ("check_jsonschema", "--builtin-schema", "vendor.compose-spec")
MANIFEST_SCHEMA = ("kubernetes_validate", "--strict", "--kubernetes-version")


def test_the_compose_file_is_valid(tmp_path: Path) -> None:
    """The compose file matches the Compose Specification; with a misspelt key it does not."""
    text = (PACKAGING / "compose.yaml").read_text()
    assert validated(*COMPOSE_SCHEMA, text=text, folder=tmp_path) == 0
    for right, wrong in (
        ("read_only: true\n    cap", "readonly: true\n    cap"),
        ("stop_grace_period:", "stop_grace_time:"),
    ):
        assert right in text
        assert validated(*COMPOSE_SCHEMA, text=text.replace(right, wrong), folder=tmp_path) != 0


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_the_manifest_is_valid(version: str, tmp_path: Path) -> None:
    """The manifest is valid in an old and a new Kubernetes; with a misspelt key it is not."""
    text = (PACKAGING / "kubernetes.yaml").read_text()
    schema = (*MANIFEST_SCHEMA, version)
    assert validated(*schema, text=text, folder=tmp_path) == 0
    for right, wrong in (("runAsNonRoot:", "runAsNoRoot:"), ("replicas: 1", "replicas: one")):
        assert right in text
        assert validated(*schema, text=text.replace(right, wrong), folder=tmp_path) != 0


def test_the_manifest() -> None:
    """The manifest has one unprivileged pod at a time, three probes, and a definition for every volume."""
    documents = list(yaml.safe_load_all((PACKAGING / "kubernetes.yaml").read_text()))
    claim, deployment = documents
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    spec = deployment["spec"]
    assert set(spec) == {"replicas", "strategy", "selector", "template"}
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == USER
    assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (
        True,
        False,
    )
    (container,) = pod["containers"]
    assert container["image"] == f"syncd:{__version__}"
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    probes = {
        name: container[f"{name}Probe"]["exec"]["command"]
        for name in ("startup", "liveness", "readiness")
    }
    assert probes == {
        "startup": [*PROBE, "livez"],
        "liveness": [*PROBE, "livez"],
        "readiness": [*PROBE, "readyz"],
    }
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == set(volumes)
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


ALONE = """
import runpy, sys
from tests.alone import without_the_machine
without_the_machine()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script as on a machine without /etc/syncd/config.toml."""


def health(
    page: str, environment: dict[str, str], folder: Path
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ALONE, PACKAGING / "health.py", page],
        cwd=folder,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_the_health_check(live: Rig) -> None:
    """The probe asks the running service, with its token, and fails if the service is down or refuses."""
    token: dict[str, Any] = {"SYNCD_WEB_TOKEN": "a-token-of-the-probe"}
    with daemon(live, **token) as running:
        listen = running.url.removeprefix("http://")
        around = {**live.environment(), **token, "SYNCD_WEB__LISTEN": listen}
        around |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
        well = until(
            lambda: (done := health("readyz", around, live.folder)).returncode == 0 and done
        )
        assert '"status":"ok"' in well.stdout.replace(" ", "")
        assert health("livez", around, live.folder).returncode == 0
        assert "a-token" not in well.stdout + well.stderr
        assert (
            health(
                "livez", {**around, "SYNCD_WEB_TOKEN": "another-token-here"}, live.folder
            ).returncode
            == 1
        )
    gone = health("livez", around, live.folder)
    assert gone.returncode == 1
    assert gone.stderr.count("\n") == 1
