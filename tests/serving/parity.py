"""A tiny model of a family with some sub-layers dropped, served by vLLM and run by transformers: are they the same?

    python tests/serving/parity.py                         the table of all families and drop patterns
    python tests/serving/parity.py LlamaForCausalLM        of one
    python tests/serving/parity.py LlamaForCausalLM/fp8    of one whose files are quantized so

Families share a process of their own: vLLM takes seconds to import, and changes settings and classes of the process.
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
    # For layers of one sub-layer each: linear attention, an MLP, attention, experts.
    "attention 0; MLP 1": DropLists(attn=(0,), mlp=(1,)),
}
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
# Forms of the same model. The last two are full checkpoints, of which vLLM must not serve the full model.
FORMS = ("dropped", "llm-drop", "hf_overrides")
SERVED = dict.fromkeys(name for name, family in FAMILIES.items() if family.is_served)
# Hybrids and unlisted families that are served too, with the patterns that vLLM can compute on a CPU. A hybrid needs an
# attention; the state spaces of Jamba and the experts of Nemotron are not for CPUs.
ONE_ATTENTION = ("nothing", "attention 0, 2", "blocks 0, 3", "attention 0, 1, 2; MLP 1, 2")
NO_LINEAR = ("attention 0, 2", "attention 0, 1, 2; MLP 1, 2")
FURTHER = {
    "GraniteMoeHybridForCausalLM": ONE_ATTENTION,
    "FalconH1ForCausalLM": ONE_ATTENTION,
    "Lfm2ForCausalLM": ONE_ATTENTION,
    "Qwen3NextForCausalLM": ONE_ATTENTION,
    "JambaForCausalLM": NO_LINEAR,
    "NemotronHForCausalLM": ("nothing", "attention 0; MLP 1"),
    "GemmaForCausalLM": tuple(PATTERNS)[:-1],
    "GPTNeoXForCausalLM": tuple(PATTERNS)[:-1],
}


@dataclass(frozen=True)
class Parity:
    """What one engine gave. is_exact: whether it computed in float32; difference: the largest of a prompt token's
    log-probability to that of transformers in float32; without_attention, without_mlp: layers whose modules of it have
    no weights; kv_tokens: what a KV cache of one size holds, None if the model needs none."""

    architecture: str
    pattern: str
    form: str
    is_exact: bool
    greedy_equal: bool
    difference: float
    without_attention: list[int]
    without_mlp: list[int]
    kv_tokens: int | None
    block_size: int


def patterns_of(architecture: str) -> tuple[str, ...]:
    return FURTHER.get(architecture, tuple(PATTERNS)[:-1])


def run_families(architectures: Iterable[str], cases: Iterable[tuple[str, str]], **engine) -> list[Parity]:
    """Serve every case, a pattern in a form, of every family, in one new process. `engine`: arguments of vllm.LLM."""
    with TemporaryDirectory() as folder:
        request = [list(architectures), list(cases), engine, folder]
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": python_path()}
        if "distributed_executor_backend" in engine:
            environment["VLLM_CPU_OMP_THREADS_BIND"] = "0|1"  # a core for each of two ranks
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("parity_engine.py"), json.dumps(request)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{request[0]}: vLLM failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return [Parity(**fields) for fields in json.loads((Path(folder) / "results.json").read_text())]


def python_path() -> str:
    return os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])


def table(architectures: Iterable[str]) -> Iterator[str]:
    """Lines of Markdown, as they are measured."""
    yield "| architecture | dropped | greedy equal | max log-probability difference | KV tokens |"
    yield "|---|---|---|---:|---:|"
    for architecture in architectures:
        for row in run_families([architecture], [(pattern, "dropped") for pattern in patterns_of(architecture)]):
            yield (
                f"| {architecture.replace('ForCausalLM', '')} | {row.pattern} | {'yes' if row.greedy_equal else 'NO'} "
                f"| {row.difference:.1e}{'' if row.is_exact else ' (bfloat16)'} | {row.kv_tokens or 'no cache'} |"
            )


if __name__ == "__main__":
    for line in table(sys.argv[1:] or {**SERVED, **FURTHER}):
        print(line, flush=True)
