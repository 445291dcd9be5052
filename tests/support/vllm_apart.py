"""A program with vLLM in a process of its own: vLLM takes seconds to import, and changes settings of the process."""

import json
import os
import subprocess
import sys

SETTINGS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}


def answer_of(program, request, output, **settings):
    """What it writes as JSON to the file `output`, whose name it gets with the request. settings: its environment."""
    done = subprocess.run(
        [sys.executable, str(program), json.dumps({**request, "output": str(output)})],
        env={**os.environ, **SETTINGS, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text())
