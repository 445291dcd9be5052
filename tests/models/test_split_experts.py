"""Experts as linears of their own compute what the stacked tensors of transformers do."""

import pytest
import torch
from tiny_models import logits_of, make_model, token_ids

from drop_ray.models.split_experts import SplitExperts, split_experts

IDS = token_ids(2, 24)
# The linears' names are those of the family's files.
NAMES = {
    "Qwen3MoeForCausalLM": ["gate_proj", "up_proj", "down_proj"],
    "MixtralForCausalLM": ["w1", "w3", "w2"],
    "DeepseekV3ForCausalLM": ["gate_proj", "up_proj", "down_proj"],
}


@pytest.mark.parametrize("architecture", NAMES)
def test_logits_are_those_of_stacked_experts(architecture):
    model = make_model(architecture)
    right = logits_of(model, IDS)
    stacked = {name: dict(part.named_parameters()) for name, part in model.named_modules() if name.endswith("experts")}
    split_experts(model)
    for name, tensors in stacked.items():
        experts = model.get_submodule(name)
        if not tensors.keys() & {"gate_up_proj"}:  # shared ones, which are linears already
            continue
        assert isinstance(experts, SplitExperts)
        assert experts.linears == NAMES[architecture]
        for number, (gate_up, down) in enumerate(zip(tensors["gate_up_proj"], tensors["down_proj"], strict=True)):
            values = (*gate_up.chunk(2), down)
            for linear, value in zip(experts.linears, values, strict=True):
                experts.get_submodule(f"{number}.{linear}").weight.data = value.data
    assert not any("gate_up_proj" in name for name in model.state_dict())
    assert torch.equal(logits_of(model, IDS), right)


def test_other_layouts_are_refused():
    with pytest.raises(ValueError, match="GptOssExperts cannot be split into linears"):
        split_experts(make_model("GptOssForCausalLM"))


def test_a_model_without_experts_stays_as_it_is():
    model = make_model("LlamaForCausalLM")
    names = list(model.state_dict())
    split_experts(model)
    assert list(model.state_dict()) == names
