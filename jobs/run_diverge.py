"""Everything up to the divergence panels as the driver of a Ray job; takes what `drop-ray diverge` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_diverge.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["diverge", *sys.argv[1:]])
