"""Refuses metrics that cannot score a model, or not what a plan drops, before any work."""

from collections.abc import Iterable

from transformers import PreTrainedModel

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.extensions import METRICS
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.models.loading import unmatched_tensors
from drop_ray.models.tensor_map import map_tensors
from drop_ray.planning.modules import MODULES, PLURALS
from drop_ray.planning.requests import PlanRequest
from drop_ray.scoring.metrics.metric import OutputMetric, metrics_of, swept

FIELD = "scoring.metrics"


def check_head(config: RunConfig, checkpoint: Checkpoint, skeleton: PreTrainedModel) -> None:
    """UserError if a metric compares predictions, and the checkpoint has no weights of an output layer."""
    outputs = metrics_of(config.scoring.metrics, OutputMetric)
    if not outputs:
        return
    head = skeleton.get_output_embeddings()
    names = {f"{name}.weight" for name, module in skeleton.named_modules() if module is head}
    missing, _ = unmatched_tensors(skeleton, map_tensors(skeleton, checkpoint.tensors))
    if head is None or names & missing:
        raise UserError(
            f"{FIELD}: {next(iter(outputs))} compares predictions, and {checkpoint.location} has no output layer "
            f"({', '.join(sorted(names)) or 'lm_head.weight'}); give the checkpoint of the causal language model"
        )


def check_metrics(config: RunConfig, model: PreTrainedModel) -> None:
    """UserError if a metric cannot score the model, which may have no weights, or training checkpoints have none."""
    for name in config.scoring.metrics:
        if fault := METRICS.load(name).fault(model):
            raise UserError(f"{FIELD}: {name} {fault}")
    if config.model.revisions and not swept(config.scoring.metrics):
        raise UserError(
            f"{FIELD}: training checkpoints (model.revisions) are compared by metrics of one forward pass; add one, "
            "such as cosine"
        )


def check_ranking(requests: Iterable[PlanRequest], layers: Layers) -> None:
    """UserError if the metric of a plan does not score what the plan drops."""
    for request in requests:
        if not request.uses_scores:
            continue
        scored = METRICS.load(request.metric).modules
        # A block of one sub-layer only is ranked by that one.
        kinds = {*MODULES[request.of], *(module.kind for module in request.candidates(layers, DropLists()))}
        lacking = kinds.difference(scored)
        if lacking:
            raise UserError(
                f"plans: {request.name} ranks {PLURALS[request.of]} by {request.metric}, which scores "
                f"{' and '.join(scored)} only; name another `metric`, or put another one first in {FIELD}"
            )
