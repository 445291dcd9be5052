"""The limits of the plans that have any, on the run's model."""

from collections.abc import Iterable

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import parse_dtype, read_config
from drop_ray.models.export import weight_file_bytes
from drop_ray.models.families import DropLists
from drop_ray.planning.budgets.limits import Limit, check_limits, limits_of
from drop_ray.planning.budgets.resources import Setting
from drop_ray.planning.modules import PLURALS
from drop_ray.planning.requests import PlanRequest


def request_limits(
    request: PlanRequest, config: RunConfig, checkpoint: Checkpoint, size: ModelSize, base_drops: DropLists
) -> tuple[Limit, ...]:
    """The limits of a plan. UserError for one that cannot be reached, and where all hold with nothing dropped."""
    assert request.limit is not None, "a plan without limits has none"
    field = f"{request.line}.limit"
    setting = Setting(
        size,
        vocab_size=int(read_config(checkpoint).vocab_size),
        base_drops=base_drops,
        candidates=request.candidates(size.layers, base_drops),
        layer_bytes=_layer_bytes(request, config),
        file_bytes=weight_file_bytes(checkpoint, DropLists(), parse_dtype(config.model.dtype)),
    )
    limits = limits_of(request.limit, setting, config.execution.hardware, field)
    check_limits(limits, setting.candidates, PLURALS[request.of], field, request.quantized)
    return limits


def _layer_bytes(request: PlanRequest, config: RunConfig) -> float | None:
    """Bytes of a weight in the layers in the form that the plan is for; None in the run's dtype.

    UserError if the plan is for a quantization that is not made of it.
    """
    if request.quantized is None:
        return None
    (spec,) = (spec for spec in config.quantization if spec.label == request.quantized)
    if spec.plans != "all" and request.name not in spec.plans:
        raise UserError(
            f"quantization ({spec.label}).plans: {request.line} makes {request.name} for it; name that plan too"
        )
    return spec.bytes_per_weight


def check_budgets(
    requests: Iterable[PlanRequest], config: RunConfig, checkpoint: Checkpoint, size: ModelSize, base_drops: DropLists
) -> None:
    """UserError, before any work, for limits that cannot be kept."""
    for request in requests:
        if request.limit is not None:
            request_limits(request, config, checkpoint, size, base_drops)
