"""Everything up to the damage gates in 16 bits as the driver of a Ray job; takes what `drop-ray gates` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_gates.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["gates", *sys.argv[1:]])
