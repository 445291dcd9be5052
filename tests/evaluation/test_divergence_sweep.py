"""Several variants through the layers at once: equal to whole models, whatever goes with them, streamed or not."""

import numpy as np
import pytest
import tiny_models
import torch
from broken_weights import with_value
from tiny_models import token_ids

from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.divergence.kept_states import KeptStates
from drop_ray.evaluation.divergence.panel import kl_difference, panel_of
from drop_ray.evaluation.divergence.state_models import LayeredModel, WholeModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.models.candidates import only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.edited import edited
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer

BASE = DropLists()
PLANS = {
    "attention": DropLists((2,)),
    "mlp": DropLists((), (3,)),
    "block": DropLists((1,), (1,)),
    "both": DropLists((0, 2), (3,)),
    "nothing": BASE,
}
SETTINGS = DivergenceSettings(micro_batch=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def ids():
    return token_ids(5, 24)


def layered(folder, placement="resident", dtype=torch.float32, attention="sdpa", **others):
    return LayeredModel(
        open_checkpoint(folder), dtype=dtype, attn_implementation=attention, placement=placement, **others
    )


def sweep(model, plans, ids, settings=SETTINGS, **others):
    variants = {name: Compared(model, plans[name]) for name in plans} | others
    return compare_with_base(Compared(model, BASE), variants, ids, settings)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_states_are_bit_equal_to_those_of_the_dropped_model(architecture, tmp_path):
    attention = "eager" if FAMILIES[architecture].needs_eager else "sdpa"
    folder = tiny_models.write_checkpoint(tmp_path / "model", architecture)
    ids = token_ids(2, 24)
    plans = [only(drops, tiny_models.droppable(architecture)) for drops in PLANS.values()]
    (found,) = layered(folder, attention=attention).states([ids], plans, lambda: None)
    for drops in plans:
        model = load_model(folder, drops, attn_implementation=attention)
        (expected,) = WholeModel(model).states([ids], [drops], lambda: None)
        assert torch.equal(found[drops], expected[drops])
        logits = torch.stack([WholeModel(model).logits(*row) for row in zip(ids, expected[drops], strict=True)])
        torch.testing.assert_close(logits, tiny_models.logits_of(model, ids), rtol=1e-5, atol=1e-5)


def test_numbers_are_those_of_whole_models_in_float64(folder, ids):
    found = sweep(layered(folder), PLANS, ids).found
    with torch.no_grad():
        base = load_model(folder, dtype=torch.float64)(ids).logits[:, :-1].log_softmax(-1)
        for name, drops in PLANS.items():
            other = load_model(folder, drops, dtype=torch.float64)(ids).logits[:, :-1].log_softmax(-1)
            kl = (base.exp() * (base - other)).sum(-1).numpy()
            panel = panel_of(*found[name])
            assert panel.kl == pytest.approx(kl.mean(), abs=1e-6)
            assert panel.kl_stderr == pytest.approx(kl.mean(1).std(ddof=1) / np.sqrt(len(ids)), abs=1e-6)
            assert panel.kl_p99 == pytest.approx(np.quantile(kl, 0.99), abs=1e-4)
            assert panel.top1_agreement == (base.argmax(-1) == other.argmax(-1)).double().mean()
            assert panel.acceptance == pytest.approx(
                float(torch.minimum(base.exp(), other.exp()).sum(-1).mean()), abs=1e-6
            )
            nll = -(other - base).gather(-1, ids[:, 1:, None])
            assert panel.log_perplexity_ratio == pytest.approx(float(nll.mean()), abs=1e-6)
        assert panel_of(*found["nothing"]).kl < 1e-10


@pytest.mark.parametrize("placement", ["resident", "streamed"])
@pytest.mark.parametrize("wave_bytes", [1, 1 << 15, 1 << 30])
def test_bytes_depend_neither_on_company_nor_on_where_layers_are(folder, ids, placement, wave_bytes):
    together = sweep(layered(folder), PLANS, ids).found
    model, settings = layered(folder, placement), DivergenceSettings(2, wave_bytes)
    again = sweep(model, dict(reversed(PLANS.items())), ids, settings).found
    for name in PLANS:
        assert same(again[name], together[name])
    assert same(sweep(model, {"both": PLANS["both"]}, ids, settings).found["both"], together["both"])


def test_what_variants_have_in_common_is_computed_once(folder, ids):
    """Of 4 layers: two plans drop from layer 2 and 3 on, and two agree up to the MLP of layer 3."""
    plans = {"a": DropLists((2,)), "b": DropLists((2, 3)), "c": DropLists((), (3,))}
    model, calls = layered(folder), []
    for index, layer in enumerate(model._model.base_model.layers):
        for name in ("self_attn", "mlp"):
            getattr(layer, name).register_forward_hook(lambda *_, place=(index, name): calls.append(place))
    sweep(model, plans, ids[:2])
    # The base has 8, and c nothing more. Then the MLP of layer 2 for a and b at once, and what each has of layer 3.
    assert len(calls) == 8 + 0 + 1 + 2 + 1
    assert calls.count((1, "mlp")) == 1
    assert calls.count((3, "mlp")) == 3


def test_the_layers_are_whole_afterwards(folder, ids):
    model = layered(folder)
    first = sweep(model, PLANS, ids).found
    assert same(sweep(model, PLANS, ids).found["nothing"], first["nothing"])
    assert [type(layer.self_attn).__name__ for layer in model._model.base_model.layers] == ["LlamaAttention"] * 4


def test_a_model_of_its_own_stands_beside_the_base(folder, ids):
    """A whole model that lacks the same as a plan has the plan's numbers, bit for bit."""
    drops = PLANS["both"]
    whole = Compared(WholeModel(load_model(folder, drops)), drops)
    found = sweep(layered(folder, "streamed"), PLANS, ids, DivergenceSettings(2, 1 << 15), whole=whole).found
    assert same(found["whole"], found["both"])


class Scale:
    """Doubles a tensor, or makes it NaN."""

    def __init__(self, name, factor):
        self.name, self.factor = name, factor

    def edits(self, name):
        return name == self.name

    def edit(self, name, tensor):
        return tensor * self.factor


def edited_model(folder, placement, *edit):
    checkpoint = edited(open_checkpoint(folder), [Scale(*edit)])
    return LayeredModel(checkpoint, dtype=torch.float32, attn_implementation="sdpa", placement=placement)


@pytest.mark.parametrize(
    "tensor", ["model.layers.1.mlp.down_proj.weight", "lm_head.weight", "model.embed_tokens.weight"]
)
def test_an_edited_variant_goes_layer_by_layer_too(folder, ids, tensor):
    drops = PLANS["attention"]
    expected = Compared(WholeModel(load_model(edited(open_checkpoint(folder), [Scale(tensor, 2)]), drops)), drops)
    for placement in ("resident", "streamed"):
        own = Compared(edited_model(folder, placement, tensor, 2), drops)
        found = sweep(layered(folder, placement), {}, ids, own=own, expected=expected).found
        assert same(found["own"], found["expected"])
        assert panel_of(*found["own"]).kl > 1e-3


@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_a_variant_that_gives_no_numbers_is_named_and_the_others_are_compared(folder, ids, placement):
    tensor = "model.layers.2.mlp.up_proj.weight"
    broken = Compared(edited_model(folder, placement, tensor, float("nan")), PLANS["attention"])
    result = sweep(layered(folder, placement), PLANS, ids, broken=broken)
    assert result.faults == {
        "broken": f"sample 0: {tensor} holds NaN or infinity; download the model again, or mend that tensor"
    }
    assert result.found.keys() == PLANS.keys()


@pytest.mark.parametrize(
    ("tensor", "value", "said"),
    [
        (
            "model.layers.1.self_attn.o_proj.weight",
            float("nan"),
            "sample 0: model.layers.1.self_attn.o_proj.weight holds",
        ),
        ("model.embed_tokens.weight", float("nan"), "sample 1: model.embed_tokens.weight holds"),
        ("lm_head.weight", float("inf"), "sample 0: lm_head.weight holds"),
        (
            "model.layers.3.post_attention_layernorm.weight",
            3e38,
            "sample 0: the residual state after layer 3 is not finite in float32",
        ),
    ],
)
def test_a_base_that_gives_no_numbers_is_named(folder, tmp_path, tensor, value, said):
    ids = torch.cat([torch.full((1, 8), 7), torch.full((1, 8), 5)])
    broken = with_value(folder, tmp_path / "broken", tensor, value)
    with pytest.raises(NotFiniteError, match=f"^the base at {said}"):
        sweep(layered(broken), PLANS, ids)


def test_a_weight_that_a_variant_lacks_is_no_fault_of_it(folder, tmp_path):
    """Nor can it be compared: the base has it."""
    broken = with_value(folder, tmp_path / "broken", "model.layers.2.self_attn.o_proj.weight", float("nan"))
    model = layered(broken)
    with pytest.raises(NotFiniteError, match="the base at sample 0: model.layers.2.self_attn"):
        sweep(model, PLANS, token_ids(2, 8))
    assert "no weight is at fault" in model.fault(token_ids(1, 8), PLANS["attention"])


def test_plans_of_the_demo_stand_apart():
    """What accuracy on a few hundred questions cannot tell, KL on 24 samples can."""
    from drop_ray.calibration import packing, text_files
    from drop_ray.config import resolve_path

    folder = resolve_path("demo:model")
    tokenizer = load_tokenizer(folder)
    documents = text_files.read_documents(resolve_path("demo:heldout.jsonl"), "text", "text")
    ids = packing.pack(
        documents,
        lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
        24,
        256,
        field="text",
    )
    plans = {
        "attention-1": DropLists((11,)),
        "attention-2": DropLists((7, 11)),
        "attention-4": DropLists((2, 7, 10, 11)),
    }
    found = sweep(layered(folder), plans, torch.from_numpy(ids).long(), DivergenceSettings(4)).found
    panels = {name: panel_of(*numbers) for name, numbers in found.items()}
    assert [round(panel.kl, 4) for panel in panels.values()] == [0.0064, 0.0172, 0.0673]
    assert [round(panel.top1_agreement, 2) for panel in panels.values()] == [0.95, 0.91, 0.85]
    means = {name: dict(enumerate(numbers.kl.mean(axis=1))) for name, numbers in found.items()}
    assert kl_difference(means["attention-2"], means["attention-1"]).standard_errors > 5
    assert kl_difference(means["attention-4"], means["attention-2"]).standard_errors > 5


@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_states_that_are_kept_are_not_computed_again_and_change_no_byte(folder, ids, placement):
    alone = sweep(layered(folder, placement), PLANS, ids).found
    one_batch = 2 * 24 * 32 * 4
    for num_bytes, kept in ((1 << 20, 3), (one_batch, 1), (one_batch - 1, 1), (1, 0)):
        model = layered(folder, placement, kept=KeptStates(BASE, num_bytes))
        calls = []
        model._model.base_model.layers[3].mlp.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for _ in range(2):
            assert same(sweep(model, {"attention": PLANS["attention"]}, ids).found["attention"], alone["attention"])
        # Three micro-batches, of 2, 2 and 1 samples, twice: of the variant, and of the base but for what is kept.
        assert len(calls) == 2 * 3 + 2 * 3 - kept
        for name, found in sweep(model, PLANS, ids).found.items():
            assert same(found, alone[name])
