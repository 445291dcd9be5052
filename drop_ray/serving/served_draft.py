"""The draft of a server: a checkpoint, or a plan file, of which a folder with links to the base's weights is made."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from drop_ray.errors import UserError
from drop_ray.models.candidates import layers_of
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.location import locate_model
from drop_ray.planning.plans import read_plan
from drop_ray.serving.engine import DraftSettings
from drop_ray.serving.speculation import link_draft, speculation
from drop_ray.store.identity import fingerprint
from drop_ray.store.node_cache import cache_root

ARGUMENT = "--speculative-config"


def draft_arguments(base: str, draft: str, tokens: int, arguments: Sequence[str]) -> list[str]:
    """The server's further arguments.

    base: folder or Hugging Face name; draft: a plan file, or a dropped checkpoint's folder or name; arguments: the
    server's own. UserError for a draft that cannot be of this base.
    """
    check_only_draft(tokens, arguments)
    if Path(draft).is_file():
        checkpoint = open_checkpoint(locate_model(base, None))
        folder = str(linked_folder(checkpoint, planned_drops(checkpoint, Path(draft))))
    else:
        folder = _checked(base, draft)
    return [ARGUMENT, json.dumps(speculation(DraftSettings(folder, tokens)))]


def check_only_draft(tokens: int, arguments: Sequence[str]) -> None:
    """Raise UserError if the server's own arguments name a draft, too, or if nothing would be drafted."""
    if any(argument.split("=")[0] == ARGUMENT for argument in arguments):
        raise UserError(f"{ARGUMENT} and --draft both name a draft; leave one of them out")
    if tokens < 1:
        raise UserError(f"--draft-tokens: {tokens} tokens cannot be drafted; give 1 or more")


def _checked(base: str, draft: str) -> str:
    """A draft that is a checkpoint."""
    configs = [read_config(open_checkpoint(locate_model(path, None), weights=False)) for path in (base, draft)]
    rows = [int(config.vocab_size) for config in configs]
    if rows[0] != rows[1]:
        raise UserError(
            f"--draft {draft}: has a vocabulary of {rows[1]}, {base} one of {rows[0]}; give a checkpoint that was made "
            "of this base"
        )
    return draft


def planned_drops(checkpoint: Checkpoint, path: Path) -> DropLists:
    """What the draft of the plan at `path` lacks: what the plan drops, and what the base lacks already."""
    layers = layers_of(build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16))
    plan = read_plan(path, layers, None)
    if plan.model_identity is not None:  # only then are the weights hashed
        read_plan(path, layers, checkpoint.identity)
    if plan.changes:
        raise UserError(f"--draft {path}: the plan changes weights, too; export it, and give its checkpoint")
    return plan.drops.union(drop_lists_of(checkpoint))


def linked_folder(checkpoint: Checkpoint, drops: DropLists) -> Path:
    """The folder of a plan's draft, in the user's cache: it lasts as long as servers do, and takes next to no space."""
    place = {"base": str(checkpoint.folder.resolve()), "outline": checkpoint.outline, **drops.as_identity()}
    folder = cache_root(None) / "drafts" / fingerprint(place)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        link_draft(checkpoint, drops, scratch)
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another server has made it meanwhile
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
