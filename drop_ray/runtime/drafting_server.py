"""A replica of Ray Serve LLM whose draft is a plan: it makes the draft's folder on its node before it starts."""

from pathlib import Path
from typing import Any

from ray.serve.llm import LLMConfig, LLMServer

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.location import locate_model
from drop_ray.serving.served_draft import linked_folder


class DraftingServer(LLMServer):  # type: ignore[misc]
    """Its configuration has the draft's drop lists where vLLM wants the draft's folder."""

    async def __init__(self, llm_config: LLMConfig, **options: Any):  # type: ignore[misc] # as Ray's is
        draft = llm_config.engine_kwargs["speculative_config"]
        drops = DropLists(tuple(draft["model"]["drop_attn"]), tuple(draft["model"]["drop_mlp"]))
        folder = draft_folder(llm_config.model_loading_config.model_source, drops)
        llm_config.update_engine_kwargs(speculative_config={**draft, "model": str(folder)})
        await super().__init__(llm_config, **options)


def draft_folder(source: str, drops: DropLists) -> Path:
    """The draft's folder on this node, in the cache; a base by its Hugging Face name is fetched first."""
    return linked_folder(open_checkpoint(locate_model(source, None)), drops)
