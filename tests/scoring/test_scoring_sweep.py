"""A sweep's numbers, against a plain forward of the whole model in float64, and that no arrangement changes them."""

import math

import pytest
import torch
from tiny_models import Silenced, droppable, token_ids

from drop_ray.models.candidates import absent, needed_layers, only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.sublayers import find_layers, is_norm, sublayer_names
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings

SAMPLES = token_ids(6, 24)
GAPS = (1, 2, 3, 4)
DROPS = [DropLists(), DropLists((0,), ()), DropLists((1, 2), (2, 3)), DropLists((0, 1, 2, 3), ())]


def score(folder, drops=DropLists(), placement="resident", parts=(range(6),), gaps=GAPS, **settings):
    scorer = Scorer(open_checkpoint(folder), drops, dtype=torch.float32, attn_implementation=None, placement=placement)
    results = list(scorer.score(SAMPLES, parts, SweepSettings(2, gaps, **settings)))
    assert [part for part, _ in results] == list(parts)
    return [row for _, rows in results for row in rows]


METRICS = ("cosine", "angular")


def state(output):
    """What a layer returns; in some families it is the first of several values."""
    return output[0] if isinstance(output, tuple) else output


def reference(folder, drops):
    """{(sample, layer, gap, module, metric): mean distance} from hooks on the whole model, in float64."""
    model = load_model(folder, drops, dtype=torch.float64)
    model.set_experts_implementation("eager")  # one by one: the fused kernels take no float64
    layers, calls, outputs = find_layers(model), [], []
    lacking, needed = drops.union(absent(model)), needed_layers(model)
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
        layer.register_forward_hook(lambda _, args, output: outputs.append(state(output)))
    with torch.no_grad():
        model(SAMPLES, use_cache=False)
        states = {(i, "in"): args[0] for i, (args, _) in enumerate(calls)}
        states |= {(i, "out"): hidden for i, hidden in enumerate(outputs)}
        for i, (args, kwargs) in enumerate(calls[:]):
            # What the layer makes of its input without its MLP is the state between attention and MLP.
            for name in (name for name in sublayer_names(layers[i])["mlp"] if not is_norm(name)):
                setattr(layers[i], name, Silenced(getattr(layers[i], name)))
            states[i, "mid"] = state(layers[i](*args, **kwargs))

    def importance(x, y):
        cosine = torch.nn.functional.cosine_similarity(x, y, dim=-1)
        return {"cosine": (1 - cosine).mean(-1), "angular": (torch.arccos(cosine.clamp(-1, 1)) / math.pi).mean(-1)}

    expected = {}
    for index in range(4):
        before, middle, after = (states[index, part] for part in ("in", "mid", "out"))
        if index not in lacking.attn and index not in needed:
            expected[index, 1, "attention"] = importance(before, middle)
        if index not in lacking.mlp:
            expected[index, 1, "mlp"] = importance(middle, after)
        if index not in needed and (index not in lacking.attn or index not in lacking.mlp):
            expected[index, 1, "block"] = importance(before, after)
        for gap in (gap for gap in range(2, 5 - index) if not needed.intersection(range(index, index + gap))):
            expected[index, gap, "block"] = importance(before, states[index + gap - 1, "out"])
    return {
        (sample, *key, metric): values[sample].item()
        for key, metrics in expected.items()
        for metric, values in metrics.items()
        for sample in range(6)
    }


@pytest.mark.parametrize("drops", DROPS, ids=str)
def test_scores_are_those_of_a_whole_model_forward_in_float64(family_folder, drops, request):
    drops = only(drops, droppable(request.node.callspec.params["family_folder"]))
    expected = reference(family_folder, drops)
    rows = score(family_folder, drops, metrics=METRICS)
    found = {(row.sample, row.layer, row.gap, row.module, row.metric): row.total / row.tokens for row in rows}
    assert found.keys() == expected.keys()
    assert max(abs(found[key] - expected[key]) for key in expected) < 1e-6
    assert max(expected.values()) > 0.05  # the modules of this model do something


def test_a_second_metric_changes_no_bit_of_the_first(llama_folder):
    both = score(llama_folder, metrics=METRICS)
    for metric in METRICS:
        assert [row for row in both if row.metric == metric] == score(llama_folder, metrics=(metric,))


def test_streamed_and_resident_layers_give_the_same_numbers_in_waves_of_any_size(family_folder):
    resident = score(family_folder)
    for wave_bytes in (1, 60_000, 1 << 30):
        assert score(family_folder, placement="streamed", wave_bytes=wave_bytes) == resident
    assert score(family_folder, placement="streamed", state_device="cpu") == resident


def test_a_sample_has_the_same_score_whoever_scores_it(llama_folder):
    whole = score(llama_folder, parts=(range(0, 4), range(4, 6)))
    first, second = score(llama_folder, parts=(range(0, 4),)), score(llama_folder, parts=(range(4, 6),))
    assert first + second == whole
    assert score(llama_folder, parts=(range(4, 6), range(0, 4)), placement="streamed") == second + first


def test_a_gap_has_the_same_score_whichever_other_gaps_are_asked_for(llama_folder):
    everything = score(llama_folder)
    for gaps in ((1,), (3,), (2, 4)):
        assert score(llama_folder, gaps=gaps) == [row for row in everything if row.gap in gaps]


def test_a_dropped_checkpoint_is_scored_in_its_own_residual_states(llama_folder, tmp_path):
    from drop_ray.models.export import export_checkpoint

    export_checkpoint(open_checkpoint(llama_folder), DropLists((1,), (2,)), tmp_path / "dropped")
    assert score(tmp_path / "dropped") == score(llama_folder, DropLists((1,), (2,)))
    assert score(tmp_path / "dropped", DropLists((3,), ())) == score(llama_folder, DropLists((1, 3), (2,)))


def test_notebook_score_is_the_mean_over_samples(llama_folder):
    import drop_ray

    means = drop_ray.score(drop_ray.load(llama_folder), SAMPLES)
    rows = score(llama_folder, gaps=(1,))
    for module, values in means.items():
        for layer, value in enumerate(values):
            own = [row.total / row.tokens for row in rows if (row.module, row.layer) == (module, layer)]
            assert value == pytest.approx(sum(own) / len(own), abs=1e-6)
