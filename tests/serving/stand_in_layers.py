"""Layers that call their parts in the ways of vLLM's, without a sub-layer; run in a process of its own by a test."""

import copy
from itertools import product

import torch
from torch import nn

from drop_ray.models.sublayers import is_norm, sublayer_names
from drop_ray.serving.vllm_stand_ins import replace_sublayer

WIDTH = 8
POSITIONS = torch.arange(3)


class Norm(nn.Module):
    def forward(self, x, residual=None):
        total = x if residual is None else x + residual
        normed = total / (1 + total.abs().mean(-1, keepdim=True))
        return normed if residual is None else (normed, total)


class Mixer(nn.Linear):
    def __init__(self):
        super().__init__(WIDTH, WIDTH)

    def forward(self, positions, hidden_states):
        return super().forward(hidden_states) * (1 + positions[:, None])


class Mlp(nn.Linear):
    def __init__(self):
        super().__init__(WIDTH, WIDTH)

    def forward(self, x):
        return super().forward(x)


class MixerInto(Mixer):
    def forward(self, hidden_states, output):
        output.copy_(super().forward(POSITIONS, hidden_states))


class MixerWithResidual(Mixer):
    def forward(self, positions, hidden_states, residual, **kwargs):
        return super().forward(positions, hidden_states), residual


class Parts(nn.Module):
    def __init__(self, mixer="self_attn", mlp="mlp", made=Mixer, norms=("input_layernorm", "post_attention_layernorm")):
        super().__init__()
        self.add_module(mixer, made())
        self.add_module(mlp, Mlp())
        for name in norms:
            self.add_module(name, Norm())


class Fused(Parts):
    """As Llama: the next norm adds."""

    def forward(self, hidden, residual):
        if residual is None:
            hidden, residual = self.input_layernorm(hidden), hidden
        else:
            hidden, residual = self.input_layernorm(hidden, residual)
        hidden = self.mix(hidden)
        hidden, residual = self.post_attention_layernorm(hidden, residual)
        return self.mlp(hidden), residual

    def mix(self, hidden):
        return self.self_attn(positions=POSITIONS, hidden_states=hidden)


class FirstState(Fused):
    """As gpt-oss: attention is called otherwise, and given the state first."""

    def __init__(self):
        super().__init__(mixer="attn")

    def mix(self, hidden):
        return self.attn(POSITIONS, hidden)


class Into(Fused):
    """As LFM2: the caller makes the output."""

    def __init__(self):
        super().__init__(mixer="short_conv", made=MixerInto)

    def mix(self, hidden):
        output = torch.full_like(hidden, torch.nan)
        self.short_conv(hidden, output)
        return output


class Method(Fused):
    """As Jamba: attention is a method of the layer."""

    def __init__(self):
        super().__init__(mixer="attn")
        self.qkv_proj, self.o_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def self_attention(self, positions, hidden_states):
        return self.o_proj(self.attn(positions, self.qkv_proj(hidden_states)))

    def mix(self, hidden):
        return self.self_attention(positions=POSITIONS, hidden_states=hidden)


class Scaled(Parts):
    """As Granite: the layer adds."""

    def forward(self, hidden, residual):
        hidden = hidden + self.self_attn(positions=POSITIONS, hidden_states=self.input_layernorm(hidden)) * 0.5
        return hidden + self.mlp(self.post_attention_layernorm(hidden)) * 0.5, None


class After(Parts):
    """As EXAONE 4: norms after, and the layer adds."""

    def __init__(self):
        super().__init__(norms=("post_attention_layernorm", "post_feedforward_layernorm"))

    def forward(self, hidden, residual):
        hidden = hidden + self.post_attention_layernorm(self.self_attn(POSITIONS, hidden))
        return hidden + self.post_feedforward_layernorm(self.mlp(hidden)), None


class Beside(Parts):
    """As Command R: attention and MLP behind one norm."""

    def __init__(self):
        super().__init__(norms=("input_layernorm",))

    def forward(self, hidden, residual):
        normed = self.input_layernorm(hidden)
        return hidden + self.self_attn(POSITIONS, normed) + self.mlp(normed), None


class TwoMixers(Scaled):
    """As Falcon-H1: two mixers side by side, which are given the residual and hand it back."""

    def __init__(self):
        super().__init__(made=MixerWithResidual)
        self.mamba = MixerWithResidual()

    def forward(self, hidden, residual):
        normed = self.input_layernorm(hidden)
        first, _ = self.self_attn(positions=POSITIONS, hidden_states=normed, residual=hidden)
        second, _ = self.mamba(POSITIONS, normed * 2, hidden)
        hidden = hidden + first + second
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), None


def run(layers):
    """The state after all layers, [3, WIDTH]."""
    hidden, residual = torch.linspace(-1, 1, 3 * WIDTH).view(3, WIDTH), None
    for layer in layers:
        hidden, residual = layer(hidden, residual)
    return hidden if residual is None else hidden + residual


def silence(layer, names):
    """Have these modules give zero: what a dropped sub-layer must equal."""
    for name in names:
        for parameter in getattr(layer, name).parameters():
            parameter.zero_()


def check(made):
    torch.manual_seed(0)
    full = [made() for _ in range(3)]
    for drops in product(((), ("attention",), ("mlp",), ("attention", "mlp")), repeat=3):
        dropped, silenced = copy.deepcopy(full), copy.deepcopy(full)
        for ours, theirs, kinds in zip(dropped, silenced, drops, strict=True):
            for kind in kinds:
                names = [name for name in sublayer_names(theirs)[kind] if not is_norm(name)]
                silence(theirs, ["o_proj"] if made is Method and kind == "attention" else names)
                gone = [*replace_sublayer(ours, sublayer_names(ours)[kind])]
                assert any([*part.parameters()] for part in gone)
        torch.testing.assert_close(run(dropped), run(silenced), msg=f"{made.__name__} without {drops}")


if __name__ == "__main__":
    with torch.no_grad():
        for made in (Fused, FirstState, Into, Method, Scaled, After, Beside, TwoMixers):
            check(made)
    print("ALL EQUAL")
