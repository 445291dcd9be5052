"""What is measured side by side: the points of a sweep, the order of the sides in a pair, and the rows made of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from drop_ray.config import ServingConfig, WorkloadSpec
from drop_ray.serving.engine import Generation
from drop_ray.serving.measures import higher_is_better, measures
from drop_ray.serving.ratios import paired_ratio
from drop_ray.serving.roofline import Prediction
from drop_ray.serving.spec import SIDES, Side


@dataclass(frozen=True)
class Point:
    """A workload at one batch size."""

    workload: WorkloadSpec
    """The requests' lengths."""
    comparison: Literal["equal_batch", "equal_memory"]
    """Whether both sides have the same batch, or the same memory."""
    batch: int
    """Batch size of the base."""
    variant_batch: int
    """Batch size of the variant; at equal memory the larger one that its freed KV cache allows."""

    def batch_of(self, side: Side) -> int:
        return self.batch if side == "base" else self.variant_batch

    @property
    def label(self) -> str:
        larger = f" against {self.variant_batch}" if self.variant_batch != self.batch else ""
        return f"{self.workload.label}, batch {self.batch}{larger}"


def alternating(pairs: int) -> list[tuple[Side, Side]]:
    """The order of the sides in each pair, AB BA AB ...: drift, such as a device warming up, favours neither."""
    return [SIDES if number % 2 == 0 else (SIDES[1], SIDES[0]) for number in range(pairs)]


def rows_of(
    point: Point,
    pairs: Sequence[Mapping[Side, Generation]],
    serving: ServingConfig,
    control: bool,
    prediction: Prediction,
) -> Iterator[dict[str, Any]]:
    """A row of serving.parquet for each metric of one point; its columns call the variant `plan`."""
    workload = point.workload
    found = {side: [measures(pair[side], workload.prompt) for pair in pairs] for side in SIDES}
    share = float(np.median([prefill_share(pair["base"]) for pair in pairs]))
    for metric in found["base"][0]:
        base, variant = ([values[metric] for values in found[side]] for side in SIDES)
        ratio = paired_ratio(base, variant, higher_is_better(metric))
        yield {
            "workload": workload.label,
            "prompt_tokens": workload.prompt,
            "output_tokens": workload.output,
            "engine": serving.engine,
            "mode": serving.mode,
            "control": control,
            "comparison": point.comparison,
            "batch_size": point.batch,
            "plan_batch_size": point.variant_batch,
            "metric": metric,
            "base": float(np.median(base)),
            "plan": float(np.median(variant)),
            "ratio": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "pairs": ratio.pairs,
            "predicted": prediction.of(metric, share),
        }


def prefill_share(generation: Generation) -> float:
    """The part of a batch's time until its last request has its first token."""
    return min(1.0, max(request.ttft for request in generation.requests) / generation.wall)
