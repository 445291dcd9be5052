"""The caches of hybrids in the engine of transformers: what the gate expects of them is what is allocated."""

import numpy as np
import pytest
import tiny_models
import torch

from drop_ray.models.accounting import measure
from drop_ray.models.candidates import only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.gate import ExpectedKv, GateError, check_greedy, check_kv, check_scores
from drop_ray.serving.reference import load, scores_of
from drop_ray.serving.roofline import predict
from drop_ray.serving.transformers_engine import TransformersEngine

OTHERS = ["FalconH1", "Lfm2", "GraniteMoeHybrid", "NemotronH", "KimiLinear", "Gemma4"]
FAMILIES = ["Qwen3_5", *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)]
# Of hybrids a linear mixer, an attention with its MLP, and all attention.
DROPS = [DropLists((0,), ()), DropLists((3,), (3,)), DropLists((1, 3), ())]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gate_knows_the_constant_states_of_a_hybrid(family, tmp_path):
    architecture = f"{family}ForCausalLM"
    folder = tiny_models.write_checkpoint(tmp_path / "model", architecture)
    size = measure(build_skeleton(read_config(open_checkpoint(folder)), DropLists(), torch.float32))
    prompts = tiny_models.token_ids(3, 40)
    allowed = tiny_models.droppable(architecture)
    for drops in dict.fromkeys(only(drops, allowed) for drops in [DropLists(), *DROPS]):
        settings = EngineSettings(
            kind="transformers",
            folder=str(folder),
            drops=drops,
            own_drops=DropLists(),
            dtype="float32",
            device="cpu",
            max_model_len=128,
            max_batch=8,
            kv_cache_bytes=None,
            threads=1,
            enforce_eager=True,
        )
        engine = TransformersEngine(settings)
        expected = ExpectedKv(size.kv_layers(drops), size.kv_bytes_per_token(drops), None, size.state_bytes(drops))
        check_kv("the engine", engine.facts(), expected)
        other = ExpectedKv(expected.layers, expected.bytes_per_token, None, expected.state_bytes + 4)
        with pytest.raises(GateError, match=rf"{expected.state_bytes} bytes of states per sequence, expected"):
            check_kv("the engine", engine.facts(), other)
        model = load(settings, "cpu")
        with torch.inference_mode():
            whole = scores_of(model(prompts, use_cache=False).logits, prompts)
            rows = model.generate(prompts, max_new_tokens=6, do_sample=False, use_cache=False, eos_token_id=None)
        check_scores("the engine", "float32", engine.score_prompts(prompts.tolist()), whole)
        greedy = tuple(map(tuple, rows[:, 40:].tolist()))
        check_greedy("the engine", engine.generate(prompts.tolist(), 6).tokens, greedy)
    assert np.isfinite(whole.logprobs).all()


def test_decoding_reads_windows_and_states_as_they_are_allocated(tmp_path):
    """Of a hybrid, dropping linear attention saves its state once a sequence, and attention its keys for each token."""
    model = tiny_models.make_model("Qwen3_5ForCausalLM")
    size = measure(model)
    long, linear, full = 1 << 14, DropLists((0, 2), ()), DropLists((1, 3), ())
    speedups = [predict(size, 300, DropLists(), drops, (64, 64), long, 2).decode for drops in (linear, full)]
    assert 1 < speedups[0] < 1.01
    assert speedups[1] > 100
