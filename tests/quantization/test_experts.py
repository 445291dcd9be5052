"""Mixtures of experts, dropped and quantized: linears are packed, routers are not, experts without tokens are named."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from expert_run import DROPPED, OF_FAMILY
from tiny_models import token_ids

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.errors import WorkerFailedError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.loading import load_model
from drop_ray.quantization.dequantized import open_dequantized
from drop_ray.quantization.experts import QuantizedExperts, experts_of
from drop_ray.quantization.families import QUANTIZABLE, WITH_EXPERTS
from drop_ray.quantization.gptqmodel_engine import environment

SPEC = QuantizationSpec(method="gptq", group_size=32)
NAMES = re.compile(r"layer (\d+): ([\d, ]+)")
EXPERT = re.compile(r"\.layers\.(\d+)\..*\.experts\.(\d+)\.")


def in_a_process(*arguments, cwd):
    environ = {**os.environ, **environment("cpu"), "OMP_NUM_THREADS": "1", "HF_MODULES_CACHE": str(cwd / "modules")}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def is_rounded(exact, found):
    """Whether no weight is farther than half a step from the exact one: GPTQ makes up for errors in other weights."""
    step = exact.unflatten(1, (-1, SPEC.group_size)).abs().amax(-1, keepdim=True) / 7.5
    distance = (found - exact).unflatten(1, (-1, SPEC.group_size)).abs()
    return bool((distance <= 0.51 * step).all())  # scales are rounded to float16


def check_a_run(architecture, folder):
    """What the run printed, after a look at its checkpoint, model card and report."""
    run = in_a_process(str(Path(__file__).with_name("expert_run.py")), str(folder), architecture, cwd=folder)
    base, packed = open_checkpoint(folder / "model"), open_dequantized(run["quantized"])
    card = (Path(run["quantized"]) / "README.md").read_text()
    told = re.search(r"No calibration token met (\d+) of its (\d+) experts, .* nearest: (.*)\.", card)
    rounded = {(int(layer), int(one)) for layer, found in NAMES.findall(told[3]) for one in found.split(",")}
    assert 0 < len(rounded) == int(told[1]) < int(told[2])

    weights = [f"{linear}.weight" for linear in packed.linears]
    exact, found = base.read(weights), packed.read(weights)
    experts = {}
    for name in weights:
        if match := EXPERT.search(name):
            experts.setdefault((int(match[1]), int(match[2])), []).append(is_rounded(exact[name], found[name]))
    assert len(experts) == int(told[2])
    assert {expert for expert, linears in experts.items() if all(linears)} == rounded

    left = packed.tensors.keys() - set(weights)
    assert any(re.search(r"\.(gate|router)\.weight$", name) for name in left)
    for name, tensor in packed.read(left).items():
        assert torch.equal(tensor, base.read([name])[name]), name
    assert (packed.config["drop_attn_list"], packed.config["drop_mlp_list"]) == (*DROPPED.values(),)
    report = (Path(run["report"]) / "report.md").read_text()
    assert f"by_hand-gptq: no calibration token met {told[1]} of {told[2]} experts" in report
    assert told[3] in report
    # Rounding most experts of a random model turns some tokens to others.
    assert run["correlation"] > 0.8
    return run


PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM
folder, prompts = json.loads(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype="float32").eval()
with torch.no_grad():
    logits = model(torch.tensor(prompts)).logits
assert not any(name.split(".")[0] == "drop_ray" for name in sys.modules)
print(json.dumps(logits.flatten().tolist()))
"""


def check_plain_transformers(quantized, folder):
    """transformers alone computes what our own reading of the packed weights does."""
    prompts = token_ids(4, 32, seed=3)
    plain = in_a_process("-c", PLAIN, json.dumps([quantized, prompts.tolist()]), cwd=folder)
    with torch.no_grad():
        right = load_model(open_dequantized(quantized), dtype=torch.float32)(prompts).logits
    # The kernel multiplies in bfloat16, by which a token can change its expert.
    assert torch.corrcoef(torch.stack((torch.tensor(plain), right.flatten())))[0, 1] > 0.98


def test_a_run_quantizes_experts_and_names_those_that_it_could_not_calibrate(tmp_path):
    check_a_run("Qwen3MoeForCausalLM", tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture",
    [
        "MixtralForCausalLM",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in OF_FAMILY if name != "MixtralForCausalLM"),
    ],
)
def test_every_family_with_experts_in_transformers_alone(architecture, tmp_path):
    run = check_a_run(architecture, tmp_path)
    check_plain_transformers(run["quantized"], tmp_path)


def test_every_family_with_experts_is_run_here():
    assert OF_FAMILY.keys() == {name for name, entry in QUANTIZABLE.items() if entry is WITH_EXPERTS}


def entry(module, layer=0, samples="12", loss="0.0003"):
    return {"layer": layer, "module": module, "samples": samples, "loss": loss}


def test_experts_without_tokens_are_counted_from_the_log():
    parts = ("gate_proj", "up_proj", "down_proj")
    log = [entry("self_attn.q_proj"), entry("mlp.shared_experts.gate_proj")]
    for number, samples in enumerate(("7", "0", "0")):
        loss = "0.1" if samples == "7" else "fallback(rtn): 0.01"
        log += [entry(f"mlp.experts.{number}.{part}", 2, samples, loss) for part in parts]
    found = experts_of(log)
    assert (found.total, found.rounded, found.num_rounded, found.names) == (3, {2: (1, 2)}, 2, "layer 2: 1, 2")
    assert found.card(SPEC) == (
        "Its experts are quantized by gptq in 4 bits, their routers are not. No calibration token met 2 of its 3 "
        "experts, whose weights are rounded to nearest: layer 2: 1, 2."
    )
    assert "met every one of its 3 experts" in QuantizedExperts(3, {}).card(SPEC)


@pytest.mark.parametrize("module", ["self_attn.q_proj", "mlp.shared_experts.up_proj", "mlp.experts.0.up_proj"])
def test_what_was_rounded_for_another_reason_is_an_error(module):
    with pytest.raises(WorkerFailedError, match=f"layer 4: {module} could not be calibrated"):
        experts_of([entry(module, 4, loss="rtn fallback")])


def test_what_is_known_of_experts_is_kept(tmp_path):
    experts = QuantizedExperts(64, {3: (1, 5), 7: (0,)})
    experts.write(tmp_path / "experts.json")
    assert QuantizedExperts.read((tmp_path / "experts.json").read_bytes()) == experts
    assert experts.names == "layer 3: 1, 5; layer 7: 0"
