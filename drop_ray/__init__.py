"""drop_ray: find the attention layers, MLPs and blocks a language model does not need, and remove them.

>>> run = drop_ray.run("my.yaml")                              # everything; run.tables, run.plans, run.checkpoints
>>> model = drop_ray.load("checkpoints/attention-8")           # a base or dropped checkpoint, strictly checked
>>> scores = drop_ray.score(model, token_ids)                  # {"attention": [...], "mlp": [...], "block": [...]}

Importing this package is cheap: it loads neither torch nor transformers. When the program itself uses transformers,
the dropped model types are registered there, so that `AutoModelForCausalLM.from_pretrained` loads a dropped checkpoint.
"""

from typing import Any

import wrapt

__version__ = "0.1.0"
__all__ = ["export", "export_gguf", "inspect", "load", "plan", "run", "score"]


def _register(_: Any) -> None:
    from drop_ray.models.registration import register

    register()


wrapt.register_post_import_hook(_register, "transformers")


def __getattr__(name: str) -> Any:
    if name in __all__:
        from drop_ray import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
