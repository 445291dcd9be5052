"""What a command prints into a pipe that is closed early."""

import os
import subprocess
import sys


def test_a_reader_who_has_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    code = "from drop_ray.text.console import show; show(map(str, range(10**6)))"
    try:
        result = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")
