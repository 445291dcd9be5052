"""A plan of the demo as its draft in vLLM: in float32 on a CPU no token changes, and a forward pass predicts what is
kept."""

from dataclasses import replace

import pytest
from demo_text import heldout_pieces
from installed import needs_vllm

from drop_ray.config import ServingConfig
from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, parse_dtype, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving.draft_bench import DraftSpec, run_drafts
from drop_ray.serving.draft_sampling import run_sampling_gate
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.speculation import link_draft

pytestmark = [pytest.mark.full, needs_vllm]
NOTHING, ATTENTION_4 = DropLists(), DropLists(attn=(11, 7, 2, 10))
PROMPT, OUTPUT, BATCH, PAIRS = 64, 64, 4, 5


def demo_spec(folder, drops, **fields):
    checkpoint = open_checkpoint(DEMO_FOLDER / "model")
    link_draft(checkpoint, drops, folder)
    drafts = {"prompt": PROMPT, "output": OUTPUT, "batch_size": BATCH}
    serving = ServingConfig.model_validate({"pairs": PAIRS, "enforce_eager": True, "drafts": drafts})
    base = EngineSettings(
        *("vllm", str(checkpoint.folder), NOTHING, NOTHING, "float32", "cpu", serving.drafts.model_len, BATCH, 1 << 26),
        threads=1,
        enforce_eager=True,
    )
    text = heldout_pieces(PAIRS * BATCH, PROMPT)
    return DraftSpec(
        serving=serving,
        base=base,
        draft=replace(base, drops=drops),
        draft_folder=str(folder),
        size=measure(build_skeleton(read_config(checkpoint), NOTHING, parse_dtype("float32"))),
        tokens=range(1, 1024),
        text=[row[:32] for row in text[:2]],
        prompts=text,
        kv_shards=1,
        **fields,
    )


def test_a_dropped_draft_leaves_the_demos_greedy_text_as_it_is(tmp_path):
    (found,) = run_drafts(demo_spec(tmp_path / "draft", ATTENTION_4), [3])
    assert (found["identical"], found["prompts"], found["holds"]) == (PAIRS * BATCH, PAIRS * BATCH, True)
    assert abs(found["agreement"] - found["acceptance"][0]) < 0.03
    expected = sum(found["agreement"] ** power for power in range(4))
    assert found["tokens_per_step"] == pytest.approx(expected, rel=0.15)
    assert list(found["acceptance"]) == sorted(found["acceptance"], reverse=True)
    # Twelve layers of KV cache in the base, eight in the draft.
    assert found["draft_kv_bytes_per_token"] * 12 == found["base_kv_bytes_per_token"] * 8
    assert 0.85 < found["draft_weights_bytes"] / found["base_weights_bytes"] < 1
    assert found["speedup"]["pairs"] == PAIRS


def test_sampling_on_a_cpu_is_refused_with_the_figures(tmp_path, monkeypatch):
    """vLLM 0.32 there keeps next to nothing of what a model drafts for itself, and samples another distribution."""
    monkeypatch.setattr("drop_ray.serving.draft_sampling.SAMPLES", 128)
    found = run_sampling_gate(demo_spec(tmp_path / "draft", NOTHING, temperature=0.8), 2)
    print(found)
    assert not found.holds
    assert found.kept[0] < 0.2
    few, otherwise = found.reasons
    assert few.startswith("of the tokens that the model drafted for itself")
    assert otherwise.startswith("what comes out is distributed otherwise than without a draft")
