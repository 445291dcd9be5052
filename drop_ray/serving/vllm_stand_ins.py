"""What takes the place of a dropped sub-layer in a layer of vLLM, whatever the layer hands to it and expects of it.

Most layers of vLLM pass the output of their last sub-layer on without adding it to the residual: the next norm adds it.
There the modules of a dropped sub-layer pass on the output that is pending. Other layers add each output themselves, or
have a norm that attention and MLP share, which stays: there a dropped sub-layer gives zeros. Which of the two it is, is
seen in the call: a norm that is given no residual adds nothing.
"""

import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from drop_ray.models.sublayers import MIXERS, is_norm
from drop_ray.serving.vllm_private import MissingLayer, returns_pair

# Jamba's attention is a method of the layer, which calls these modules of it.
METHOD, ITS_MODULES = "self_attention", ("qkv_proj", "attn", "o_proj")


class NoSublayer(MissingLayer):
    """Replaces a token mixer, an MLP, or a norm after one. Weight loaders of vLLM skip a `MissingLayer`'s tensors.

    It passes on the state, or zeros, in the way of the module that it replaces: as the first of a pair if that returns
    one or is given the residual too, and in `output` if the caller reads that.
    """

    def __init__(self, call: Callable[..., Any], is_zero: bool = False, is_pair: bool = False):
        """call: what it replaces, whose parameters it goes by."""
        super().__init__()
        parameters = inspect.signature(call).parameters.values()
        self.names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
        self.is_zero, self.is_pair = is_zero, is_pair

    def forward(self, *args, **kwargs):
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        first = [given[name] for name in ("hidden_states", "x") if name in given]
        tensors = [value for value in (*first, *args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        state = next(tensor for tensor in tensors if tensor.is_floating_point())
        state = torch.zeros_like(state) if self.is_zero else state
        if given.get("output") is not None:
            given["output"].copy_(state)
        residual = given.get("residual")
        return state if residual is None and not self.is_pair else (state, residual)


class NoNorm(MissingLayer):
    """Replaces the norm before a sub-layer, which would have added the pending output."""

    def forward(self, hidden_states, residual=None):
        # Without one, the caller keeps its input as the residual: in the model's first layer, or in every layer.
        return torch.zeros_like(hidden_states) if residual is None else (hidden_states, residual)


def replace_sublayer(layer: nn.Module, names: list[str]) -> Iterator[nn.Module]:
    """Replace the modules of a sub-layer, named in the order of their calls. The replaced modules are given back."""
    has_norm = is_norm(names[0])
    is_zero = not has_norm
    for name in names:
        part = getattr(layer, name)
        if has_norm and name == names[0]:
            setattr(layer, name, NoNorm())
        elif name in ITS_MODULES and inspect.ismethod(method := getattr(layer, METHOD, None)):
            vars(layer)[METHOD] = NoSublayer(method, is_zero).forward
            for module in ITS_MODULES:
                yield getattr(layer, module)
                setattr(layer, module, NoSublayer(method))
        elif is_norm(name):
            setattr(layer, name, NoSublayer(part.forward, is_pair=returns_pair(part)))
        else:
            put = NoSublayer(part.forward, is_zero, returns_pair(part))
            if name in MIXERS:  # a class may set attributes of its parts once all layers are built (ERNIE 4.5)
                vars(put).update({child: SimpleNamespace() for child, _ in part.named_children()})
            setattr(layer, name, put)
            is_zero = True  # a second one lies beside the first, and the layer adds their outputs
        yield part
