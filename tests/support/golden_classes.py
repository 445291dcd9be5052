"""Which causal language model classes of transformers fit, or why not: tests/models/golden_classes.json.

`PYTHONPATH=. python tests/support/golden_classes.py` writes it anew; model types as arguments renew theirs alone.
"""

import json
import re
import sys
from pathlib import Path

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint, as_language_model
from drop_ray.models.dropped import read_config
from drop_ray.models.families import architecture_of
from drop_ray.models.probe import MisfitError, probe
from drop_ray.models.transformers_private import without_floats
from drop_ray.models.wrappers import check_exportable
from drop_ray.store.hash_memory import HashMemory

GOLDEN = Path(__file__).parents[1] / "models" / "golden_classes.json"
CLASSES = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
FITS = "fits"
# Where the default configuration of a class is no model, or lacks a kind of its layers: what released ones state.
SETTINGS = {
    "bamba": {"attn_layer_indices": [2, 9]},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 16, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "granitemoehybrid": {"layer_types": [*["linear_attention"] * 3, "full_attention"] * 8},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "lfm2_moe": {"layer_types": [*["conv", "conv", "full_attention"] * 10, "conv", "conv"]},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}


def found(model_type: str) -> str:
    """`fits`, or the reason why not, without the version of transformers and sizes that differ from run to run."""
    name = CLASSES[model_type]
    try:
        config = getattr(transformers, name).config_class(**SETTINGS.get(model_type, {}))
        config.architectures = [name]
        opened = as_language_model(
            Checkpoint(model_type, Path(), without_floats(config.to_dict()), (), HashMemory(Path()))
        )
        architecture_of(opened.config, model_type)
        if opened.whole is not None:
            check_exportable(opened.whole.config, model_type)
            config = read_config(opened)
        probe(config)
    except (MisfitError, UserError) as error:
        return re.sub(rf" in transformers {transformers.__version__}$", "", str(error).split("\n")[0])[:160]
    except Exception as error:  # a default configuration that its class refuses
        return f"its default configuration is refused ({type(error).__name__})"
    return FITS


def write(model_types: list[str]) -> None:
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() and model_types else {}
    torch.set_num_threads(1)
    for model_type in model_types or CLASSES:
        golden[model_type] = found(model_type)
        print(f"{model_type}: {golden[model_type]}", flush=True)
        GOLDEN.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n")


if __name__ == "__main__":
    write(sys.argv[1:])
