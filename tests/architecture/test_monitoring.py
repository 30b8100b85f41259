"""Alerts, their runbooks and the dashboard, held against what is counted and against promtool."""

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import cms.metrics
import hsm.metrics
from cms.faces.ops import State
from cms.services.ends import Ends
from cms.services.health import Readiness
from deploy.grafana import dashboard
from hsm import exposition
from hsm.metrics import KeyInfo

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = (PROMETHEUS / "rules.yml").read_text()
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in YAML(typ="safe").load(RULES)["groups"]
    for rule in group["rules"]
}
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
METRICS = (ROOT / "docs" / "metrics.md").read_text()
NAME = re.compile(r"\b(?:cms|hsm)_[a-z_]+\b")
PROMTOOL = shutil.which("promtool") or shutil.which(Path(sys.executable).with_name("promtool"))
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool, of Debian's package prometheus, is not here"
)


def shown() -> dict[str, str]:
    """What is shown, by name without what a kind of metric adds, and its kind."""
    assert cms.metrics is not None
    assert hsm.metrics is not None
    now = datetime.now(UTC)
    state = State(Readiness(True, True, (), (), ()), Ends({"a": now}, {"a": now}))
    families = [*exposition.registry.collect(), *state.collect(), *KeyInfo({}).collect()]
    return {family.name: family.type for family in families}


def names() -> set[str]:
    tails = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {name + tail for name, kind in shown().items() for tail in tails[kind]}


def test_every_metric_in_rules_and_dashboard_exists() -> None:
    for text in (RULES, (PROMETHEUS / "rules_test.yml").read_text(), dashboard.text()):
        used = {*NAME.findall(text.replace("hsm_ up", ""))}
        assert used
        assert used <= names()


def test_every_metric_is_documented_and_on_the_dashboard() -> None:
    for name in shown():
        assert f"`{name}" in METRICS
        assert name in dashboard.text()


def test_the_dashboard_is_the_one_that_the_code_makes() -> None:
    assert dashboard.FILE.read_text() == dashboard.text()


def test_each_alert_has_its_page() -> None:
    pages = re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)
    assert sorted(pages) == sorted(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_each_alert_is_tested() -> None:
    tests = YAML(typ="safe").load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    tested = {rule["alertname"] for each in tests for rule in each["alert_rule_test"]}
    assert tested == ALERTS.keys()


@needs_promtool
def test_promtool_finds_configuration_and_rules_good() -> None:
    for words in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ):
        done = promtool(PROMETHEUS, *words)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_that_never_fire_fail_their_tests(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    rules = YAML(typ="safe").load(RULES)
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(1) > 2"
    with (tmp_path / "rules.yml").open("w") as file:
        YAML(typ="safe").dump(rules, file)
    done = promtool(tmp_path, "test", "rules", "rules_test.yml")
    assert done.returncode == 1
    failed = re.findall(r"alertname: (\w+)", done.stdout + done.stderr)
    assert {*failed} == ALERTS.keys()


def promtool(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROMTOOL), *words], cwd=directory, capture_output=True, text=True, check=False
    )
