"""Each rule of KubeRay's controller catches the document that breaks it, and nothing in one that keeps them all."""

import copy

import pytest
from controller_rules import cluster_faults, job_faults, service_faults

POD = {"spec": {"containers": [{"name": "ray"}], "restartPolicy": "Never"}}
WORKERS = {
    "groupName": "workers",
    "replicas": 1,
    "minReplicas": 1,
    "maxReplicas": 2,
    "rayStartParams": {},
    "template": POD,
}
CLUSTER = {
    "rayVersion": "2.60.0",
    "authOptions": {"mode": "token"},
    "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": POD},
    "workerGroupSpecs": [WORKERS],
}
JOB = {"metadata": {"name": "a-job"}, "spec": {"shutdownAfterJobFinishes": True, "rayClusterSpec": CLUSTER}}
SERVING = {"spec": {"containers": [{"name": "ray", "ports": [{"name": "serve"}]}], "restartPolicy": "Never"}}
SERVING_CLUSTER = {**CLUSTER, "headGroupSpec": {**CLUSTER["headGroupSpec"], "template": SERVING}}
SERVICE = {
    "metadata": {"name": "a-service"},
    "spec": {"serveConfigV2": "applications: []", "rayClusterConfig": SERVING_CLUSTER},
}
ALWAYS = {"spec": {"containers": [{"name": "ray"}], "restartPolicy": "Always"}}
V2 = {"enableInTreeAutoscaling": True, "autoscalerOptions": {"version": "v2"}}


def job(**changes):
    """The sound job with other fields; those that are None are left out."""
    changed = copy.deepcopy(JOB)
    fields = {**changed["spec"], **changes}
    changed["spec"] = {name: value for name, value in fields.items() if value is not None}
    return changed


def with_cluster(**changes):
    return job(rayClusterSpec={**CLUSTER, **changes})


def test_a_sound_job_and_cluster_have_no_fault():
    assert job_faults(JOB) == []
    assert job_faults(with_cluster(**V2)) == []
    assert cluster_faults({"metadata": {"name": "c"}, "spec": CLUSTER}) == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (job(shutdownAfterJobFinishes=False, suspend=True), "suspend needs"),
        (job(shutdownAfterJobFinishes=None, ttlSecondsAfterFinished=10), "ttlSecondsAfterFinished needs"),
        (job(ttlSecondsAfterFinished=-1), "negative"),
        (job(deletionStrategy={"deletionRules": [{"policy": "DeleteSelf"}]}), "exclude each other"),
        (job(rayClusterSpec=None), "one of rayClusterSpec"),
        (job(clusterSelector={"ray.io/cluster": "c"}, suspend=True), "clusterSelector forbids suspend"),
        (job(clusterSelector={"ray.io/cluster": "c"}, backoffLimit=1), "clusterSelector forbids backoffLimit"),
        (job(clusterSelector={"ray.io/cluster": "c"}, submissionMode="SidecarMode"), "forbids SidecarMode"),
        (job(submissionMode="K8sJob"), "none of KubeRay's"),
        (job(submissionMode="InteractiveMode", backoffLimit=1), "InteractiveMode forbids"),
        (job(submissionMode="SidecarMode", submitterConfig={"backoffLimit": 0}), "no submitter pod"),
        (job(backoffLimit=-1), "backoffLimit is negative"),
        (job(activeDeadlineSeconds=0), "activeDeadlineSeconds"),
        (job(runtimeEnvYAML="env_vars: {A: b"), "runtimeEnvYAML"),
        (job(runtimeEnvYAML="just text"), "runtimeEnvYAML"),
        ({**JOB, "metadata": {"name": "j" * 48}}, "the name"),
        ({**JOB, "metadata": {"name": "7b-run"}}, "the name"),
        ({**JOB, "metadata": {"name": "llama_3"}}, "the name"),
    ],
)
def test_a_job_against_a_rule_is_caught(broken, fault):
    (found,) = job_faults(broken)
    assert fault in found


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (with_cluster(rayVersion="2.51.1"), "token authentication"),
        (with_cluster(rayVersion=""), "token authentication"),
        (with_cluster(workerGroupSpecs=[WORKERS, WORKERS]), "one name"),
        (with_cluster(workerGroupSpecs=[{"groupName": "w", "template": POD}]), "needs minReplicas"),
        (with_cluster(workerGroupSpecs=[{**WORKERS, "replicas": 0}]), "fewer replicas"),
        (with_cluster(workerGroupSpecs=[{**WORKERS, "replicas": 3}]), "more replicas"),
        (with_cluster(workerGroupSpecs=[{**WORKERS, "rayStartParams": {"labels": "a=b"}}]), "labels"),
        (with_cluster(headGroupSpec={**CLUSTER["headGroupSpec"], "resources": {"CPU": "0"}}), "beside it"),
        (with_cluster(headGroupSpec={"rayStartParams": {}, "template": {"spec": {"containers": []}}}), "no container"),
        (with_cluster(**V2, workerGroupSpecs=[{**WORKERS, "template": ALWAYS}]), "restartPolicy Never"),
    ],
)
def test_a_cluster_against_a_rule_is_caught_alone_and_in_a_job(broken, fault):
    (found,) = job_faults(broken)
    assert fault in found
    assert cluster_faults({"metadata": {"name": "c"}, "spec": broken["spec"]["rayClusterSpec"]}) == [found]


def test_a_cluster_whose_service_would_have_too_long_a_name_is_caught():
    assert cluster_faults({"metadata": {"name": "c" * 54}, "spec": CLUSTER}) != []


def service(**changes):
    return {**SERVICE, "spec": {**SERVICE["spec"], **changes}}


def test_a_sound_service_has_no_fault():
    assert service_faults(SERVICE) == []
    assert service_faults(service(rayClusterConfig=CLUSTER, serveService={"spec": {}})) == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (service(serveConfigV2="applications: ["), "serveConfigV2"),
        (service(serveConfigV2=""), "serveConfigV2"),
        (service(rayClusterConfig=CLUSTER), "no port of the head is named serve"),
        (service(rayClusterConfig={**SERVING_CLUSTER, "authOptions": {"mode": "k8s"}}), "authentication by Kubernetes"),
        (service(upgradeStrategy={"type": "InPlace"}), "upgradeStrategy"),
        (service(upgradeStrategy={"type": "NewClusterWithIncrementalUpgrade"}), "needs the autoscaler"),
        (service(rayClusterDeletionDelaySeconds=-1), "negative"),
        (service(rayClusterConfig={**SERVING_CLUSTER, "workerGroupSpecs": [WORKERS, WORKERS]}), "one name"),
        ({**SERVICE, "metadata": {"name": "s" * 48}}, "the name"),
    ],
)
def test_a_service_against_a_rule_is_caught(broken, fault):
    (found,) = service_faults(broken)
    assert fault in found
