"""What this project asks of its manifests beyond what Kubernetes takes: functions from documents to their faults."""

import re
from typing import Any

from documents import Document, of_kind, pod_templates, ray_spec

QUANTITY = r"\d+(\.\d+)?(m|[kMGTP]i?)?"
UNITS = {"": 1, "m": 1e-3} | {f"{unit}i": 1024**power for power, unit in enumerate("KMGTP", start=1)}
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
# In every namespace, by Kubernetes itself.
KUBERNETES_OWN = {"kube-root-ca.crt"}
# Objects of the cluster, which have no namespace.
CLUSTER_WIDE = {"PriorityClass"}
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|ACCESS_KEY")


def pod_faults(template: Document) -> list[str]:
    """Faults of a pod template: who it runs as, how much it may use, what it holds in the clear."""
    pod = template["spec"]
    security = pod.get("securityContext", {})
    ids = (security.get("runAsUser"), security.get("runAsGroup"))
    faults = []
    if not security.get("runAsNonRoot") or ids != (1000, 100):
        faults.append("does not run as 1000:100, the image's user")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        faults.append("has no seccomp profile")
    if pod.get("serviceAccountName") != "drop-ray":
        faults.append("has another service account")
    for volume in pod.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            faults.append(f"volume {volume['name']} has no limit")
        if "hostPath" in volume:
            faults.append(f"volume {volume['name']} is the node's")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in containers(template):
        faults += [f"container {container['name']} {fault}" for fault in _container_faults(container, volumes)]
    return faults


def ray_pod_faults(template: Document) -> list[str]:
    """Faults of a pod that Ray runs in: its object store and its session must not take the node's memory and disk."""
    pod = template["spec"]
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    faults = [] if pod.get("restartPolicy") == "Never" else ["restarts in place, with its state lost"]
    if "/dev/shm" not in mounts or volumes[mounts["/dev/shm"]].get("emptyDir", {}).get("medium") != "Memory":
        faults.append("has no /dev/shm in memory")
    elif bytes_of(volumes[mounts["/dev/shm"]]["emptyDir"]["sizeLimit"]) >= bytes_of(
        container["resources"]["limits"]["memory"]
    ):
        faults.append("has a /dev/shm as large as its memory")
    if not {"/tmp", "/tmp/ray"} & mounts.keys():
        faults.append("writes Ray's session to the node's disk")
    return faults


def batch_faults(job: Document) -> list[str]:
    """Faults of a RayJob as a batch job: it must end, free what it held, and be tried again."""
    spec = job["spec"]
    broken = {
        "keeps its cluster when it is done": not spec.get("shutdownAfterJobFinishes"),
        "vanishes before anybody reads its state": not 300 <= spec.get("ttlSecondsAfterFinished", 0) <= 900,
        "is not tried again": not 1 <= spec.get("backoffLimit", 0) <= 2,
        "may run for ever": "activeDeadlineSeconds" not in spec,
        "may wait for ever": "preRunningDeadlineSeconds" not in spec,
    }
    return [fault for fault, is_broken in broken.items() if is_broken]


def ray_faults(document: Document) -> list[str]:
    """Faults of a RayJob's or RayCluster's cluster."""
    spec = ray_spec(document)
    broken = {
        "has no token authentication": spec.get("authOptions", {}).get("mode") != "token",
        "works on the head": spec["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0",
    }
    return [fault for fault, is_broken in broken.items() if is_broken]


def reference_faults(documents: list[Document]) -> list[str]:
    """Names that one object of an overlay uses and no other has; Secrets must be none of the overlay's."""
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    wanted = set()
    for template in _templates(documents):
        wanted.add(("ServiceAccount", template["spec"]["serviceAccountName"]))
        if "priorityClassName" in template["spec"]:
            wanted.add(("PriorityClass", template["spec"]["priorityClassName"]))
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume:
                wanted.add(("ConfigMap", volume["configMap"]["name"]))
            if "projected" in volume:
                sources = [
                    source["configMap"]["name"] for source in volume["projected"]["sources"] if "configMap" in source
                ]
                wanted |= {("ConfigMap", name) for name in sources if name not in KUBERNETES_OWN}
            if "persistentVolumeClaim" in volume:
                wanted.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    for binding in of_kind(documents, "RoleBinding"):
        wanted.add((binding["roleRef"]["kind"], binding["roleRef"]["name"]))
        wanted |= {(subject["kind"], subject["name"]) for subject in binding["subjects"]}
    faults = [f"{kind} {name} is not there" for kind, name in sorted(wanted - names)]
    faults += [f"{document['metadata']['name']} is a Secret with values" for document in of_kind(documents, "Secret")]
    namespaces = {each["metadata"].get("namespace") for each in documents if each["kind"] not in CLUSTER_WIDE}
    return faults if len(namespaces) == 1 else [*faults, f"objects lie in several namespaces: {namespaces}"]


def selector_faults(documents: list[Document]) -> list[str]:
    """Selectors of network policies, budgets, services and deployments that select no pod of the overlay."""
    labels = [template["metadata"]["labels"] for template in _templates(documents)]
    # KubeRay adds these to the pods of a cluster.
    labels += [{**given, "ray.io/node-type": kind} for given in labels for kind in ("head", "worker")]
    faults = []
    for document in of_kind(documents, "NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment"):
        spec = document["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        wanted = selector.get("matchLabels", selector)
        if not any(wanted.items() <= given.items() for given in labels):
            faults.append(f"{document['kind']} {document['metadata']['name']} selects no pod")
        if document["kind"] == "PodDisruptionBudget" and not isinstance(spec.get("minAvailable"), int):
            faults.append("a budget of pods without a scale needs minAvailable as a number")
    return faults


def bytes_of(quantity: str) -> float:
    """A quantity of Kubernetes as a number: 4Gi, 250m."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", quantity).groups()
    return float(number) * UNITS[unit]


def containers(template: Document) -> list[Document]:
    """All containers of a pod, those that prepare it first."""
    pod = template["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def start_faults(job: Document) -> list[str]:
    """Faults of a Job that starts a run: bad input must end it, and a token must be for the container that needs it."""
    spec = job["spec"]["jobTemplate"]["spec"] if job["kind"] == "CronJob" else job["spec"]
    pod = spec["template"]["spec"]
    holders = [each["name"] for each in containers(spec["template"]) if TOKEN in str(each.get("volumeMounts"))]
    ended = [rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    broken = {
        "tries bad input again": ended != [{"operator": "In", "values": [2]}] or pod["restartPolicy"] != "Never",
        "may run for ever": "activeDeadlineSeconds" not in spec,
        "asks for GPUs": any("nvidia.com/gpu" in each["resources"]["limits"] for each in containers(spec["template"])),
        "starts without a check": [each["name"] for each in pod.get("initContainers", [])] != ["check"],
        "has a token elsewhere": holders != ["start"] or pod.get("automountServiceAccountToken", False),
        "may overlap the night before": job["kind"] == "CronJob" and job["spec"]["concurrencyPolicy"] != "Forbid",
    }
    return [fault for fault, is_broken in broken.items() if is_broken]


def _container_faults(container: Document, volumes: set[str]) -> list[str]:
    security, resources = container.get("securityContext", {}), container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    broken = {
        "may gain privileges": security.get("allowPrivilegeEscalation") is not False,
        "may write to its image": security.get("readOnlyRootFilesystem") is not True,
        "keeps capabilities": security.get("capabilities") != {"drop": ["ALL"]},
        "asks for other than its limits": requests != limits or not {"cpu", "memory"} <= limits.keys(),
        "has no pinned image": not re.fullmatch(r"[^@:]+(:\d+/[^@:]+)?:(?!latest$)[\w.-]+", container.get("image", "")),
        "mounts what the pod has not": not {m["name"] for m in container.get("volumeMounts", [])} <= volumes,
        "has quantities that are none": not all(re.fullmatch(QUANTITY, str(value)) for value in limits.values()),
    }
    faults = [fault for fault, is_broken in broken.items() if is_broken]
    inline = [entry["name"] for entry in container.get("env", []) if "value" in entry and _is_secret(entry["name"])]
    return faults + [f"has {name} in the clear" for name in inline]


def _is_secret(name: str) -> bool:
    return SECRET_NAME.search(name) is not None


def _templates(documents: list[Document]) -> list[dict[str, Any]]:
    return [template for document in documents for template in pod_templates(document).values()]
