"""NaN and infinity in weights and states: the sweep and the export stop, and name the tensor, the layer, the sample."""

import math

import pytest
import torch
from broken_weights import with_value
from tiny_models import token_ids

from drop_ray.errors import NotFiniteError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.scoring.finite import finite_totals
from drop_ray.scoring.layers import ResidentLayers
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings

SAMPLES = token_ids(4, 16)
UP = "model.layers.2.mlp.up_proj.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"


def score(folder, dtype=torch.float32, drops=DropLists(), placement="streamed", samples=SAMPLES, **settings):
    scorer = Scorer(open_checkpoint(folder), drops, dtype=dtype, attn_implementation=None, placement=placement)
    parts = [range(len(samples))]
    return [row for _, rows in scorer.score(samples, parts, SweepSettings(2, **settings)) for row in rows]


@pytest.mark.parametrize("placement", ["streamed", "resident"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tensor", [UP, QUERY, "model.layers.0.input_layernorm.weight"])
def test_a_bad_weight_is_named_at_the_first_sample(llama_folder, tmp_path, tensor, value, placement):
    broken = with_value(llama_folder, tmp_path / "broken", tensor, value)
    with pytest.raises(NotFiniteError, match=rf"sample 0: {tensor} holds NaN or infinity; download the model again"):
        score(broken, placement=placement)


def test_a_sample_with_the_token_of_a_bad_row_is_named(llama_folder, tmp_path):
    broken = with_value(llama_folder, tmp_path / "broken", "model.embed_tokens.weight", math.nan)
    samples = torch.where(SAMPLES == 5, 6, SAMPLES)
    assert score(broken, samples=samples) == score(llama_folder, samples=samples)
    samples[2, 7] = 5
    with pytest.raises(NotFiniteError, match=r"sample 2: model.embed_tokens.weight holds NaN"):
        score(broken, samples=samples)


def test_scores_of_windows_alone_are_checked_too(llama_folder, tmp_path):
    broken = with_value(llama_folder, tmp_path / "broken", UP, math.nan)
    with pytest.raises(NotFiniteError, match=UP):
        score(broken, gaps=(4,))


def test_a_state_that_overflows_in_float16_is_told_from_a_bad_weight(llama_folder, tmp_path):
    large = with_value(llama_folder, tmp_path / "large", "model.layers.2.post_attention_layernorm.weight", 6e4)
    place = r"calibration sample 0: the residual state after the MLP of layer 2 leaves the range of float16"
    with pytest.raises(NotFiniteError, match=rf"{place}.* set model.dtype to bfloat16 or float32"):
        score(large, torch.float16)
    assert all(math.isfinite(row.total) for row in score(large, torch.bfloat16))


def test_a_weight_that_float16_does_not_hold_is_named(llama_folder, tmp_path):
    large = with_value(llama_folder, tmp_path / "large", UP, 1e5)
    with pytest.raises(NotFiniteError, match=rf"{UP} holds NaN or infinity in float16, which ends at 65504; set model"):
        score(large, torch.float16)


def test_a_state_whose_norm_float32_does_not_hold_has_no_score(llama_folder, tmp_path):
    """Its numbers are finite, and so would be the cosine: zero, whatever the states are."""
    large = with_value(llama_folder, tmp_path / "large", "model.layers.3.post_attention_layernorm.weight", 1e25)
    with pytest.raises(NotFiniteError, match="after the MLP of layer 3 is not finite in float32, and no weight is at"):
        score(large)


def test_a_metric_that_gives_nan_for_finite_states_is_named(llama_folder):
    model = load_model(llama_folder)
    norms, totals = [torch.ones(2, dtype=torch.float64)] * 9, {(3, 1, "mlp", "toy"): torch.tensor([1.0, math.nan])}
    with pytest.raises(NotFiniteError, match="sample 5: the metric toy gives nan for the mlp of layer 3"):
        finite_totals(model, ResidentLayers(model.model.layers), range(4, 6), norms, totals)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_kept_is_not_exported_with_nan_and_what_is_dropped_may_hold_it(llama_folder, tmp_path, dtype):
    broken = tmp_path / "broken"
    load_model(with_value(llama_folder, tmp_path / "full", UP, math.nan), dtype=dtype).save_pretrained(broken)
    checkpoint = open_checkpoint(broken)
    with pytest.raises(NotFiniteError, match=rf"nothing is exported: {UP} holds NaN or infinity"):
        export_checkpoint(checkpoint, DropLists((0,), ()), tmp_path / "kept")
    export_checkpoint(checkpoint, DropLists((), (2,)), tmp_path / "dropped")
    assert score(tmp_path / "dropped")
