"""Scores and drop plans as the driver of a Ray job; takes what `drop-ray plan` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_plan.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["plan", *sys.argv[1:]])
