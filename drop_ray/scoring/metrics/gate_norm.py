"""`gate_norm`: how strongly an attention's queries and keys are coupled, by its weights alone."""

import math
from typing import TYPE_CHECKING, Any

from torch import nn

from drop_ray.scoring.metrics.metric import WeightMetric

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROJECTIONS = ("q_proj", "k_proj")


class GateNorm(WeightMetric):
    def score(self, layer: nn.Module, module: str) -> float:
        """sqrt(mean over query heads of |Wq' Wk|^2), with the Frobenius norm of the [hidden, hidden] product.

        Wq and Wk are a head's rows of `q_proj` and of the `k_proj` that it reads, [head_dim, hidden]. The product is
        not formed: |Wq' Wk|^2 is the sum over the entries of (Wq Wq') * (Wk Wk'), here in float64. That attention is
        ranked by this coupling is Gate-Norm's; the mean over heads is ours, and no norm's weights are folded in.
        """
        del module
        (attention,) = _mixers(layer)
        queries, keys = (
            getattr(attention, name).weight.detach().double().unflatten(0, (-1, attention.head_dim))
            for name in PROJECTIONS
        )
        shared = len(queries) // len(keys)  # query heads of one key head
        squares = [
            float(((query @ query.T) * (keys[head // shared] @ keys[head // shared].T)).sum())
            for head, query in enumerate(queries)
        ]
        return math.sqrt(math.fsum(squares) / len(squares))

    def fault(self, model: "PreTrainedModel") -> str | None:
        from drop_ray.models.dropped import decoder_layers  # metrics are loaded without transformers

        attentions = [mixer for layer in decoder_layers(model) for mixer in _mixers(layer)]
        kept = [attention for attention in attentions if any(True for _ in attention.parameters())]
        if kept and all(hasattr(attention, name) for attention in kept for name in (*PROJECTIONS, "head_dim")):
            return None
        return "reads q_proj and k_proj of each attention, which this architecture does not have; leave the metric out"


def _mixers(layer: nn.Module) -> list[Any]:
    """What mixes the tokens of a decoder layer."""
    from drop_ray.models.sublayers import is_norm, sublayer_names

    return [getattr(layer, name) for name in sublayer_names(layer)["attention"] if not is_norm(name)]


GATE_NORM = GateNorm(
    bounds=(0.0, math.inf), source="after Saikumar and Varghese, arXiv 2512.20636", modules=("attention",)
)
