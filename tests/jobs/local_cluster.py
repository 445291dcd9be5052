"""cluster/local.sh as a test uses it: a cluster in a folder of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

SCRIPT = Path(__file__).parents[2] / "cluster" / "local.sh"
FORWARDED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")


class LocalCluster:
    """run() leaves `code` and `output` of the script."""

    def __init__(self):
        # Short: Ray's sockets lie in it, and a socket's path has 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="dr", dir="/tmp"))
        # The job shall have what it is given by name, and nothing from the cluster's own environment.
        hidden = (*FORWARDED, "RAY_ADDRESS", "RAY_AUTH_MODE")
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.environment |= {"DROP_RAY_CLUSTER": str(self.folder), "PYTHON": sys.executable}
        # Ray kills after 3 s what it asked to end. A driver takes .4 s, more on a busy machine.
        self.environment |= {"RAY_JOB_STOP_WAIT_TIME_S": "10"}

    def run(self, *arguments):
        result = subprocess.run([SCRIPT, *arguments], env=self.environment, capture_output=True, text=True, timeout=300)
        self.code, self.output = result.returncode, result.stdout + result.stderr
        return self.output

    @property
    def address(self):
        return (self.folder / "address").read_text().strip()

    @property
    def client_environment(self):
        """Of a command that talks to the cluster: this process's, with the cluster's token."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "auth_token")}
        return os.environ | token

    @property
    def processes(self):
        """Every process of the cluster, by its command line."""
        found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
        return [process for process in found if any(str(self.folder) in part for part in process.info["cmdline"])]

    def command(self, *arguments):
        """`drop-ray submit run.yaml` with the store's credentials, as a command line."""
        named = [part for name in FORWARDED for part in ("--env", name)]
        return [
            *(sys.executable, "-m", "drop_ray", "submit", "run.yaml", "--address", self.address, *named),
            *arguments,
        ]
