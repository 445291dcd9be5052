"""Peak memory of one model's work, in a process of its own, against the target that the work streams its tensors."""

import subprocess
import sys

MIB = 1 << 20


def print_peak(script, form, location, weights, largest, target=None, arguments=()):
    """Run `script --only location`, which prints its peak after the imports and in all, in MiB.

    weights: bytes of the model; largest: of its largest tensor; target: bytes above the imports, by default twice the
    largest tensor and 300 MiB; arguments: further ones of the script.
    """
    command = [sys.executable, script, "--only", location, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    imports, total = map(float, result.stdout.split())
    weights, largest = weights / MIB, largest / MIB
    limit = 2 * largest + 300 if target is None else target / MIB
    print(
        f"{form:20} {weights:5.0f} MiB of weights, largest tensor {largest:4.0f} MiB: peak {total:5.0f} MiB, "
        f"{total - imports:4.0f} above the imports (target: less than {limit:.0f})"
    )
