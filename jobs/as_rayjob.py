"""The whole job as the driver of KubeRay's RayJob; takes what `drop-ray run` takes.

What the input is to blame for ends the RayJob as STOPPED, which is not tried again; what failed is FAILED, which is.
"""

import sys

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.runtime.rayjob import stop_own_job

if __name__ == "__main__":
    try:
        code = main(["run", *sys.argv[1:]])
    except SystemExit as ended:  # arguments that are none
        code = ended.code if isinstance(ended.code, int) else 1
    if code == UserError.exit_code:
        stop_own_job()
    sys.exit(code)
