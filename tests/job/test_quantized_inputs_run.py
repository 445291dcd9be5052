"""Whole runs on bases that are stored quantized, with their config.json as it was published."""

import gc
import json
import math
import mmap
import weakref
from itertools import pairwise

import pytest
import torch
from local_run import run_stages
from quantized_bases import BLOCK, KINDS, as_published, write_quantized_base
from tiny_models import logits_of, token_ids
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, FineGrainedFP8Config, Mxfp4Config

from drop_ray.config import parse_config
from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.quantized_base import fp8, mxfp4, packed_int
from drop_ray.models.quantized_base.reading import as_read
from drop_ray.models.registration import register
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings
from drop_ray.stages.report import collect, evaluations_of

LENGTH = 24
DROPS = DropLists((1,), (1, 2))
# Modules that no publisher quantizes, among them some of layers that are dropped.
LEFT = {
    "fp8": {"modules_to_not_convert": ["lm_head", "model.layers.2.mlp.gate", "model.layers.3.mlp.gate"]},
    "mxfp4": {},
    "int4": {"ignore": ["lm_head", "re:.*mlp.gate$", "model.layers.1.self_attn.q_norm", "model.layers.1.mlp.gate"]},
}
KEPT = {
    "fp8": {"modules_to_not_convert": ["lm_head", "model.layers.3.mlp.gate"]},
    "mxfp4": {},
    "int4": {"ignore": ["lm_head", "re:.*mlp.gate$"]},
}
# DeepSeek-V3 with latent ranks that blocks divide: transformers dequantizes no block that is cut off.
BASES = {
    "fp8": ("DeepseekV3ForCausalLM", {"q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 16}),
    "mxfp4": ("GptOssForCausalLM", {}),
    "int4": ("Qwen3MoeForCausalLM", {}),
}


# sdpa leaves out the sinks of gpt-oss.
ATTENTION = {"mxfp4": "eager"}


def write_base(folder, kind):
    architecture, traits = BASES[kind]
    return as_published(write_quantized_base(folder, kind, architecture, left=LEFT[kind], **traits))


def dequantizing(kind):
    if kind == "fp8":
        return FineGrainedFP8Config(dequantize=True, weight_block_size=(BLOCK, BLOCK))
    if kind == "mxfp4":
        return Mxfp4Config(dequantize=True)
    pytest.importorskip("compressed_tensors")
    return CompressedTensorsConfig(**KINDS[kind][1], dequantize=True)


def by_transformers(folder, kind):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=dequantizing(kind), attn_implementation=ATTENTION.get(kind)
    ).eval()


@pytest.mark.parametrize("kind", ["fp8", "mxfp4", pytest.param("int4", marks=pytest.mark.full)])
def test_a_run_comes_to_an_evaluated_export_in_the_bytes_of_the_base(kind, tmp_path):
    folder = write_base(tmp_path / "model", kind)
    ids = token_ids(28, LENGTH)
    for name, part in (("ids", ids[:20]), ("held_out", ids[20:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(part.tolist()))
    (tmp_path / "by_hand.json").write_text(json.dumps({"drop_attn": list(DROPS.attn), "drop_mlp": list(DROPS.mlp)}))
    held_out = {"token_ids": str(tmp_path / "held_out.json"), "num_samples": 8, "seq_len": LENGTH}
    config = {
        "name": "run",
        "model": {"path": str(folder), "dtype": "bfloat16", "attn_implementation": ATTENTION.get(kind, "sdpa")},
        "calibration": {"token_ids": str(tmp_path / "ids.json"), "num_samples": 20, "seq_len": LENGTH},
        "plans": [{"strategy": "attention", "drop": [1]}, {"file": str(tmp_path / "by_hand.json")}],
        "refit": [{"ridge": 0.1, "held_out": 4, "plans": ["by_hand"]}],
        "evaluation": {"perplexity": [{"name": "held-out", **held_out}], "divergence": held_out},
        "export": ["by_hand", "by_hand-refit"],
        "store": str(tmp_path / "store"),
    }
    run = run_stages(open_job(parse_config(config, "test")))
    assert run.panels.keys() == {"attention-1", "by_hand", "by_hand-refit"}
    assert run.published is not None

    whole = by_transformers(folder, kind)
    with torch.no_grad():
        loss = whole(ids[20:], labels=ids[20:]).loss.item()
    rows = collect(run, evaluations_of(run)).evaluations
    found = {row.variant: row.value for row in rows if row.metric == "token_perplexity"}
    assert found["base"] == pytest.approx(math.exp(loss), rel=0.01)
    assert found.keys() == {"base", "attention-1", "by_hand", "by_hand-refit"}

    base, exported = open_checkpoint(folder), open_checkpoint(run.checkpoints["by_hand"])
    gone = base.tensors.keys() - exported.tensors.keys()
    assert {tuple(name.split(".")[2:4]) for name in gone} >= {("1", "self_attn"), ("1", "mlp"), ("2", "mlp")}
    before, after = base.read(exported.tensors), exported.read(exported.tensors)
    assert all(after[name].view(torch.uint8).equal(before[name].view(torch.uint8)) for name in after)
    assert exported.config["quantization_config"] == {**KINDS[kind][1], **KEPT[kind]}

    right = logits_of(load_model(base, DROPS, dtype=torch.bfloat16), ids)
    register()
    assert torch.equal(logits_of(by_transformers(run.checkpoints["by_hand"], kind), ids), right)
    assert torch.equal(logits_of(load_model(base, dtype=torch.bfloat16), ids), logits_of(whole, ids))
    check_refitted(run.checkpoints["by_hand-refit"], kind, exported, ids)


def check_refitted(folder, kind, plain, ids):
    """What was refitted lies in 16 bits, named in `quantization_config`; all else is as without refitting."""
    refitted = open_checkpoint(folder)
    shared = refitted.tensors.keys() & plain.tensors.keys()
    before, after = plain.read(shared), refitted.read(shared)
    other = {name for name in shared if not torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8))}
    changed = other | (refitted.tensors.keys() - plain.tensors.keys())
    assert "model.layers.3.self_attn.o_proj.weight" in changed
    assert all(name.endswith(("o_proj.weight", "o_proj.bias", "down_proj.weight")) for name in changed)
    assert {refitted.tensors[name].dtype for name in changed} == {"BF16"}
    field = "ignore" if kind == "int4" else "modules_to_not_convert"
    modules = [refitted.config["quantization_config"][field], plain.config["quantization_config"][field]]
    # The attention of gpt-oss is not quantized.
    added = set() if kind == "mxfp4" else {name.removesuffix(".weight") for name in changed}
    assert {*modules[0]} - {*modules[1]} == added
    right = logits_of(load_model(refitted, dtype=torch.bfloat16), ids)
    assert torch.equal(logits_of(by_transformers(folder, kind), ids), right)


@pytest.mark.parametrize("kind", BASES)
def test_a_streaming_sweep_holds_two_layers_in_16_bits(kind, tmp_path, monkeypatch):
    checkpoint = open_checkpoint(write_base(tmp_path, kind))
    sizes, live = [], {}

    class Pages(mmap.mmap):
        """Memory of one weight."""

    def counted(shape, dtype):
        pages = Pages(-1, math.prod(shape) * dtype.itemsize)
        live[id(pages)] = len(pages)
        weakref.finalize(pages, live.pop, id(pages))
        sizes.append(sum(live.values()))
        return torch.frombuffer(pages, dtype=dtype).reshape(shape)

    for module in (fp8, mxfp4, packed_int):
        monkeypatch.setattr(module, "empty_pages", counted)
    scorer = Scorer(
        checkpoint, DropLists(), dtype=torch.bfloat16, attn_implementation=None, placement="streamed", device="cpu"
    )
    list(scorer.score(token_ids(4, LENGTH), [range(4)], SweepSettings(2, (1,))))
    made = as_read(checkpoint, torch.bfloat16)
    layers = [
        sum(made.tensors[name].num_bytes for name in made.parts if f".layers.{layer}." in name) for layer in range(4)
    ]
    assert len(sizes) == len(made.parts)
    assert 0 < max(sizes) <= max(map(sum, pairwise(layers))) < sum(layers)
    del scorer
    gc.collect()
    assert sum(live.values()) == 0
