"""What KubeRay's controller refuses although its schema allows it: functions from a document to its faults.

Source: ray-operator/controllers/ray/utils/validation.go of KubeRay 1.7; of a service's port, common/service.go.
"""

import re
from typing import Any

import yaml

# A DNS-1035 label, as the names of services are that the controller derives from it; a job's cluster gets a suffix.
NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
MAX_CLUSTER_NAME = 63 - len("-serve-svc")
MAX_JOB_NAME = MAX_CLUSTER_NAME - len("-xxxxx")
MAX_SERVICE_NAME = MAX_CLUSTER_NAME - len("-xxxxx")
UPGRADES = {None, "None", "NewCluster", "NewClusterWithIncrementalUpgrade"}
SUBMISSION_MODES = {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}
RESOURCE_PARAMS = {"num-cpus", "num-gpus", "memory", "resources"}
TOKEN_SINCE = (2, 52, 0)

Document = dict[str, Any]


def job_faults(job: Document) -> list[str]:
    """Faults of a RayJob, those of the cluster it asks for included."""
    spec = job["spec"]
    shutdown, selector = spec.get("shutdownAfterJobFinishes", False), spec.get("clusterSelector")
    mode, retries = spec.get("submissionMode", "K8sJobMode"), spec.get("backoffLimit", 0)
    rules = spec.get("deletionStrategy", {}).get("deletionRules")
    broken = {
        "suspend needs shutdownAfterJobFinishes": spec.get("suspend") and not shutdown,
        "ttlSecondsAfterFinished needs shutdownAfterJobFinishes": spec.get("ttlSecondsAfterFinished") and not shutdown,
        "ttlSecondsAfterFinished is negative": spec.get("ttlSecondsAfterFinished", 0) < 0,
        "deletionRules and shutdownAfterJobFinishes exclude each other": rules and shutdown,
        "one of rayClusterSpec and clusterSelector is needed": "rayClusterSpec" not in spec and not selector,
        "clusterSelector forbids suspend": selector and spec.get("suspend"),
        "clusterSelector forbids backoffLimit": selector and retries,
        "clusterSelector forbids SidecarMode": selector and mode == "SidecarMode",
        "submissionMode is none of KubeRay's": mode not in SUBMISSION_MODES,
        "InteractiveMode forbids backoffLimit": mode == "InteractiveMode" and retries,
        "SidecarMode has no submitter pod": mode == "SidecarMode"
        and spec.keys() & {"submitterPodTemplate", "submitterConfig"},
        "backoffLimit is negative": retries < 0,
        "activeDeadlineSeconds is not positive": spec.get("activeDeadlineSeconds", 1) <= 0,
        "runtimeEnvYAML is not a YAML mapping": not _is_mapping(spec.get("runtimeEnvYAML", "{}")),
    }
    faults = _name_faults(job, MAX_JOB_NAME) + [fault for fault, is_broken in broken.items() if is_broken]
    return faults + (spec_faults(spec["rayClusterSpec"]) if "rayClusterSpec" in spec else [])


def service_faults(service: Document) -> list[str]:
    """Faults of a RayService, those of its cluster included. A port `serve` makes its Service."""
    spec = service["spec"]
    cluster = spec["rayClusterConfig"]
    head = cluster["headGroupSpec"]
    ports = {port["name"] for each in head["template"]["spec"]["containers"][:1] for port in each.get("ports", [])}
    upgrade = spec.get("upgradeStrategy", {}).get("type")
    broken = {
        "serveConfigV2 is not a YAML mapping": not _is_mapping(spec.get("serveConfigV2", "")),
        "authentication by Kubernetes is not for a RayService": cluster.get("authOptions", {}).get("mode") == "k8s",
        "the head's Service has a name": head.get("headService", {}).get("metadata", {}).get("name"),
        "no port of the head is named serve": not ports & {"serve"} and "serveService" not in spec,
        "upgradeStrategy is none of KubeRay's": upgrade not in UPGRADES,
        "an incremental upgrade needs the autoscaler": upgrade == "NewClusterWithIncrementalUpgrade"
        and not cluster.get("enableInTreeAutoscaling"),
        "rayClusterDeletionDelaySeconds is negative": spec.get("rayClusterDeletionDelaySeconds", 0) < 0,
    }
    faults = _name_faults(service, MAX_SERVICE_NAME) + [fault for fault, is_broken in broken.items() if is_broken]
    return faults + spec_faults(cluster)


def cluster_faults(cluster: Document) -> list[str]:
    """Faults of a RayCluster."""
    return _name_faults(cluster, MAX_CLUSTER_NAME) + spec_faults(cluster["spec"])


def spec_faults(spec: Document) -> list[str]:
    """Faults of a cluster's specification."""
    workers = spec.get("workerGroupSpecs", [])
    scales = spec.get("enableInTreeAutoscaling", False)
    faults = [fault for group in [spec["headGroupSpec"], *workers] for fault in _group_faults(group)]
    names = [group["groupName"] for group in workers]
    if len(set(names)) < len(names):
        faults.append("two worker groups have one name")
    if not scales and any(not {"minReplicas", "maxReplicas"} <= group.keys() for group in workers):
        faults.append("without the autoscaler a worker group needs minReplicas and maxReplicas")
    faults += _autoscaler_faults(spec) if scales else []
    if spec.get("authOptions", {}).get("mode") == "token" and _version(spec.get("rayVersion", "")) < TOKEN_SINCE:
        faults.append("token authentication needs rayVersion 2.52.0 at least")
    return faults


def _group_faults(group: Document) -> list[str]:
    name, params = group.get("groupName", "head"), group.get("rayStartParams", {})
    broken = {
        "has no container": not group["template"]["spec"].get("containers"),
        "names resources in rayStartParams and beside it": params.keys() & RESOURCE_PARAMS and group.get("resources"),
        "has labels in rayStartParams": "labels" in params,
        "has fewer replicas than minReplicas": group.get("replicas", 0) < group.get("minReplicas", 0),
        "has more replicas than maxReplicas": group.get("replicas", 0) > group.get("maxReplicas", float("inf")),
    }
    return [f"{name} {fault}" for fault, is_broken in broken.items() if is_broken]


def _autoscaler_faults(spec: Document) -> list[str]:
    if spec.get("autoscalerOptions", {}).get("version") != "v2":
        return []
    pods = [group["template"]["spec"] for group in [spec["headGroupSpec"], *spec.get("workerGroupSpecs", [])]]
    restarts = any(pod.get("restartPolicy", "Never") != "Never" for pod in pods)
    return ["autoscaler v2 needs restartPolicy Never"] if restarts else []


def _name_faults(document: Document, longest: int) -> list[str]:
    name = document["metadata"]["name"]
    return [] if re.fullmatch(NAME, name) and len(name) <= longest else [f"the name {name} is not one of a service"]


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(yaml.safe_load(text), dict)
    except yaml.YAMLError:
        return False


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", text) else ()
