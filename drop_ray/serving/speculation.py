"""How vLLM is told of a draft model, and a folder for one that takes no second copy of the base's weights."""

from pathlib import Path
from typing import Any

from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.files.weight_files import FORMATS
from drop_ray.serving.engine import DraftSettings


def speculation(draft: DraftSettings) -> dict[str, Any]:
    """vLLM's `speculative_config`. The draft runs on as many devices as the model, and gets no overrides."""
    return {
        "method": "draft_model",
        "model": draft.folder,
        "num_speculative_tokens": draft.tokens,
        # Drafting its most probable token, a draft that is the model itself has no more than that one's probability of
        # being kept; drawing from its distribution, all but the total variation of the two.
        **({"draft_sample_method": "probabilistic"} if draft.samples else {}),
    }


def link_draft(base: Checkpoint, drops: DropLists, output: Path) -> None:
    """Write the base without the sub-layers of `drops` to the new folder `output`, with links to the base's weights.

    On the disk it costs nothing. In memory vLLM 0.32 loads weights of its own for it, the embedding and the output
    layer among them. UserError if `output` is not empty.
    """
    export_checkpoint(base, drops, output, format="config-only")
    files = {Path(shard.file).name for shard in base.shards}
    for name in sorted({*files, *(kind.index for kind in FORMATS)}):
        source = base.folder / name
        if source.exists():
            (output / name).symlink_to(source.resolve())
