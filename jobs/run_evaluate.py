"""Everything up to the evaluation in 16 bits as the driver of a Ray job; takes what `drop-ray evaluate` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_evaluate.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["evaluate", *sys.argv[1:]])
