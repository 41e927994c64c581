"""The alert rules and the dashboard use metrics that exist, and each alert can be raised."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from syncd.sandbox import Fault, Sandbox
from tests.conftest import ROOT, HandClock, Rig
from tests.test_process import daemon, until

MONITORING = ROOT / "docs" / "monitoring"
PROMTOOL = shutil.which("promtool")

promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) isn't there")


def alerts() -> list[dict[str, Any]]:
    """All alert rules."""
    file = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))
    return [rule for group in file["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """All panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(
        (MONITORING / "grafana-dashboard.json").read_text("utf-8")
    )["panels"]
    return found


def expressions() -> list[str]:
    """Every PromQL expression of the alerts and the dashboard, with Grafana's variables filled in."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [
        text.replace("$__rate_interval", "5m").replace("$job", "syncd").replace("$instance", ".*")
        for text in shown
    ]
    return [rule["expr"] for rule in alerts()] + filled


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The labels of every series in a real answer: after a poll, a push, a sweep and a 429."""
    with Sandbox() as box:
        live = Rig(box, HandClock(), tmp_path_factory.mktemp("metrics"), {})
        live.settings["SYNCD_POLL__SWEEP"] = "1s"
        live.pay("succeeded")
        box.halo.faults.append(Fault("429", method="POST", retry_after=0))
        with daemon(live) as running:
            until(lambda: 'timestamp_seconds{step="sweep"}' in running.get("/metrics")[1])
            until(lambda: running.events("pushed"))
            page = running.get("/metrics")[1]
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_is_there(expression: str, samples: dict[str, list[dict[str, str]]]) -> None:
    """Each metric and each label value in an expression exists in a real answer of /metrics."""
    named = re.findall(r"\b([a-z_]+)\{([^}]*)\}|\b(syncd_[a-z_]+)\b(?!\{)", expression)
    assert named
    for name, matchers, bare in named:
        metric = name or bare
        if metric == "up":
            continue  # Prometheus's own metric
        assert metric in samples
        for label, sign, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            if label in ("job", "instance"):
                continue  # set by Prometheus
            for one in value.split("|") if sign == "=~" else [value]:
                assert any(labels.get(label) == one for labels in samples[metric]), (label, one)
    grouped = re.findall(r"by \(([\w, ]+)\)", expression)
    labels = {key for rows in samples.values() for row in rows for key in row}
    for group in grouped:
        assert set(re.split(r",\s*", group)) <= labels | {"job", "instance"}


def test_the_dashboard_shows_every_metric(samples: dict[str, list[dict[str, str]]]) -> None:
    """The dashboard shows every metric of syncd."""
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    unseen = {
        name
        for name in samples
        if name.startswith("syncd_")
        and not name.endswith(("_created", "_sum", "_count"))
        and not re.search(rf"\b{name}\b", shown)
    }
    assert unseen == set()


def test_every_alert_says_what_to_do() -> None:
    """Each alert has a severity, a summary, and a description that names a command or a setting."""
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.search(
            r"syncd (status|attention|audit)|systemctl|journalctl|\w+\.\w+_?\w+",
            rule["annotations"]["description"],
        ), rule["alert"]


def test_every_alert_is_tested() -> None:
    """In promtool's tests each alert is raised in one case and not raised in another."""
    file = yaml.safe_load((MONITORING / "alerts.test.yml").read_text("utf-8"))
    cases = [case for test in file["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@promtool
@pytest.mark.parametrize(
    "command", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")]
)
def test_promtool_is_content(command: tuple[str, ...]) -> None:
    """Prometheus's promtool accepts the alert rules, and its tests of the rules pass."""
    done = subprocess.run(
        [str(PROMTOOL), *command], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_the_dashboard_speaks_promql(tmp_path: Path) -> None:
    """Every expression of the dashboard is valid PromQL: promtool checks it as a recording rule."""
    rules = [{"record": f"x:{n}", "expr": text} for n, text in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}), "utf-8")
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
