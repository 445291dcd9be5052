"""Scoring alone as the driver of a Ray job; takes what `drop-ray score` takes.

ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run_score.py jobs/configs/demo.yaml
"""

import sys

from drop_ray.cli import console

if __name__ == "__main__":
    console(["score", *sys.argv[1:]])
