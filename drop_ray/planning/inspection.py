"""`drop-ray inspect MODEL`: the parts of a model and what a plan would save, from its configuration alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel

from drop_ray.config import ModelConfig
from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize, measure
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.files.weight_files import FORMATS, read_index
from drop_ray.models.language_model import inner_name
from drop_ray.models.layers import named
from drop_ray.models.loading import unmatched_tensors
from drop_ray.models.location import locate_model
from drop_ray.models.probe import check_architecture, is_listed
from drop_ray.models.quantized_base.kinds import quantized_kind
from drop_ray.models.quantized_base.reading import name_as_read
from drop_ray.models.tensor_map import map_tensors
from drop_ray.models.whole import whole_skeleton
from drop_ray.models.wrappers import wrapper_class
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, table_lines, words
from drop_ray.text.units import human_bytes, human_count

# A line that is printed: its topic, empty if the line above has the same, and the text.
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

    def as_json(self) -> dict[str, Any]:
        """The same for programs: parameters, and bytes in 16 bits, before and after the plan."""
        return {
            "location": self.location,
            "architecture": self.architecture,
            "layers": self.size.num_layers,
            "parameters": self.size.kept_parameters(self.lacking),
            "parameters_left": self.parameters,
            "kv_bytes_per_token": self.size.kv_bytes_per_token(self.lacking),
            "kv_bytes_per_token_left": self.size.kv_bytes_per_token(self.drops),
            **self.drops.as_identity(),
        }

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
    checkpoint = open_checkpoint(locate_model(ModelConfig(path=path).location, revision, weights=False), weights=False)
    check_architecture(checkpoint, allow_unlisted)
    config = read_config(checkpoint)
    lacking = drop_lists_of(checkpoint)
    # In the dtype in which it will be run; many checkpoints are stored in float32.
    skeleton = build_skeleton(config, lacking, torch.bfloat16)
    size = measure(skeleton)
    chosen = read_plan(plan, size.layers, None) if plan else None
    sequences = f"{batch_size} x {num_tokens} tokens"
    rows = [
        *_model_rows(config, quantized_kind(checkpoint.config, checkpoint.location), is_listed(checkpoint)),
        *_wrapper_rows(checkpoint, size),
        *_index_rows(checkpoint, skeleton),
        *_size_rows(size, lacking),
        *_layer_rows(size),
    ]
    kv_bytes = batch_size * size.kv_bytes(lacking, num_tokens)
    a_token, states = human_bytes(size.kv_bytes_per_token(lacking)), size.state_bytes(lacking)
    constant = f" and {human_bytes(states)} a sequence" if states else ""
    rows.append(("KV cache", f"{a_token} a token{constant}, {human_bytes(kv_bytes)} for {sequences}"))
    if chosen:
        left = batch_size * size.kv_bytes(lacking.union(chosen.drops), num_tokens)
        rows += _plan_rows(chosen, size, lacking)
        rows.append(("", f"KV cache for {sequences}: {human_bytes(kv_bytes)} -> {human_bytes(left)}"))
    return Inspection(checkpoint.location, config.architectures[0], size, lacking, chosen, tuple(rows))


def _model_rows(config: Any, kind: str | None, is_tested: bool) -> Iterator[Row]:
    family = FAMILIES.get(config.architectures[0])
    if family:
        yield "family", family.models
        yield "layers", f"{config.num_hidden_layers}: {family.layers}"
    else:
        reason = "" if is_tested else "; the architecture is not listed, a small model of it fits"
        yield "layers", f"{config.num_hidden_layers}{reason}"
    heads = getattr(config, "num_attention_heads", None)
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    of_heads = f"{heads} heads, {kv_heads} key-value heads, " if heads else ""  # a state space model has none
    yield "widths", f"hidden {config.hidden_size}, {of_heads}vocabulary {config.vocab_size}"
    if kind:
        yield "note", f"its weights are stored quantized ({kind}): read in 16 bits, exported as they are stored"
    if getattr(config, "num_nextn_predict_layers", None):
        count = f"{config.num_nextn_predict_layers} layers that predict further tokens"
        yield "note", f"{count} lie behind the last; they are neither scored nor exported"


def _wrapper_rows(checkpoint: Checkpoint, size: ModelSize) -> Iterator[Row]:
    if checkpoint.whole is None:
        return
    whole = whole_skeleton(checkpoint, checkpoint.whole.config)
    towers = sum(parameter.numel() for parameter in whole.parameters()) - size.parameters
    weights = human_bytes(towers * size.bytes_per_parameter)
    name = wrapper_class(checkpoint.whole.config)
    yield "inside of", f"a {name}, of whose language model all that follows is"
    yield "towers", f"{human_count(towers)} parameters, {weights} in 16 bits; they stay as they are"


def _index_rows(checkpoint: Checkpoint, skeleton: PreTrainedModel) -> Iterator[Row]:
    """Check that an index names the model's tensors. Their shapes are checked when weights are opened."""
    for format in FORMATS:
        index = checkpoint.folder / format.index
        if index.is_file():
            files = read_index(index, f"{checkpoint.location}/{format.index}")
            stored = [name for tensors in files.values() for name in tensors]
            own = stored if checkpoint.whole is None else [inner for name in stored if (inner := inner_name(name))]
            names = dict.fromkeys(name_as_read(checkpoint, name) for name in own)
            missing, unexpected = unmatched_tensors(skeleton, map_tensors(skeleton, names))
            if missing or unexpected:
                what = (
                    f"lacks {min(missing)}" if missing else f"names {min(unexpected)}, which has no place in the model"
                )
                raise UserError(f"{checkpoint.location}/{format.index} {what}; is it the index of this config.json?")
            others = (
                f", {len(stored) - len(own)} of them its towers'"
                if len(own) < len(stored)
                else ", all of them the model's"
            )
            yield "index", f"{len(stored)} tensors in {len(files)} files{others}"
            return


def _size_rows(size: ModelSize, lacking: DropLists) -> Iterator[Row]:
    total = size.kept_parameters(DropLists())
    weights = human_bytes(total * size.bytes_per_parameter)
    yield "parameters", f"{human_count(total)}, {weights} in 16 bits"
    for name, counts, dropped in (
        ("attention", size.attention_parameters, lacking.attn),
        ("MLP", size.mlp_parameters, lacking.mlp),
    ):
        kept = sum(bool(count) and layer not in dropped for layer, count in enumerate(counts))
        each = " to ".join(human_count(count) for count in sorted({min(filter(None, counts), default=0), max(counts)}))
        yield "", f"{name} {human_count(sum(counts))} ({sum(counts) / total:.0%}): {kept} with {each} each"
    yield "", f"embeddings and the rest {human_count(size.outside_parameters)}"
    windows = [window for window in size.windows if window and window < (size.max_positions or window + 1)]
    if windows:
        count = f"{len(windows)} of {size.num_layers}"
        yield "", f"{count} attention layers look back {max(windows)} tokens at most"


def _layer_rows(size: ModelSize) -> Iterator[Row]:
    """The kinds of mixers, where there are several, and what cannot be dropped."""
    mixers = size.layers.mixers
    if len(mixers) > 1:
        kinds = (f"{kind} in {named(layers)}" for kind, layers in mixers.items())
        yield "mixers", "; ".join(kinds)
    for reason in size.layers.stays:
        yield "note", f"{reason}; no plan drops that"


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
