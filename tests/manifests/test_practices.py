"""Each practice is missed where it is missing: the checks of the manifests can fail."""

import copy

import pytest
from practices import (
    batch_faults,
    bytes_of,
    pod_faults,
    ray_faults,
    ray_pod_faults,
    reference_faults,
    selector_faults,
    start_faults,
)

SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
CONTAINER = {
    "name": "ray",
    "image": "registry.example.com:5000/drop-ray:1.0-gpu",
    "securityContext": SECURITY,
    "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}},
    "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "scratch", "mountPath": "/tmp"}],
}
POD = {
    "restartPolicy": "Never",
    "serviceAccountName": "drop-ray",
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 100,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [CONTAINER],
    "volumes": [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}},
    ],
}
LABELS = {"app.kubernetes.io/part-of": "drop-ray"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
JOB = {
    "kind": "RayJob",
    "metadata": {"name": "drop-ray", "namespace": "n"},
    "spec": {
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": 2,
        "activeDeadlineSeconds": 10,
        "preRunningDeadlineSeconds": 10,
        "rayClusterSpec": {
            "authOptions": {"mode": "token"},
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": TEMPLATE},
            "workerGroupSpecs": [],
        },
    },
}
ACCOUNT = {"kind": "ServiceAccount", "metadata": {"name": "drop-ray", "namespace": "n"}}


def pod(**changes):
    return {**TEMPLATE, "spec": {**POD, **changes}}


def container(**changes):
    return pod(containers=[{**CONTAINER, **changes}])


def resources(requests, limits):
    return container(resources={"requests": requests, "limits": limits})


def job(**changes):
    return {**JOB, "spec": {**JOB["spec"], **changes}}


def test_what_keeps_every_practice_has_no_fault():
    assert pod_faults(TEMPLATE) == ray_pod_faults(TEMPLATE) == batch_faults(JOB) == ray_faults(JOB) == []
    assert reference_faults([JOB, ACCOUNT]) == selector_faults([JOB, ACCOUNT]) == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (pod(securityContext={**POD["securityContext"], "runAsUser": 0}), "1000:100"),
        (pod(securityContext={**POD["securityContext"], "runAsNonRoot": False}), "1000:100"),
        (pod(securityContext={**POD["securityContext"], "seccompProfile": None}), "seccomp"),
        (pod(serviceAccountName="default"), "service account"),
        (pod(volumes=[*POD["volumes"], {"name": "more", "emptyDir": {}}]), "no limit"),
        (pod(volumes=[*POD["volumes"], {"name": "disk", "hostPath": {"path": "/"}}]), "the node's"),
        (container(securityContext={**SECURITY, "allowPrivilegeEscalation": None}), "privileges"),
        (container(securityContext={**SECURITY, "readOnlyRootFilesystem": None}), "may write to its image"),
        (container(securityContext={**SECURITY, "capabilities": None}), "capabilities"),
        (resources({"cpu": "1", "memory": "2Gi"}, {"cpu": "1", "memory": "4Gi"}), "other than its limits"),
        (resources({"cpu": "1"}, {"cpu": "1"}), "other than its limits"),
        (resources({"cpu": "1", "memory": "4GB"}, {"cpu": "1", "memory": "4GB"}), "quantities"),
        (container(image="drop-ray"), "pinned image"),
        (container(image="registry.example.com:5000/drop-ray"), "pinned image"),
        (container(image="drop-ray:latest"), "pinned image"),
        (container(volumeMounts=[{"name": "models", "mountPath": "/models"}]), "mounts what"),
        (container(env=[{"name": "HF_TOKEN", "value": "hf_x"}]), "HF_TOKEN in the clear"),
        (container(env=[{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]), "AWS_SECRET_ACCESS_KEY in the clear"),
    ],
)
def test_a_careless_pod_is_caught(broken, fault):
    (found,) = pod_faults(broken)
    assert fault in found


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (pod(restartPolicy="Always"), "restarts"),
        (container(volumeMounts=CONTAINER["volumeMounts"][1:]), "no /dev/shm"),
        (pod(volumes=[{"name": "shm", "emptyDir": {"sizeLimit": "1Gi"}}]), "no /dev/shm in memory"),
        (pod(volumes=[{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}]), "as large as"),
        (container(volumeMounts=CONTAINER["volumeMounts"][:1]), "session"),
    ],
)
def test_a_ray_pod_that_could_starve_its_node_is_caught(broken, fault):
    (found,) = ray_pod_faults(broken)
    assert fault in found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shutdownAfterJobFinishes", False),
        ("ttlSecondsAfterFinished", 10),
        ("ttlSecondsAfterFinished", 86400),
        ("backoffLimit", 0),
        ("backoffLimit", 9),
    ],
)
def test_a_job_that_would_not_end_or_not_be_tried_again_is_caught(field, value):
    assert len(batch_faults(job(**{field: value}))) == 1


@pytest.mark.parametrize("field", ["activeDeadlineSeconds", "preRunningDeadlineSeconds"])
def test_a_job_without_a_deadline_is_caught(field):
    broken = copy.deepcopy(JOB)
    del broken["spec"][field]
    assert len(batch_faults(broken)) == 1


def test_an_open_cluster_and_one_that_works_on_its_head_are_caught():
    cluster = JOB["spec"]["rayClusterSpec"]
    assert ray_faults(job(rayClusterSpec={**cluster, "authOptions": {"mode": "disabled"}})) == [
        "has no token authentication"
    ]
    head = {"rayStartParams": {}, "template": TEMPLATE}
    assert ray_faults(job(rayClusterSpec={**cluster, "headGroupSpec": head})) == ["works on the head"]


def test_names_that_nothing_has_are_caught():
    assert reference_faults([JOB]) == ["ServiceAccount drop-ray is not there"]
    volumes = [
        {"name": "config", "configMap": {"name": "run"}},
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
    ]
    head = {"rayStartParams": {}, "template": pod(volumes=volumes)}
    wanting = job(rayClusterSpec={**JOB["spec"]["rayClusterSpec"], "headGroupSpec": head})
    assert reference_faults([wanting, ACCOUNT]) == [
        "ConfigMap run is not there",
        "PersistentVolumeClaim models is not there",
    ]


def test_a_secret_with_values_and_a_second_namespace_are_caught():
    secret = {"kind": "Secret", "metadata": {"name": "keys", "namespace": "n"}, "data": {"key": "eA=="}}
    assert reference_faults([JOB, ACCOUNT, secret]) == ["keys is a Secret with values"]
    (fault,) = reference_faults([JOB, {**ACCOUNT, "metadata": {"name": "drop-ray", "namespace": "other"}}])
    assert "several namespaces" in fault


def test_a_role_and_a_class_that_nothing_has_are_caught():
    binding = {
        "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "n"},
        "roleRef": {"kind": "Role", "name": "starter"},
        "subjects": [{"kind": "ServiceAccount", "name": "drop-ray"}],
    }
    assert reference_faults([JOB, ACCOUNT, binding]) == ["Role starter is not there"]
    head = {"rayStartParams": {}, "template": pod(priorityClassName="high")}
    wanting = job(rayClusterSpec={**JOB["spec"]["rayClusterSpec"], "headGroupSpec": head})
    assert reference_faults([wanting, ACCOUNT]) == ["PriorityClass high is not there"]
    assert reference_faults([wanting, ACCOUNT, {"kind": "PriorityClass", "metadata": {"name": "high"}}]) == []


TOKEN_MOUNT = {"name": "account", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
STARTING = {"name": "start", "resources": {"limits": {"cpu": "1"}}, "volumeMounts": [TOKEN_MOUNT]}
CHECKING = {"name": "check", "resources": {"limits": {"cpu": "1"}}}
START_POD = {"restartPolicy": "Never", "initContainers": [CHECKING], "containers": [STARTING]}
FAIL = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}}]
START = {"activeDeadlineSeconds": 9, "podFailurePolicy": {"rules": FAIL}, "template": {"spec": START_POD}}


def start(**changes):
    return {"kind": "Job", "spec": {**START, **changes}}


def start_pod(**changes):
    return start(template={"spec": {**START_POD, **changes}})


def nightly(policy):
    return {"kind": "CronJob", "spec": {"concurrencyPolicy": policy, "jobTemplate": {"spec": START}}}


def test_a_sound_start_has_no_fault():
    assert start_faults(start()) == start_faults(nightly("Forbid")) == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (start(podFailurePolicy={"rules": []}), "tries bad input again"),
        (start_pod(restartPolicy="OnFailure"), "tries bad input again"),
        ({"kind": "Job", "spec": {k: v for k, v in START.items() if "Dead" not in k}}, "for ever"),
        (start_pod(initContainers=[{**CHECKING, "resources": {"limits": {"nvidia.com/gpu": "1"}}}]), "asks for GPUs"),
        (start_pod(initContainers=[]), "starts without a check"),
        (start_pod(initContainers=[{**CHECKING, "volumeMounts": [TOKEN_MOUNT]}]), "has a token elsewhere"),
        (start_pod(automountServiceAccountToken=True), "has a token elsewhere"),
        (nightly("Allow"), "may overlap"),
    ],
)
def test_a_careless_start_is_caught(broken, fault):
    (found,) = start_faults(broken)
    assert fault in found


def test_a_container_that_prepares_a_pod_is_looked_at_too():
    careless = {**CONTAINER, "name": "check", "image": "drop-ray"}
    assert pod_faults(pod(initContainers=[careless])) == ["container check has no pinned image"]


def test_selectors_that_select_nothing_are_caught():
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}}
    assert selector_faults([JOB, policy]) == ["NetworkPolicy p selects no pod"]
    service = {"kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}}}
    assert selector_faults([JOB, service]) == ["Service s selects no pod"]


def test_a_budget_that_kubernetes_cannot_compute_is_caught():
    head = {"matchLabels": {**LABELS, "ray.io/node-type": "head"}}
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": head}}
    assert selector_faults([JOB, budget]) == []
    budget["spec"] = {"maxUnavailable": 0, "selector": head}
    assert len(selector_faults([JOB, budget])) == 1


def test_quantities_are_read_as_kubernetes_does():
    assert [bytes_of(text) for text in ("4Gi", "250m", "3", "1.5Ki")] == [4 * 1024**3, 0.25, 3, 1536]
