"""Starts a run on Kubernetes: a copy of a RayJob that is held, once the run before has ended.

The RayJob of the manifests is held by `suspend`, and has no cluster. So it may be applied again at any time, while the
run goes on. A pod of CPUs starts the run when it has checked it: once, or every night.
"""

import time
from typing import Any

from drop_ray.errors import UserError
from drop_ray.runtime.kubernetes import KubernetesError, Object, RayJobs

# Of `status.jobDeploymentStatus`: ray-operator/apis/ray/v1/rayjob_types.go of KubeRay 1.7. `Retrying` is none of them.
ENDED = {"Complete", "Failed", "ValidationFailed"}
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
# What `kubectl apply` notes down of the held RayJob would be wrong of the copy.
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
GONE_S, POLL_S = 600.0, 2.0


def start(jobs: RayJobs, held: str, name: str, queue: str | None = None) -> None:
    """Create the RayJob `name` as the held one says, in place of one that has ended.

    queue: the LocalQueue of Kueue that decides when it starts. UserError if a run of that name has not ended.
    """
    template = jobs.get(held)
    if template is None:
        raise UserError(f"there is no RayJob {held} in the namespace {jobs.namespace}; kubectl apply -k the overlay")
    if not template["spec"].get("suspend"):
        raise UserError(f"the RayJob {held} is not held: set its spec.suspend, or it runs itself")
    before = jobs.get(name)
    if before is not None:
        state = before.get("status", {}).get("jobDeploymentStatus") or "new"
        if state not in ENDED and "deletionTimestamp" not in before["metadata"]:
            raise UserError(
                f"the RayJob {name} has not ended ({state}), so nothing was started; wait for it, or end it by "
                f"kubectl -n {jobs.namespace} delete rayjob {name}"
            )
        _remove(jobs, name)
    jobs.create(copy_of(template, name, queue))


def copy_of(held: Object, name: str, queue: str | None) -> Object:
    """The RayJob that runs: it goes with the held one, and begins at once, or when Kueue lets it."""
    metadata = held["metadata"]
    labels: dict[str, Any] = {**metadata.get("labels", {}), **({QUEUE_LABEL: queue} if queue else {})}
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != APPLIED}
    owner = {"apiVersion": held["apiVersion"], "kind": held["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": held["apiVersion"],
        "kind": held["kind"],
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        # Kueue itself begins a job that is suspended.
        "spec": {**held["spec"], "suspend": queue is not None},
    }


def _remove(jobs: RayJobs, name: str) -> None:
    """Delete a RayJob, and wait until it is gone: KubeRay first deletes what belongs to it."""
    jobs.delete(name)
    limit = time.monotonic() + GONE_S
    while jobs.get(name) is not None:
        if time.monotonic() > limit:
            raise KubernetesError(f"the RayJob {name} is still there {GONE_S:.0f} s after it was deleted")
        time.sleep(POLL_S)
