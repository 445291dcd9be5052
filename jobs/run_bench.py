"""Everything up to the serving benchmark as the driver of a Ray job; takes what `drop-ray bench` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_bench.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["bench", *sys.argv[1:]])
