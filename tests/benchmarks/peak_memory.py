"""Peak memory of one model's work, in a process of its own, against the target that the work streams its tensors."""

import subprocess
import sys

MIB = 1 << 20


def print_peak(script, form, location, weights, largest):
    """Run `script --only location`, which prints its peak after the imports and in all, in MiB.

    weights: bytes of the model; largest: of its largest tensor.
    """
    result = subprocess.run([sys.executable, script, "--only", location], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    imports, total = map(float, result.stdout.split())
    weights, largest = weights / MIB, largest / MIB
    print(
        f"{form:11} {weights:5.0f} MiB of weights, largest tensor {largest:4.0f} MiB: peak {total:5.0f} MiB, "
        f"{total - imports:4.0f} above the imports (target: less than {2 * largest + 300:.0f})"
    )
