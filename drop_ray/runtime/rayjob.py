"""A run as KubeRay's RayJob, which must not be tried again if its input is at fault.

KubeRay 1.7 tries every Ray job again that ended as FAILED, on a new cluster, and knows no exit codes: its submitter's
Job takes no podFailurePolicy (ray-operator/controllers/ray/rayjob_controller.go, createNewK8sJob and
checkBackoffLimitAndUpdateStatusIfNeeded). A job that was STOPPED it takes as complete. So a driver that finds its input
at fault has Ray stop it.
"""

import os
import sys
import time

from drop_ray.errors import UserError
from drop_ray.runtime.job_client import NO_ANSWER, connect, first_line
from drop_ray.runtime.ray_private import own_job

# The driver is on the head; Ray's own variable RAY_API_SERVER_ADDRESS names another place.
DASHBOARD = "http://127.0.0.1:8265"
# Ray stops a job within seconds of being told to.
STOPPED_S = 60.0


def stop_own_job() -> None:
    """Have Ray stop the job of this driver, and wait for it. Returns, having said so, if Ray does not."""
    job = own_job()
    if job is None:
        return
    print(f"drop-ray: stopping {job}: with this input another attempt would end the same", file=sys.stderr, flush=True)
    try:
        connect(os.environ.get("RAY_API_SERVER_ADDRESS", DASHBOARD)).stop_job(job)
    except (UserError, *NO_ANSWER) as error:
        print(f"drop-ray: {job} could not be stopped, and may be tried again: {first_line(error)}", file=sys.stderr)
        return
    time.sleep(STOPPED_S)
