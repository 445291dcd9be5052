"""The RayService of the serving overlay: what `drop-ray serve --ray` would write, on the cluster of the job."""

import copy

import crd_schema
import pytest
import yaml
from controller_rules import service_faults
from documents import CRDS, RAY_KINDS, of_kind, pod_templates, ray_spec, render, render_together
from practices import reference_faults, selector_faults

from drop_ray.serving.ray_application import Replicas, application_config

needs_cluster_crd = pytest.mark.skipif(
    not (CRDS / "ray.io_rayclusters.yaml").is_file(), reason="no CRDs of KubeRay; name their folder by KUBERAY_CRDS"
)


def service():
    (document,) = of_kind(render("serving"), *RAY_KINDS)
    assert document["kind"] == "RayService"
    return document


def serve_config():
    return yaml.safe_load(service()["spec"]["serveConfigV2"])


def engine():
    (model,) = serve_config()["applications"][0]["args"]["llm_configs"]
    return model


def test_the_config_is_what_the_command_writes_for_its_arguments():
    config, model = serve_config(), engine()
    source, scaling = model["model_loading_config"]["model_source"], model["deployment_config"]["autoscaling_config"]
    given = {**model["engine_kwargs"], **config["http_options"]}
    replicas = Replicas(scaling["min_replicas"], scaling["max_replicas"])
    assert application_config(source, source, given, replicas, 1, {}) == config


def test_replicas_fit_the_gpus_and_are_let_in_by_the_port_that_they_listen_on():
    (group,) = ray_spec(service())["workerGroupSpecs"]
    gpus = group["replicas"] * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert engine()["deployment_config"]["autoscaling_config"]["max_replicas"] <= gpus
    http = serve_config()["http_options"]
    assert http["host"] == "0.0.0.0"
    (policy,) = of_kind(render("serving"), "NetworkPolicy")
    (rule,) = (rule for rule in policy["spec"]["ingress"] if "drop-ray-client" in str(rule["from"]))
    assert "kuberay-operator" in str(rule["from"])
    assert [port["port"] for port in rule["ports"]] == [http["port"]]
    for name, template in pod_templates(service()).items():
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports["serve"] == http["port"], name


def test_the_cluster_is_the_jobs_but_for_the_port():
    (job,) = of_kind(render("gpu"), "RayJob")
    cluster = copy.deepcopy(ray_spec(service()))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        container = group["template"]["spec"]["containers"][0]
        container["ports"] = [port for port in container["ports"] if port["name"] != "serve"]
        if not container["ports"]:
            del container["ports"]
    assert cluster == ray_spec(job)


def test_no_job_comes_with_the_server():
    kinds = [document["kind"] for document in render("serving")]
    assert not {"RayJob", "RayCluster", "Job", "CronJob", "Role", "RoleBinding"} & {*kinds}
    assert kinds.count("NetworkPolicy") == kinds.count("RayService") == 1


def test_a_server_has_what_variants_changed_of_the_job():
    documents = render_together("spot", "no-shared-volume", "tolerations", "priority", "serving")
    (document,) = of_kind(documents, *RAY_KINDS)
    assert reference_faults(documents) == selector_faults(documents) == []
    # What is served is the overlay's.
    assert service_faults(document) == ["serveConfigV2 is not a YAML mapping"]
    cluster, pods = ray_spec(document), pod_templates(document)
    assert cluster["enableInTreeAutoscaling"] is True
    assert "dedicated" in {each["key"] for each in pods["workers"]["spec"]["tolerations"]}
    assert {pod["spec"]["priorityClassName"] for pod in pods.values()} == {"drop-ray"}
    assert "persistentVolumeClaim" not in yaml.safe_dump(documents)


@needs_cluster_crd
def test_its_cluster_has_no_field_that_kuberay_does_not_know():
    cluster = {"kind": "RayCluster", "spec": ray_spec(service())}
    assert crd_schema.faults(crd_schema.validator(CRDS, "RayCluster"), cluster) == []


def test_ray_serve_takes_the_config():
    pytest.importorskip("jsonref", reason="pip install 'drop-ray[ray-serve]'")
    schema = pytest.importorskip("ray.serve.schema", exc_type=ImportError, reason="pip install 'drop-ray[ray-serve]'")
    assert len(schema.ServeDeploySchema.model_validate(serve_config()).applications) == 1
