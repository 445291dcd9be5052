"""The Grafana dashboard shows what the runtime and Ray export, by the names that they have at Prometheus."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from documents import MANIFESTS, kustomize

# What an expression says that is not the name of a metric begins otherwise.
METRIC = re.compile(r"\bray_\w+")
PARTS_OF_A_HISTOGRAM = r"_(bucket|sum|count)$"


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((MANIFESTS / "grafana" / "drop_ray.json").read_text())


def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def shown(dashboard):
    """Names of the metrics in all panels, of histograms without the part."""
    names = {name for expression in expressions(dashboard) for name in METRIC.findall(expression)}
    return {re.sub(PARTS_OF_A_HISTOGRAM, "", name) for name in names}


def test_every_metric_of_the_runtime_is_shown_and_no_other_of_that_name(dashboard):
    from drop_ray.runtime import metrics

    defined = {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("drop_ray_")}
    assert len(defined) > 0
    assert {name for name in shown(dashboard) if name.startswith("ray_drop_ray_")} == {
        f"ray_{name}" for name in defined
    }


def test_every_other_metric_is_one_of_rays_own_dashboards(dashboard):
    import ray.dashboard.modules.metrics.dashboards as rays

    (folder,) = rays.__path__
    known = set(METRIC.findall((Path(folder) / "default_dashboard_panels.py").read_text()))
    assert {name for name in shown(dashboard) if not name.startswith("ray_drop_ray_")} <= known


def test_the_runtimes_counters_are_shown_as_counters_and_its_histogram_by_quantiles(dashboard):
    from drop_ray.runtime import metrics

    for expression in expressions(dashboard):
        for name in METRIC.findall(expression):
            if name.startswith("ray_drop_ray_") and name.endswith(("_total", "_bucket")):
                assert re.search(rf"(rate|increase|max_over_time)\({name}\{{", expression), expression
            if name.startswith(f"ray_{metrics.UNIT_SECONDS}"):
                # Ray's sum of a histogram is one of the middles of its buckets.
                assert name.endswith("_bucket"), expression
                assert expression.startswith("histogram_quantile("), expression


def test_every_expression_is_of_the_chosen_run_or_of_its_session(dashboard):
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "run", "session"}
    for expression in expressions(dashboard):
        assert len(METRIC.findall(expression)) == len(
            re.findall(r'(run=~"\$run"|SessionName=~"\$session")', expression)
        )
        assert expression.count("(") == expression.count(")")


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_the_folder_makes_a_config_map_that_grafanas_sidecar_finds(dashboard):
    documents = list(yaml.safe_load_all(kustomize(MANIFESTS / "grafana")))
    (found,) = (each for each in documents if each["metadata"]["name"] == "drop-ray-dashboard")
    # That of the settings, in which the pods are.
    assert {each["metadata"]["namespace"] for each in documents} == {"drop-ray"}
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(found["data"]["drop_ray.json"]) == dashboard
    (monitor,) = (each for each in documents if each["kind"] == "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert monitor["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/part-of": "drop-ray"}
