"""`drop-ray inspect MODEL`: what a model is made of and what a plan would save, from its configuration alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize, measure
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.files.weight_files import FORMATS, read_index
from drop_ray.models.loading import unmatched_tensors
from drop_ray.models.location import locate_model
from drop_ray.models.probe import check_architecture
from drop_ray.models.tensor_map import map_tensors
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, table_lines, words
from drop_ray.text.units import human_bytes, human_count

# A line of what is said: what it is about, empty where that is the same as before, and the text.
Row = tuple[str, str]


@dataclass(frozen=True)
class Inspection:
    """What a model is made of, and what a plan would leave of it."""

    location: str
    """Where the model is."""
    architecture: str
    """Its class in transformers."""
    size: ModelSize
    """Its sizes in 16 bits."""
    lacking: DropLists
    """Sub-layers that the model lacks already."""
    plan: DropPlan | None
    """The plan that was asked about."""
    rows: tuple[Row, ...]
    """What is said of it all, for people."""

    @property
    def drops(self) -> DropLists:
        """Everything that is gone after the plan."""
        return self.lacking.union(self.plan.drops) if self.plan else self.lacking

    @property
    def parameters(self) -> int:
        """Number of parameters that are left."""
        return self.size.kept_parameters(self.drops)

    def kv_bytes(self, num_tokens: int = 1, batch_size: int = 1) -> int:
        """Bytes of the KV cache of sequences of that length."""
        return batch_size * self.size.kv_bytes(self.drops, num_tokens)

    def lines(self, console: Console = PLAIN) -> Iterator[str]:
        """The lines that `drop-ray inspect` prints."""
        yield f"{self.location}: {self.architecture}"
        yield from table_lines(console, (names(min_width=10), words()), self.rows)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def inspect_model(
    path: str,
    revision: str | None = None,
    plan: Path | None = None,
    *,
    num_tokens: int = 2048,
    batch_size: int = 1,
    allow_unlisted: bool = False,
) -> Inspection:
    """Look at a model. No weights are read or downloaded: config.json is enough, an index is checked if it is there.

    num_tokens and batch_size are of the sequences whose KV cache is reckoned. UserError for a model that cannot be
    dropped from, and for a plan that does not fit it.
    """
    checkpoint = open_checkpoint(locate_model(path, revision, weights=False), weights=False)
    check_architecture(checkpoint, allow_unlisted)
    config = read_config(checkpoint)
    lacking = drop_lists_of(checkpoint)
    # As it will be run; many checkpoints are stored in float32.
    skeleton = build_skeleton(config, lacking, torch.bfloat16)
    size = measure(skeleton)
    chosen = read_plan(plan, size.num_layers, None) if plan else None
    sequences = f"{batch_size} x {num_tokens} tokens"
    rows = [*_model_rows(config), *_index_rows(checkpoint, skeleton), *_size_rows(size, lacking)]
    kv_bytes = batch_size * size.kv_bytes(lacking, num_tokens)
    a_token = human_bytes(size.kv_bytes_per_token(lacking))
    rows.append(("KV cache", f"{a_token} a token, {human_bytes(kv_bytes)} for {sequences}"))
    if chosen:
        left = batch_size * size.kv_bytes(lacking.union(chosen.drops), num_tokens)
        rows += _plan_rows(chosen, size, lacking)
        rows.append(("", f"KV cache for {sequences}: {human_bytes(kv_bytes)} -> {human_bytes(left)}"))
    return Inspection(checkpoint.location, config.architectures[0], size, lacking, chosen, tuple(rows))


def _model_rows(config: Any) -> Iterator[Row]:
    family = FAMILIES.get(config.architectures[0])
    if family:
        yield "family", family.models
        yield "layers", f"{config.num_hidden_layers}: {family.layers}"
    else:
        yield "layers", f"{config.num_hidden_layers}; the architecture is not listed, a small model of it fits"
    heads = f"{config.num_attention_heads} heads, {config.num_key_value_heads} key-value heads"
    yield "widths", f"hidden {config.hidden_size}, {heads}, vocabulary {config.vocab_size}"
    if getattr(config, "num_nextn_predict_layers", None):
        count = f"{config.num_nextn_predict_layers} layers that predict further tokens"
        yield "note", f"{count} lie behind the last; they are neither scored nor exported"


def _index_rows(checkpoint: Checkpoint, skeleton: PreTrainedModel) -> Iterator[Row]:
    """Whether the tensors that an index names are those of the model; shapes are checked when weights are opened."""
    for form in FORMATS:
        index = checkpoint.folder / form.index
        if index.is_file():
            files = read_index(index, f"{checkpoint.location}/{form.index}")
            names = [name for tensors in files.values() for name in tensors]
            missing, unexpected = unmatched_tensors(skeleton, map_tensors(skeleton, names))
            if missing or unexpected:
                what = (
                    f"lacks {min(missing)}" if missing else f"names {min(unexpected)}, which has no place in the model"
                )
                raise UserError(f"{checkpoint.location}/{form.index} {what}; is it the index of this config.json?")
            yield "index", f"{len(names)} tensors in {len(files)} files, all of them the model's"
            return


def _size_rows(size: ModelSize, lacking: DropLists) -> Iterator[Row]:
    total = size.kept_parameters(DropLists())
    weights = human_bytes(total * size.bytes_per_parameter)
    yield "parameters", f"{human_count(total)}, {weights} in 16 bits"
    for name, counts, dropped in (
        ("attention", size.attention_parameters, lacking.attn),
        ("MLP", size.mlp_parameters, lacking.mlp),
    ):
        kept = size.num_layers - len(dropped)
        each = " to ".join(human_count(count) for count in sorted({min(filter(None, counts), default=0), max(counts)}))
        yield "", f"{name} {human_count(sum(counts))} ({sum(counts) / total:.0%}): {kept} with {each} each"
    yield "", f"embeddings and the rest {human_count(size.outside_parameters)}"
    windows = [window for window in size.windows if window and window < (size.max_positions or window + 1)]
    if windows:
        count = f"{len(windows)} of {size.num_layers}"
        yield "", f"{count} attention layers look back {max(windows)} tokens at most"


def _plan_rows(plan: DropPlan, size: ModelSize, lacking: DropLists) -> Iterator[Row]:
    drops = lacking.union(plan.drops)
    before, after = size.kept_parameters(lacking), size.kept_parameters(drops)
    saved = before - after
    yield "plan", f"{plan.name}: without {len(plan.drop_attn)} attention layers and {len(plan.drop_mlp)} MLPs"
    weights = human_bytes(saved * size.bytes_per_parameter)
    yield "", f"saves {human_count(saved)} parameters ({saved / before:.1%}), {weights}; {human_count(after)} are left"
    kv_before, kv_after = size.kv_bytes_per_token(lacking), size.kv_bytes_per_token(drops)
    less = f"{1 - kv_after / max(kv_before, 1):.0%} less"
    yield "", f"KV cache {human_bytes(kv_before)} -> {human_bytes(kv_after)} a token ({less})"
