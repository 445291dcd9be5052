"""What is measured side by side: the points of a sweep, the order of a pair's arms, and the rows that come of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from drop_ray.config import ServingConfig, WorkloadSpec
from drop_ray.serving.engine import Generation
from drop_ray.serving.measures import higher_is_better, measures
from drop_ray.serving.ratios import paired_ratio
from drop_ray.serving.roofline import Prediction
from drop_ray.serving.spec import ARMS, Arm


@dataclass(frozen=True)
class Point:
    """A workload at one batch size. At equal memory the plan has the larger batch that its freed KV cache allows."""

    workload: WorkloadSpec
    comparison: Literal["equal_batch", "equal_memory"]
    batch: int
    plan_batch: int

    def batch_of(self, arm: Arm) -> int:
        return self.batch if arm == "base" else self.plan_batch

    @property
    def label(self) -> str:
        plan = f" against {self.plan_batch}" if self.plan_batch != self.batch else ""
        return f"{self.workload.label}, batch {self.batch}{plan}"


def alternating(pairs: int) -> list[tuple[Arm, Arm]]:
    """AB BA AB ...: whatever drifts, such as a device that warms up, favours neither arm."""
    return [ARMS if number % 2 == 0 else (ARMS[1], ARMS[0]) for number in range(pairs)]


def rows_of(
    point: Point,
    pairs: Sequence[Mapping[Arm, Generation]],
    serving: ServingConfig,
    control: bool,
    prediction: Prediction,
) -> Iterator[dict[str, Any]]:
    """A row of serving.parquet for each metric."""
    workload = point.workload
    found = {arm: [measures(pair[arm], workload.prompt) for pair in pairs] for arm in ARMS}
    share = float(np.median([prefill_share(pair["base"]) for pair in pairs]))
    for metric in found["base"][0]:
        base, plan = ([values[metric] for values in found[arm]] for arm in ARMS)
        ratio = paired_ratio(base, plan, higher_is_better(metric))
        yield {
            "workload": workload.label,
            "prompt_tokens": workload.prompt,
            "output_tokens": workload.output,
            "engine": serving.engine,
            "mode": serving.mode,
            "control": control,
            "comparison": point.comparison,
            "batch_size": point.batch,
            "plan_batch_size": point.plan_batch,
            "metric": metric,
            "base": float(np.median(base)),
            "plan": float(np.median(plan)),
            "ratio": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "pairs": ratio.pairs,
            "predicted": prediction.of(metric, share),
        }


def prefill_share(generation: Generation) -> float:
    """The part of a batch's time until its last request has a first token."""
    return min(1.0, max(request.ttft for request in generation.requests) / generation.wall)
