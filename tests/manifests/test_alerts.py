"""The alerts for Prometheus are about what the runtime exports, and come when they should; promtool runs them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from documents import MANIFESTS, kustomize

CASES = Path(__file__).with_name("alert_cases.yaml")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


@pytest.fixture(scope="module")
def rule_object():
    (found,) = (
        each for each in yaml.safe_load_all(kustomize(MANIFESTS / "grafana")) if each["kind"] == "PrometheusRule"
    )
    return found


def rules(rule_object):
    return [rule for group in rule_object["spec"]["groups"] for rule in group["rules"]]


def test_alerts_are_about_metrics_that_the_runtime_exports(rule_object):
    from drop_ray.runtime import metrics

    exported = {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("drop_ray_")}
    for rule in rules(rule_object):
        named = re.findall(r"\bray_(\w+)", rule["expr"])
        assert named, rule["alert"]
        assert {*named} <= exported, rule["alert"]
        # Whose it is stands in what is said.
        assert rule["expr"].count("by (run)") == len(named)
        assert rule["annotations"]["summary"].startswith("{{ $labels.run }}: ")


def test_prometheus_of_the_stack_selects_them(rule_object):
    (monitor,) = (each for each in yaml.safe_load_all(kustomize(MANIFESTS / "grafana")) if each["kind"] == "PodMonitor")
    assert rule_object["metadata"]["labels"] == monitor["metadata"]["labels"]
    assert rule_object["metadata"]["namespace"] == monitor["metadata"]["namespace"]


def test_every_alert_has_a_case(rule_object):
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules(rule_object)}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


@needs_promtool
def test_promtool_takes_the_rules_and_they_fire_as_the_cases_say(rule_object, tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_object["spec"]))
    shutil.copy(CASES, tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", CASES.name]):
        result = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
