"""Every overlay and variant as kubectl renders it: against KubeRay's schemas and rules, our practices, the project."""

import copy
import shlex

import crd_schema
import pytest
import yaml
from controller_rules import cluster_faults, job_faults, service_faults
from documents import (
    CRDS,
    MANIFESTS,
    OVERLAYS,
    RAY_KINDS,
    ROOT,
    VARIANTS,
    of_kind,
    pinned,
    pod_templates,
    ray_spec,
    render,
    render_together,
)
from practices import (
    batch_faults,
    bytes_of,
    containers,
    pod_faults,
    ray_faults,
    ray_pod_faults,
    reference_faults,
    selector_faults,
    start_faults,
)

import drop_ray
from drop_ray.config import parse_config
from drop_ray.runtime.rayjob_start import copy_of

# Where cluster/Dockerfile puts the repository, and the manifests the run's config.
IN_IMAGE = "/opt/drop_ray/"
CONFIG = "/configs/run.yaml"
# Without a variant whose overlay is itself, with the same name.
ALL = (*OVERLAYS, *(variant for variant in VARIANTS if variant not in OVERLAYS))
needs_crds = pytest.mark.skipif(
    not (CRDS / "ray.io_rayjobs.yaml").is_file(), reason="no CRDs of KubeRay; name their folder by KUBERAY_CRDS"
)
everything = pytest.mark.parametrize("name", ALL)
every_job = pytest.mark.parametrize("name", sorted({*ALL} - {"interactive", "serving"}))
RULES = {"RayJob": job_faults, "RayCluster": cluster_faults, "RayService": service_faults}


def ray_object(name):
    """The one RayJob, RayCluster or RayService."""
    (document,) = of_kind(render(name), *RAY_KINDS)
    return document


def start_of(name):
    """The Job that starts the run, or the CronJob that does so every night, with its pod."""
    (document,) = of_kind(render(name), "Job", "CronJob")
    (template,) = pod_templates(document).values()
    return document, template["spec"]


def settings(name):
    return {each["metadata"]["name"]: each["data"] for each in of_kind(render(name), "ConfigMap")}["drop-ray-settings"]


def run_config(name):
    """The run's config as the job reads it, with what its command overrides."""
    (text,) = (each["data"]["run.yaml"] for each in of_kind(render(name), "ConfigMap") if "run.yaml" in each["data"])
    return parse_config(yaml.safe_load(text) | {"store": settings(name)["STORE"]}, f"the config of {name}")


def test_the_overlays_and_variants_are_the_known_ones():
    runs = ("cpu", "gpu", "kueue", "nightly", "no-shared-volume", "one-gpu", "spot")
    assert {*OVERLAYS} == {*runs, "interactive", "serving"}
    assert {*VARIANTS} - {*OVERLAYS} == {"gpu-type", "gpu-types", "priority", "tolerations"}


@needs_crds
@everything
def test_there_is_no_field_that_kuberay_does_not_know(name):
    document = ray_object(name)
    if document["kind"] == "RayService" and not (CRDS / "ray.io_rayservices.yaml").is_file():
        pytest.skip("no CRD of RayService in the folder of KubeRay's CRDs")
    assert crd_schema.faults(crd_schema.validator(CRDS, document["kind"]), document) == []
    for other in of_kind(render(name), "Deployment", "Job", "CronJob"):
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


@everything
def test_the_rules_of_the_controller_are_kept(name):
    document = ray_object(name)
    assert RULES[document["kind"]](document) == []


@everything
def test_our_practices_are_kept(name):
    documents, document = render(name), ray_object(name)
    faults = ray_faults(document) + reference_faults(documents) + selector_faults(documents)
    faults += batch_faults(document) if document["kind"] == "RayJob" else []
    for start in of_kind(documents, "Job", "CronJob"):
        faults += start_faults(start)
    for template in [template for each in documents for template in pod_templates(each).values()]:
        faults += pod_faults(template)
    for kind, template in pod_templates(document).items():
        faults += ray_pod_faults(template) if kind != "submitter" else []
    assert faults == []


@everything
def test_the_pinned_versions_run(name):
    images = {
        container["image"]
        for each in render(name)
        for template in pod_templates(each).values()
        for container in containers(template)
    }
    assert images == {settings(name)["IMAGE"]}
    (image,) = images
    assert image.rpartition("/")[2] == f"drop-ray:{drop_ray.__version__}-{'cpu' if name == 'cpu' else 'gpu'}"
    assert ray_spec(ray_object(name))["rayVersion"] == pinned("ray", "requirements/cpu.lock")


@everything
def test_the_settings_stand_everywhere(name):
    """Whatever they replace is gone, and no other namespace is named."""
    given = settings(name)
    text = yaml.safe_dump([each for each in render(name) if each["metadata"]["name"] != "drop-ray-settings"])
    assert "STORE" not in text
    assert "image: drop-ray\n" not in text
    assert {each["metadata"].get("namespace", given["NAMESPACE"]) for each in render(name)} == {given["NAMESPACE"]}
    for binding in of_kind(render(name), "RoleBinding"):
        assert [subject["namespace"] for subject in binding["subjects"]] == [given["NAMESPACE"]]


def test_there_is_one_settings_file_for_all_gpu_overlays():
    assert [path.relative_to(MANIFESTS).as_posix() for path in sorted(MANIFESTS.rglob("*.env"))] == [
        *("overlays/cpu/settings.env", "settings/settings.env")
    ]
    for path in MANIFESTS.rglob("*.yaml"):
        assert "my-bucket" not in path.read_text(), path


def scripts(name):
    """The commands of the job and of what starts it: job, check, start."""
    _, pod = start_of(name)
    check, start = pod["initContainers"][0]["command"], pod["containers"][0]["command"]
    return shlex.split(ray_object(name)["spec"]["entrypoint"]), check, start


@every_job
def test_the_scripts_are_in_the_image_and_read_the_config_that_is_mounted(name):
    job, check, start = scripts(name)
    for python, script, *_ in (job, check, start):
        assert python == "python"
        assert script.startswith(IN_IMAGE)
        assert (ROOT / script.removeprefix(IN_IMAGE)).is_file()
    # The run is checked as it will be done.
    assert job[1].endswith("/as_rayjob.py")
    assert job[2:] == [CONFIG, "--set", f"store={settings(name)['STORE']}"]
    assert check[2:] == [*job[2:], "--check"]
    for template in (pod_templates(ray_object(name))["head"]["spec"], start_of(name)[1]):
        reader = [*template.get("initContainers", []), *template["containers"]][0]
        mounts = {mount["mountPath"]: mount["name"] for mount in reader["volumeMounts"]}
        (volume,) = (volume for volume in template["volumes"] if volume["name"] == mounts["/configs"])
        assert volume["configMap"]["name"] == "drop-ray-run"


@every_job
def test_the_check_sees_what_the_driver_sees(name):
    (head,) = pod_templates(ray_object(name))["head"]["spec"]["containers"]
    (check,) = start_of(name)[1]["initContainers"]
    assert check["env"] == head["env"]
    wanted = {mount["mountPath"]: mount for mount in check["volumeMounts"]}
    assert wanted.items() <= {mount["mountPath"]: mount for mount in head["volumeMounts"]}.items()


@every_job
def test_the_job_is_held_and_its_copy_runs(name):
    held = ray_object(name)
    assert held["spec"]["suspend"] is True
    _, _, (_, _, source, flag, run, *queue) = scripts(name)
    assert (source, flag) == (held["metadata"]["name"], "--name")
    assert queue == (["--queue", "drop-ray"] if name == "kueue" else [])
    held["metadata"]["uid"] = "u"
    copied = copy_of(held, run, queue[1] if queue else None)
    assert job_faults(copied) == []
    assert copied["spec"]["suspend"] is bool(queue)
    # The Job that starts it and KubeRay's own, of the name of the run, are two.
    assert start_of(name)[0]["metadata"]["name"] not in (run, source)
    (role,) = of_kind(render(name), "Role")
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "create", "delete"]}]


@everything
def test_a_run_fits_the_workers_and_has_its_store_in_a_bucket(name):
    execution, groups = run_config(name).execution, ray_spec(ray_object(name))["workerGroupSpecs"]
    for group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = float(limits.get("nvidia.com/gpu", 0))
        assert (execution.gpus_per_worker > 0) == (gpus > 0)
        # All GPUs of a node find CPUs for their workers.
        assert float(limits["cpu"]) >= execution.cpus_per_worker * max(1, gpus)
        if execution.num_workers != "auto":
            assert execution.num_workers * execution.gpus_per_worker == group["maxReplicas"] * gpus
        (cache,) = (volume for volume in group["template"]["spec"]["volumes"] if volume["name"] == "cache")
        if execution.cache_bytes is not None:
            assert execution.cache_bytes < bytes_of(cache["emptyDir"]["sizeLimit"])
    # With an autoscaler, `auto` would be the nodes that are there at the start.
    if ray_spec(ray_object(name))["enableInTreeAutoscaling"]:
        assert name == "interactive" or execution.num_workers != "auto"
    assert run_config(name).store.startswith("s3://")


@everything
def test_credentials_may_be_temporary_and_all_are_optional(name):
    for kind, template in pod_templates(ray_object(name)).items():
        if kind == "submitter":
            continue
        secrets = {
            entry["name"]: entry["valueFrom"]["secretKeyRef"]
            for entry in template["spec"]["containers"][0]["env"]
            if "valueFrom" in entry
        }
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"} <= secrets.keys()
        assert all(secret["optional"] for secret in secrets.values())
    (account,) = of_kind(render(name), "ServiceAccount")
    assert account["imagePullSecrets"] == [{"name": "drop-ray-registry"}]
    assert account["automountServiceAccountToken"] is False


def test_kueue_gets_the_job_of_the_gpu_overlay_when_it_was_checked():
    assert ray_object("kueue") == ray_object("gpu")


def test_the_interactive_cluster_is_the_jobs_and_no_job_comes_with_it():
    kinds = [document["kind"] for document in render("interactive")]
    assert not {"RayJob", "Job", "Role", "RoleBinding"} & {*kinds}
    assert kinds.count("NetworkPolicy") == kinds.count("RayCluster") == 1
    assert ray_spec(ray_object("interactive")) == ray_spec(ray_object("gpu"))


def test_every_night_starts_what_would_start_once():
    night, once = start_of("nightly")[0], start_of("gpu")[0]
    assert night["spec"]["jobTemplate"]["spec"] == once["spec"]
    assert ray_object("nightly") == ray_object("gpu")


@pytest.mark.parametrize("name", ["no-shared-volume", "one-gpu"])
def test_without_a_shared_volume_none_is_claimed(name):
    assert of_kind(render(name), "PersistentVolumeClaim") == []
    assert "persistentVolumeClaim" not in yaml.safe_dump(render(name))


def test_the_autoscaler_alone_has_a_token_and_may_reach_the_kubernetes_api():
    spec = ray_spec(ray_object("spot"))
    scaler = spec["autoscalerOptions"]
    assert scaler["version"] == "v2"
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert account in [mount["mountPath"] for mount in scaler["volumeMounts"]]
    pod = spec["headGroupSpec"]["template"]["spec"]
    assert {mount["name"] for mount in scaler["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    assert account not in yaml.safe_dump(pod["containers"])
    # It has the rights of any container here.
    assert scaler["securityContext"] == pod["containers"][0]["securityContext"]
    (policy,) = (each for each in of_kind(render("spot"), "NetworkPolicy") if "autoscaler" in each["metadata"]["name"])
    assert policy["spec"]["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"
    assert policy["spec"]["egress"] == [{"ports": [{"port": 6443, "protocol": "TCP"}]}]


def test_workers_prefer_the_spot_market_and_the_head_is_not_on_it():
    pods = pod_templates(ray_object("spot"))
    head = pods["head"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = head["nodeSelectorTerms"]
    avoided = {rule["key"]: (rule["operator"], rule["values"]) for rule in term["matchExpressions"]}
    workers = pods["workers"]["spec"]["affinity"]
    preferred = [
        rule
        for each in workers["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        for rule in each["preference"]["matchExpressions"]
    ]
    assert avoided == {rule["key"]: ("NotIn", rule["values"]) for rule in preferred}
    assert all(rule["operator"] == "In" for rule in preferred)
    assert "podAntiAffinity" in workers
    # Its own toleration is still there.
    assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= {
        each["key"] for each in pods["workers"]["spec"]["tolerations"]
    }


def test_each_type_of_gpu_has_a_group_of_its_own_and_no_two_groups_one_kind_of_node():
    groups = ray_spec(ray_object("gpu-types"))["workerGroupSpecs"]
    assert [group["groupName"] for group in groups] == ["h100", "a100"]
    selectors = [group["template"]["spec"]["nodeSelector"]["nvidia.com/gpu.product"] for group in groups]
    assert len({*selectors}) == 2


def test_a_second_group_has_what_was_added_before():
    documents = render_together("no-shared-volume", "priority", "tolerations", "gpu-types")
    (job,) = of_kind(documents, "RayJob")
    assert job_faults(job) == reference_faults(documents) == selector_faults(documents) == []
    pods = pod_templates(job)
    for kind in ("h100", "a100"):
        assert pods[kind]["spec"]["priorityClassName"] == "drop-ray"
        assert "dedicated" in {each["key"] for each in pods[kind]["spec"]["tolerations"]}
    assert "persistentVolumeClaim" not in yaml.safe_dump(documents)


def test_a_priority_is_that_of_all_pods():
    templates = [template for each in render("priority") for template in pod_templates(each).values()]
    assert {template["spec"]["priorityClassName"] for template in templates} == {"drop-ray"}


def test_variants_go_together():
    documents = render_together("spot", "gpu-type", "tolerations", "priority", "nightly")
    (job,) = of_kind(documents, "RayJob")
    assert job_faults(job) == batch_faults(job) == reference_faults(documents) == selector_faults(documents) == []
    (night,) = of_kind(documents, "CronJob")
    assert start_faults(night) == []
    worker = pod_templates(job)["workers"]["spec"]
    assert worker["priorityClassName"] == "drop-ray"
    assert len(worker["tolerations"]) == 4
    assert pod_templates(night)["drop-ray-nightly"]["spec"]["priorityClassName"] == "drop-ray"


def test_the_network_policy_lets_in_the_operator_to_the_port_of_the_dashboard():
    (policy,) = (each for each in of_kind(render("gpu"), "NetworkPolicy") if each["metadata"]["name"] == "drop-ray")
    (operator,) = (rule for rule in policy["spec"]["ingress"] if "kuberay-operator" in str(rule["from"]))
    ports = pod_templates(ray_object("gpu"))["head"]["spec"]["containers"][0]["ports"]
    assert [port["port"] for port in operator["ports"]] == [
        port["containerPort"] for port in ports if port["name"] == "dashboard"
    ]
