"""How long `drop-ray --help` and importing the command line take, as whole processes.

    python tests/benchmarks/startup.py

Target: under 0.5 s each (median of seven).
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import drop_ray.cli": [sys.executable, "-c", "import drop_ray.cli"],
    "drop-ray --help": [sys.executable, "-c", "from drop_ray.cli import main; main(['--help'])"],
}


def main():
    for name, command in COMMANDS.items():
        times = []
        for _ in range(7):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - start)
        print(f"{name:20} median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
