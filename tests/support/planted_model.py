"""A model made by hand in which cosine similarity is wrong: the sub-layer that changes the state least has the answer.

Every state is 100 in direction 0 and +-5 in direction 1, by the token's parity. The MLP of layer `PLANTED` adds +-0.3
in direction 2, by that parity: its cosine distance is about 4.5e-6. All others add 3, each in a direction of its own,
at a distance of about 4.5e-4. The output layer reads direction 2 alone, times 400: without the planted MLP it predicts
nothing, and without any of the others the same as before, but for the scale of the last norm.
"""

from pathlib import Path

import tiny_models
import torch
from transformers import LlamaForCausalLM

NUM_LAYERS, PLANTED = 4, 1


def write_planted(folder: Path) -> Path:
    model = tiny_models.make_model(num_layers=NUM_LAYERS)
    assert isinstance(model, LlamaForCausalLM)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        parity = torch.where(torch.arange(tiny_models.VOCAB_SIZE) % 2 == 0, 1.0, -1.0)
        model.model.embed_tokens.weight[:, 0] = 100.0
        model.model.embed_tokens.weight[:, 1] = 5.0 * parity
        # After a norm direction 0 is about sqrt(32) = 5.66, and direction 1 a twentieth of that.
        one = 1 / 32**0.5
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.v_proj.weight[0, 0] = one
            layer.self_attn.o_proj.weight[3 + 2 * index, 0] = 3.0
            # silu(10) is 10: the gate is open, what passes is what `up` reads.
            layer.mlp.gate_proj.weight[0, 0] = 10 * one
            if index == PLANTED:
                layer.mlp.up_proj.weight[0, 1] = 20 * one
                layer.mlp.down_proj.weight[2, 0] = 0.03
            else:
                layer.mlp.up_proj.weight[0, 0] = one
                layer.mlp.down_proj.weight[4 + 2 * index, 0] = 0.3
        model.lm_head.weight[:, 2] = 400.0 * parity
    model.save_pretrained(folder)
    tiny_models.make_tokenizer().save_pretrained(folder)
    (folder / "LICENSE").write_text("the licence of the base model\n")
    return folder
