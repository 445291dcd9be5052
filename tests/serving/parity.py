"""A tiny model of a family with some sub-layers dropped, served by vLLM and run by transformers: are they the same?

    python tests/serving/parity.py                     the table of all families and drop patterns
    python tests/serving/parity.py LlamaForCausalLM    of one

Every family has a process of its own: vLLM takes seconds to import, and changes settings and classes of the process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from drop_ray.models.families import FAMILIES, DropLists

NUM_LAYERS = 4
PATTERNS = {
    "nothing": DropLists(),
    "attention 0, 2": DropLists(attn=(0, 2)),
    "blocks 0, 3": DropLists(attn=(0, 3), mlp=(0, 3)),
    "attention 0, 1, 2; MLP 1, 2": DropLists(attn=(0, 1, 2), mlp=(1, 2)),
    "MLP 0, 3": DropLists(mlp=(0, 3)),
    "attention 0, 1, 2, 3": DropLists(attn=(0, 1, 2, 3)),
}
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
# Forms of the same model. The last two are full checkpoints, of which vLLM must not serve the full model.
FORMS = ("dropped", "llm-drop", "hf_overrides")


@dataclass(frozen=True)
class Parity:
    """What one engine gave. difference: the largest of a prompt token's log-probability to that of transformers;
    without_attention, without_mlp: layers whose modules of it have no weights; kv_tokens: what a KV cache of one size
    holds, None if the model needs none."""

    architecture: str
    pattern: str
    form: str
    greedy_equal: bool
    difference: float
    without_attention: list[int]
    without_mlp: list[int]
    kv_tokens: int | None
    block_size: int


def run_family(
    architecture: str, patterns: Iterable[str] = tuple(PATTERNS), forms: Iterable[str] = ("dropped",), **engine
) -> list[Parity]:
    """Serve every pattern in every form, in one new process. `engine`: more arguments of vllm.LLM."""
    with TemporaryDirectory() as folder:
        request = [architecture, list(patterns), list(forms), engine, folder]
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
        if "distributed_executor_backend" in engine:
            environment["VLLM_CPU_OMP_THREADS_BIND"] = "0|1"  # a core for each of two ranks
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("parity_engine.py"), json.dumps(request)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{architecture}: vLLM failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return [Parity(**fields) for fields in json.loads((Path(folder) / "results.json").read_text())]


def table(architectures: Iterable[str]) -> Iterator[str]:
    """Lines of Markdown, as they are measured."""
    yield "| architecture | dropped | greedy equal | max log-probability difference | KV tokens, full | dropped |"
    yield "|---|---|---|---:|---:|---:|"
    for architecture in architectures:
        full, *rows = run_family(architecture)
        for row in [full, *rows]:
            yield (
                f"| {architecture.removesuffix('ForCausalLM')} | {row.pattern} | {'yes' if row.greedy_equal else 'NO'} "
                f"| {row.difference:.1e} | {full.kv_tokens} | {row.kv_tokens or 'no cache'} |"
            )


if __name__ == "__main__":
    for line in table(sys.argv[1:] or FAMILIES):
        print(line, flush=True)
