"""The sizes of a model that needs no files: small numbers that a test can count by hand."""

from drop_ray.models.accounting import ModelSize
from drop_ray.models.layers import Layers

NUM_LAYERS = 4
# Bytes of KV cache of one layer and token.
KV_BYTES = 8
ATTENTION, MLP, OUTSIDE, HIDDEN = 40, 80, 100, 4


def model_size(windows=(None,) * NUM_LAYERS):
    return ModelSize(
        layers=Layers(NUM_LAYERS, attending=tuple(range(NUM_LAYERS))),
        parameters=NUM_LAYERS * (ATTENTION + MLP) + OUTSIDE,
        attention_parameters=(ATTENTION,) * NUM_LAYERS,
        mlp_parameters=(MLP,) * NUM_LAYERS,
        active_mlp_parameters=(MLP,) * NUM_LAYERS,
        outside_parameters=OUTSIDE,
        hidden_size=HIDDEN,
        kv_parameters=(KV_BYTES // 4,) * NUM_LAYERS,
        windows=windows,
        bytes_per_parameter=4,
        max_positions=None,
    )
