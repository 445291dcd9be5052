"""Starts a run on Kubernetes from a pod: a copy of a RayJob that is held, in place of one that has ended.

python jobs/start_rayjob.py HELD --name NAME [--queue LOCAL_QUEUE]
"""

import argparse
import sys

from drop_ray.errors import DropRayError
from drop_ray.runtime.kubernetes import rayjobs_of_this_pod
from drop_ray.runtime.rayjob_start import start

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("held", help="name of the RayJob that says what to run; its spec.suspend is true")
    parser.add_argument("--name", required=True, help="name of the RayJob that runs")
    parser.add_argument("--queue", help="the LocalQueue of Kueue that it waits in")
    options = parser.parse_args()
    try:
        start(rayjobs_of_this_pod(), options.held, options.name, options.queue)
    except DropRayError as error:
        print(f"drop-ray: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"the RayJob {options.name} was created: kubectl get rayjob {options.name} -w")
