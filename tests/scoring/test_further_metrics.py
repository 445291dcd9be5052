"""Metrics of updates, weights, attention probabilities and outputs: exact small cases, and inside of a sweep."""

import math

import pytest
import torch
from tiny_models import token_ids
from torch import nn
from transformers import PretrainedConfig

from drop_ray.extensions import METRICS
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.planning.losses import Loss
from drop_ray.scoring.metrics.metric import OutputMetric, metrics_of, swept
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.state import make_state
from drop_ray.scoring.sweep import SweepSettings

UPDATE, GATE, ENTROPY = (METRICS.load(name) for name in ("update_norm", "gate_norm", "attention_entropy"))
SAMPLES = token_ids(4, 24)


def state(*values):
    return make_state(torch.tensor(values, dtype=torch.float32).view(1, 1, -1))


def test_an_update_is_measured_by_what_it_is_added_to():
    assert UPDATE.distances(state(3.0, 4.0), state(3.0, 5.0)).item() == pytest.approx(0.2)
    assert UPDATE.distances(state(3.0, 4.0), state(6.0, 8.0)).item() == pytest.approx(1.0)  # no angle sees it
    assert UPDATE.distances(state(3.0, 4.0), state(3.0, 4.0)).item() == 0


class Attention(nn.Module):
    def __init__(self, queries, keys, head_dim):
        super().__init__()
        self.head_dim = head_dim
        for name, rows in (("q_proj", queries), ("k_proj", keys)):
            linear = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
            linear.weight = nn.Parameter(rows)
            setattr(self, name, linear)


def layer_of(queries, keys, head_dim):
    layer = nn.Module()
    layer.self_attn = Attention(queries, keys, head_dim)
    return layer


def test_the_coupling_of_one_head_is_the_norm_of_its_product():
    queries, keys = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.0, 3.0, 4.0]])
    # The outer product of two vectors has the product of their lengths.
    assert GATE.score(layer_of(queries, keys, 1), "attention") == pytest.approx(math.sqrt(5) * 5)
    assert GATE.score(layer_of(queries, 0 * keys, 1), "attention") == 0


def test_query_heads_are_coupled_with_the_key_head_that_they_share():
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(count * 3, 8, generator=generator) for count in (4, 2))
    heads = [(queries[3 * h : 3 * h + 3].T @ keys[3 * (h // 2) : 3 * (h // 2) + 3]).norm() ** 2 for h in range(4)]
    expected = math.sqrt(sum(map(float, heads)) / 4)
    assert GATE.score(layer_of(queries, keys, 3), "attention") == pytest.approx(expected, rel=1e-6)


def test_the_entropy_of_one_token_is_zero_and_of_equal_ones_the_logarithm_of_their_number():
    one, four = torch.tensor([1.0, 0, 0, 0]), torch.full((4,), 0.25)
    probabilities = torch.stack([torch.stack([one, four]), torch.stack([one, one])])[None]  # batch, heads, tokens, keys
    assert ENTROPY.scores(probabilities).tolist() == [[0, pytest.approx(math.log(4) / 2)]]


def test_metrics_of_the_output_are_sums_over_tokens():
    found = {
        name: metric.total(Loss(3.0, -0.5, 7, 6.5)) for name, metric in metrics_of(METRICS.own, OutputMetric).items()
    }
    assert found == {"kl": 3.0, "loss": -0.5}
    assert set(swept(METRICS.own)) == {*METRICS.own} - {*found}


@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_a_sweep_scores_weights_and_probabilities_of_the_attention_that_is_left(llama_folder, placement):
    names, drops = ("cosine", "update_norm", "gate_norm", "attention_entropy"), DropLists((1,), (2,))
    scorer = Scorer(
        open_checkpoint(llama_folder), drops, dtype=torch.float32, attn_implementation="eager", placement=placement
    )
    ((_, rows),) = scorer.score(SAMPLES, [range(4)], SweepSettings(2, (1, 2), metrics=names))
    found = {(row.metric, row.module, row.layer, row.sample): row.total / row.tokens for row in rows if row.gap == 1}
    model = load_model(llama_folder, drops, attn_implementation="eager")
    attentions = {}
    for index in (0, 2, 3):
        model.model.layers[index].self_attn.register_forward_hook(
            lambda _, __, output, index=index: attentions.update({index: output[1]})
        )
    with torch.no_grad():
        model(SAMPLES, use_cache=False)
    for index, probabilities in attentions.items():
        entropy = -(probabilities.double() * probabilities.double().clamp_min(1e-300).log()).sum(-1).mean((1, 2))
        here = [found["attention_entropy", "attention", index, sample] for sample in range(4)]
        assert here == pytest.approx(entropy.tolist(), abs=1e-6)
        weights = [found["gate_norm", "attention", index, sample] for sample in range(4)]
        assert weights == pytest.approx([GATE.score(model.model.layers[index], "attention")] * 4, rel=1e-12)
    of_attention = {
        (module, index) for metric, module, index, _ in found if metric in ("gate_norm", "attention_entropy")
    }
    assert of_attention == {("attention", index) for index in (0, 2, 3)}
    assert {row.metric for row in rows if row.gap == 2} == {"cosine", "update_norm"}


def test_further_metrics_change_no_bit_of_the_others(llama_folder):
    def rows(*metrics):
        scorer = Scorer(
            open_checkpoint(llama_folder),
            DropLists(),
            dtype=torch.float32,
            attn_implementation="eager",
            placement="resident",
        )
        ((_, found),) = scorer.score(SAMPLES, [range(4)], SweepSettings(2, (1,), metrics=metrics))
        return found

    both = rows("cosine", "gate_norm", "attention_entropy")
    assert [row for row in both if row.metric == "cosine"] == rows("cosine")


def test_an_attention_without_such_projections_is_refused_and_a_dropped_one_is_not_asked():
    fused, dropped = nn.Module(), nn.Module()
    fused.self_attn, dropped.self_attn = nn.Linear(2, 6), nn.Identity()
    plain = layer_of(torch.ones(2, 2), torch.ones(2, 2), 1)

    def fault(*layers):
        model = nn.Module()
        model.layers, model.config = nn.ModuleList(layers), PretrainedConfig(num_hidden_layers=len(layers))
        model.base_model = model
        return GATE.fault(model)

    assert fault(plain, dropped) is None
    assert fault(plain, fused).startswith("reads q_proj and k_proj of each attention")
