"""Everything up to the quantized checkpoints as the driver of a Ray job; takes what `drop-ray quantize` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_quantize.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["quantize", *sys.argv[1:]])
