"""Everything up to the refitted plans as the driver of a Ray job; takes what `drop-ray refit` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_refit.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["refit", *sys.argv[1:]])
