"""Every overlay as kubectl renders it: against KubeRay's schemas and rules, our practices, and the project itself."""

import copy
import shlex

import crd_schema
import pytest
import yaml
from controller_rules import cluster_faults, job_faults
from documents import CRDS, OVERLAYS, ROOT, of_kind, pinned, pod_templates, ray_spec, render
from practices import (
    batch_faults,
    bytes_of,
    pod_faults,
    ray_faults,
    ray_pod_faults,
    reference_faults,
    selector_faults,
)

import drop_ray
from drop_ray.config import parse_config

# Where cluster/Dockerfile puts the repository, and the manifests the run's config.
IN_IMAGE = "/opt/drop_ray/"
CONFIG = "/configs/run.yaml"
needs_crds = pytest.mark.skipif(
    not (CRDS / "ray.io_rayjobs.yaml").is_file(), reason="no CRDs of KubeRay; name their folder by KUBERAY_CRDS"
)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def ray_object(overlay):
    """The overlay's one RayJob or RayCluster."""
    (document,) = of_kind(render(overlay), "RayJob", "RayCluster")
    return document


def run_config(overlay):
    (config_map,) = of_kind(render(overlay), "ConfigMap")
    return parse_config(yaml.safe_load(config_map["data"]["run.yaml"]), f"the config of {overlay}")


def test_the_overlays_are_the_known_ones():
    assert OVERLAYS == ("cpu", "gpu", "interactive", "kueue")


@needs_crds
@every_overlay
def test_an_overlay_has_no_field_that_kuberay_does_not_know(overlay):
    document = ray_object(overlay)
    assert crd_schema.faults(crd_schema.validator(CRDS, document["kind"]), document) == []
    for other in of_kind(render(overlay), "Deployment"):
        for template in pod_templates(other).values():
            assert crd_schema.faults(crd_schema.pod_template_validator(CRDS), template) == []


@needs_crds
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["shutdownAfterJobFinish"], True),
        (["ttlSecondsAfterFinished"], "10"),
        (["rayClusterSpec", "authOptions", "mode"], "tokens"),
        (["rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "volumeMount"], []),
    ],
)
def test_the_schema_check_finds_a_wrong_field_and_a_wrong_type(path, value):
    document = copy.deepcopy(ray_object("gpu"))
    target = document["spec"]
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    assert len(crd_schema.faults(crd_schema.validator(CRDS, "RayJob"), document)) == 1


@every_overlay
def test_an_overlay_keeps_the_rules_of_the_controller(overlay):
    document = ray_object(overlay)
    assert (job_faults if document["kind"] == "RayJob" else cluster_faults)(document) == []


@every_overlay
def test_an_overlay_keeps_our_practices(overlay):
    documents, document = render(overlay), ray_object(overlay)
    faults = ray_faults(document) + reference_faults(documents) + selector_faults(documents)
    faults += batch_faults(document) if document["kind"] == "RayJob" else []
    for template in [template for each in documents for template in pod_templates(each).values()]:
        faults += pod_faults(template)
    for name, template in pod_templates(document).items():
        faults += ray_pod_faults(template) if name != "submitter" else []
    assert faults == []


@every_overlay
def test_an_overlay_runs_the_pinned_versions(overlay):
    document = ray_object(overlay)
    images = {
        container["image"].rpartition("/")[2]
        for each in render(overlay)
        for template in pod_templates(each).values()
        for container in template["spec"]["containers"]
    }
    assert images == {f"drop-ray:{drop_ray.__version__}-{'cpu' if overlay == 'cpu' else 'gpu'}"}
    assert ray_spec(document)["rayVersion"] == pinned("ray", "requirements/cpu.lock")


@pytest.mark.parametrize("overlay", sorted({*OVERLAYS} - {"interactive"}))
def test_the_entry_point_is_in_the_image_and_reads_the_config_that_is_mounted(overlay):
    job = ray_object(overlay)
    python, script, config = shlex.split(job["spec"]["entrypoint"])
    assert (python, config) == ("python", CONFIG)
    assert script.startswith(IN_IMAGE)
    assert (ROOT / script.removeprefix(IN_IMAGE)).is_file()
    pod = pod_templates(job)["head"]["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mounts["/configs"])
    (config_map,) = of_kind(render(overlay), "ConfigMap")
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    assert "run.yaml" in config_map["data"]


@every_overlay
def test_a_run_fits_the_workers_and_has_its_store_in_a_bucket(overlay):
    execution, (group,) = run_config(overlay).execution, ray_spec(ray_object(overlay))["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert execution.num_workers * execution.cpus_per_worker <= group["replicas"] * float(limits["cpu"])
    gpus = group["replicas"] * float(limits.get("nvidia.com/gpu", 0))
    assert execution.num_workers * execution.gpus_per_worker == gpus
    assert run_config(overlay).store.startswith("s3://")
    (cache,) = (volume for volume in group["template"]["spec"]["volumes"] if volume["name"] == "cache")
    if execution.cache_bytes is not None:
        assert execution.cache_bytes < bytes_of(cache["emptyDir"]["sizeLimit"])


def test_kueue_gets_the_job_of_the_gpu_overlay_suspended_and_with_a_queue():
    queued, plain = ray_object("kueue"), ray_object("gpu")
    assert queued["metadata"].pop("labels") == {"kueue.x-k8s.io/queue-name": "drop-ray"}
    assert queued["spec"].pop("suspend") is True
    assert queued == plain


def test_the_interactive_cluster_is_the_jobs_and_no_job_comes_with_it():
    assert [document["kind"] for document in of_kind(render("interactive"), "RayJob", "RayCluster")] == ["RayCluster"]
    assert ray_spec(ray_object("interactive")) == ray_spec(ray_object("gpu"))


def test_the_network_policy_lets_in_the_operator_to_the_port_of_the_dashboard():
    (policy,) = of_kind(render("gpu"), "NetworkPolicy")
    (operator,) = (rule for rule in policy["spec"]["ingress"] if "kuberay-operator" in str(rule["from"]))
    ports = pod_templates(ray_object("gpu"))["head"]["spec"]["containers"][0]["ports"]
    assert [port["port"] for port in operator["ports"]] == [
        port["containerPort"] for port in ports if port["name"] == "dashboard"
    ]
