"""An export is the model that it was made of: both give the same logits for a few tokens.

Both go through their layers one at a time, the base's weights with the plan's changes first and the export then. So
there are never more than two layers in memory, and the embedding or the output layer beside them. Numbers are float32
on the CPU. There both compute the same operations in the same order, and the difference is zero.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from drop_ray.errors import DropRayError, ExportRefusedError
from drop_ray.evaluation.divergence.output_layer import load_output, logits_of
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import state_of
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.exported import read_export
from drop_ray.models.families import DropLists
from drop_ray.models.files.stored_tensors import byte_view
from drop_ray.models.language_model import inner_name
from drop_ray.models.layer_inputs import layer_inputs
from drop_ray.models.loading import Weights
from drop_ray.scoring.scorer import load_source

logger = logging.getLogger(__name__)

NUM_TOKENS = 32
# The largest difference of two logits that is accepted, as a part of the largest logit or of 1.
TOLERANCE = 1e-5
DTYPE = torch.float32


@dataclass(frozen=True)
class Forward:
    """What a model makes of the tokens."""

    states: list[torch.Tensor]
    """The residual state before the first layer and after each layer, [1, tokens, hidden_size]."""
    logits: torch.Tensor
    """Logits, [tokens, vocabulary]."""


def check_export(source: Checkpoint, drops: DropLists, folder: Path, format: ExportFormat) -> float | None:
    """The largest difference of a logit between the export in `folder` and what it was made of.

    source: the base's weights with the changes; drops: what the export lacks. ExportRefusedError if the difference is
    larger than `TOLERANCE`, or the export cannot be read. None, and a warning with the reason, where the model that it
    was made of cannot be computed here.
    """
    drops = drop_lists_of(source).union(drops)
    expected = _expected(source, drops, format)
    if expected is None:
        return None
    try:
        weights, skeleton = read_export(folder, format, source, DTYPE)
        found = _forward(skeleton, weights)
        changed = _changed_tower(source, weights)
    except OSError:
        raise
    except Exception as error:  # what it was made of could be read and computed just now
        said = error if isinstance(error, DropRayError) else repr(error)
        raise ExportRefusedError(f"the {format} export cannot be read: {said}; it was not kept") from error
    if found.logits.shape != expected.logits.shape:
        raise ExportRefusedError(
            f"the {format} export gives logits of shape {list(found.logits.shape)}, and the base's weights with the "
            f"changes {list(expected.logits.shape)}; it was not kept"
        )
    difference = _difference(found.logits, expected.logits)
    allowed = TOLERANCE * max(1.0, float(expected.logits.abs().max()))
    if not difference <= allowed:
        raise ExportRefusedError(
            f"the {format} export is not the model that it was made of: its logits differ from those of the base's "
            f"weights with the changes by up to {difference:.3g}, and {allowed:.1g} is allowed; "
            f"{_first_difference(expected, found, drops)}; it was not kept"
        )
    if changed is not None:
        raise ExportRefusedError(f"the {format} export has another {changed} than the base; it was not kept")
    logger.info("the %s export gives the logits of what it was made of, within %.3g", format, difference)
    return difference


def _expected(source: Checkpoint, drops: DropLists, format: ExportFormat) -> Forward | None:
    try:
        expected = _forward(build_skeleton(read_config(source), drops, DTYPE), source)
    except (DropRayError, OSError):
        raise
    except Exception as error:
        # Code of a family may need what is not here, such as kernels for a GPU. An export of it was possible so far.
        reason = f"the model that it is made of cannot be computed in float32 on this CPU ({error!r})"
    else:
        if expected.logits.isfinite().all():
            return expected
        reason = "the logits of the model that it is made of are not finite"
    logger.warning("the %s export was NOT compared with what it was made of: %s", format, reason)
    return None


@torch.inference_mode()
def _forward(skeleton: PreTrainedModel, checkpoint: Checkpoint) -> Forward:
    weights = Weights(skeleton, checkpoint)
    source = load_source(skeleton, weights, "streamed", "cpu")
    vocabulary = skeleton.config.vocab_size
    token_ids = torch.arange(NUM_TOKENS)[None] * vocabulary // NUM_TOKENS
    inputs = layer_inputs(skeleton, token_ids)
    states = [inputs.hidden]
    with source.wave() as layers:
        for layer, arguments in zip(layers, inputs.keyword_arguments, strict=True):
            states.append(state_of(layer(states[-1].clone(), **arguments)))
    load_output(skeleton, weights, "cpu")
    return Forward(states, logits_of(skeleton, token_ids[0], states[-1][0]))


def _changed_tower(source: Checkpoint, export: Checkpoint) -> str | None:
    """The first tensor of a multimodal checkpoint, outside of its language model, that is not the base's own."""
    if source.whole is None or export.whole is None:
        return None
    for name in source.whole.tensors:
        if inner_name(name) is None:
            one, other = (each.read([name])[name] for each in (source.whole, export.whole))
            if one.dtype != other.dtype or one.shape != other.shape or byte_view(one) != byte_view(other):
                return name
    return None


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """NaN where a number is."""
    return float((found - expected).abs().max())


def _first_difference(expected: Forward, found: Forward, drops: DropLists) -> str:
    """Where the two come apart. A plain checkpoint has the layers alone that are left."""
    numbers = [*range(len(expected.states) - 1)]
    if len(found.states) != len(expected.states):
        numbers = [layer for layer in numbers if layer not in drops.attn]
    if len(found.states) != len(numbers) + 1:
        return f"it has {len(found.states) - 1} layers, and {len(numbers)} are left"
    if not torch.equal(found.states[0], expected.states[0]):
        return "they differ before layer 0: by the embedding"
    for layer, state in zip(numbers, found.states[1:], strict=True):
        if not torch.equal(state, expected.states[layer + 1]):
            by = _difference(state, expected.states[layer + 1])
            return f"the states differ first after layer {layer}, by up to {by:.3g}"
    return "the states after the last layer are equal: they differ by the last norm or the output layer"
