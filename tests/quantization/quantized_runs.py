"""A tiny model of a family, dropped and quantized in several ways, then run by everything that loads such checkpoints.

Each runs in a process of its own, started with this file: the engine and vLLM change settings of theirs. The reference
is the dequantized checkpoint in float32, by the project's own reading of the packed weights.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from processes import SUPPORT, with_folders
from tiny_models import token_ids, write_checkpoint

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import FAMILIES, DropLists

NUM_LAYERS = 4
PATTERNS = {
    "nothing": DropLists(),
    "attention 0": DropLists((0,)),
    "attention 0, 1; MLP 1, 2": DropLists((0, 1), (1, 2)),
    "attention 0, 1, 2, 3": DropLists((0, 1, 2, 3)),
    "MLP 0, 3": DropLists((), (0, 3)),
}
SPECS = {
    "awq": QuantizationSpec(method="awq", group_size=32),
    "gptq": QuantizationSpec(method="gptq", group_size=32),
}
# vLLM's kernels on a CPU have heads of 32 and more, and widths that 32 divides.
WIDTHS = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
CALIBRATION = token_ids(16, 64)
PROMPTS = token_ids(4, 24, seed=5)
# vLLM serves Gemma in no other 16 bits.
SERVED_IN = {"Gemma2ForCausalLM": "bfloat16", "Gemma3ForCausalLM": "bfloat16"}
RUNNERS = ("transformers", "remote code", "vllm")


@dataclass(frozen=True)
class Run:
    """Log-probabilities of all prompt tokens but the first of each; by="exact" is the reference."""

    case: str
    by: str
    logprobs: list[float]


def run_family(architecture: str, folder: Path, patterns, specs: Mapping[str, QuantizationSpec], runners=RUNNERS):
    """By case, such as `awq, nothing`: the largest difference of each runner's log-probabilities to the reference.

    The checkpoint of a case is in the folder of its name, the model that it is made from in `base`.
    """
    write_base(folder / "base", architecture)
    cases = {
        f"{label}, {pattern}": (spec.model_dump(exclude_defaults=True), asdict(PATTERNS[pattern]))
        for label, spec in specs.items()
        for pattern in patterns
    }
    runs = [run for step in ("quantize", *runners) for run in _in_a_process(step, architecture, folder, cases)]
    exact = {run.case: torch.tensor(run.logprobs) for run in runs if run.by == "exact"}
    differences = {case: {} for case in cases}
    for run in runs:
        if run.by != "exact":
            differences[run.case][run.by] = (torch.tensor(run.logprobs) - exact[run.case]).abs().max().item()
    return differences


def write_base(folder: Path, architecture: str) -> Path:
    traits = {"query_pre_attn_scalar": 32} if architecture.startswith("Gemma") else {}
    return write_checkpoint(folder, architecture, num_layers=NUM_LAYERS, **WIDTHS, **traits)


def _in_a_process(step: str, architecture: str, folder: Path, cases) -> list[Run]:
    from drop_ray.quantization.gptqmodel_engine import environment

    # More threads than free cores wait for each other.
    vllm = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    places = {**with_folders(SUPPORT), "HF_MODULES_CACHE": str(folder / "modules")}
    request = json.dumps([step, architecture, str(folder), cases])
    done = subprocess.run(
        [sys.executable, __file__, request],
        cwd=folder,
        env={**os.environ, **environment("cpu"), **vllm, **places},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{step}, {architecture}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return [Run(**fields) for fields in json.loads((folder / f"{step}.json").read_text())]


def _quantize(architecture, folder, cases):
    from drop_ray.models.loading import load_model
    from drop_ray.quantization.dequantized import open_dequantized
    from drop_ray.quantization.gptqmodel_engine import quantize

    for case, (spec, drops) in cases.items():
        told = []
        quantize(
            open_checkpoint(folder / "base"),
            DropLists(*map(tuple, drops.values())),
            QuantizationSpec(**spec),
            CALIBRATION,
            folder / case,
            dtype=torch.float32,
            device="cpu",
            provenance={"plan": case},
            progress=lambda *counts, told=told: told.append(counts),
        )
        assert told == [(done, NUM_LAYERS) for done in range(1, NUM_LAYERS + 1)], told
        packed = open_dequantized(folder / case)
        fields = {key: value for key, value in packed.config.items() if key != "quantization_config"}
        yield Run(case, "exact", logprobs(load_model(replace(packed, config=fields), dtype=torch.float32)))


def _transformers(architecture, folder, cases):
    from drop_ray.models.quantized import load_quantized

    for case in cases:
        yield Run(case, "transformers", logprobs(load_quantized(folder / case, dtype=torch.float32)))


def _vllm(architecture, folder, cases):
    from vllm import LLM, SamplingParams

    prompts = [{"prompt_token_ids": prompt} for prompt in PROMPTS.tolist()]
    for case in cases:
        llm = LLM(
            model=str(folder / case),
            dtype=SERVED_IN.get(architecture, "float16"),
            enforce_eager=True,
            max_model_len=64,
            max_num_seqs=4,
            kv_cache_memory_bytes=2**26,
            distributed_executor_backend="uni",
        )
        outputs = llm.generate(prompts, SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)
        found = [
            entry[token].logprob
            for prompt, output in zip(PROMPTS.tolist(), outputs, strict=True)
            for token, entry in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)
        ]
        yield Run(case, "vllm", found)
        del llm


def logprobs(model) -> list[float]:
    with torch.no_grad():
        all_of_them = model(PROMPTS).logits[:, :-1].float().log_softmax(-1)
    return all_of_them.gather(2, PROMPTS[:, 1:, None]).flatten().tolist()


REMOTE_CODE = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
folder, cases, attention, prompts = json.loads(sys.argv[1])
prompts = torch.tensor(prompts)
runs = []
for case in cases:
    model = AutoModelForCausalLM.from_pretrained(
        Path(folder) / case, trust_remote_code=True, dtype="float32", attn_implementation=attention
    ).eval()
    with torch.no_grad():
        found = model(prompts).logits[:, :-1].float().log_softmax(-1).gather(2, prompts[:, 1:, None])
    runs.append({"case": case, "by": "remote code", "logprobs": found.flatten().tolist()})
assert not any(name.split(".")[0] == "drop_ray" for name in sys.modules)
(Path(folder) / "remote code.json").write_text(json.dumps(runs))
"""


def _remote_code(architecture, folder, cases) -> None:
    """Replaces this process by one that never imports drop_ray."""
    attention = "eager" if FAMILIES[architecture].needs_eager else "sdpa"
    request = json.dumps([str(folder), list(cases), attention, PROMPTS.tolist()])
    os.execv(sys.executable, [sys.executable, "-c", REMOTE_CODE, request])


STEPS = {"quantize": _quantize, "transformers": _transformers, "remote code": _remote_code, "vllm": _vllm}

if __name__ == "__main__":
    step, architecture, place, cases = json.loads(sys.argv[1])
    runs = STEPS[step](architecture, Path(place), cases)
    (Path(place) / f"{step}.json").write_text(json.dumps([asdict(run) for run in runs]))
