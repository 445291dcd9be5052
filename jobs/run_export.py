"""Everything up to the exported checkpoints as the driver of a Ray job; takes what `drop-ray export` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_export.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["export", *sys.argv[1:]])
