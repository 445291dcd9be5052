"""The report written anew, and what it lacks, as the driver of a Ray job; takes what `drop-ray report` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_report.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["report", *sys.argv[1:]])
