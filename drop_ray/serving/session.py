"""What the measurements of one benchmark share: the points to measure, found as engines are loaded, and the prompts."""

from dataclasses import dataclass, field
from typing import Any

from drop_ray.config import WorkloadSpec
from drop_ray.errors import UserError
from drop_ray.serving.engine import Engine, EngineFacts, Generation
from drop_ray.serving.measures import measures
from drop_ray.serving.pairs import Point
from drop_ray.serving.spec import Arm, BenchSpec
from drop_ray.serving.workloads import draw_prompts, equal_memory_batch, largest_batch, saturated

# Output of a run that only warms up: the prompts' shapes, and that of a decode step.
WARM_UP_TOKENS = 2


@dataclass
class Session:
    """facts, checks, peaks: of each arm, as soon as it has been loaded; batches: of each workload, after `sweep`."""

    spec: BenchSpec
    facts: dict[Arm, EngineFacts] = field(default_factory=dict)
    checks: dict[Arm, dict[str, Any]] = field(default_factory=dict)
    peaks: dict[Arm, int] = field(default_factory=dict)
    batches: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def sweep(self, base: Engine, workload: WorkloadSpec) -> None:
        """Find the batch sizes to measure: those that fit in the base's KV cache, up to one that saturates it."""
        rates: list[tuple[int, float]] = []
        for batch in self._fitting(workload):
            point = Point(workload, "equal_batch", batch, batch)
            self.warm_up(base, "base", point)
            generation = self.generate(base, "base", point, "sweep")
            rates.append((batch, measures(generation, workload.prompt)["output_tokens_per_s"]))
            if saturated(rates):
                break
        self.batches[workload.label] = tuple(batch for batch, _ in rates)

    def points(self) -> list[Point]:
        return [point for workload in self.spec.serving.workloads for point in self.points_of(workload)]

    def points_of(self, workload: WorkloadSpec) -> list[Point]:
        """At equal memory the largest of the config's batch sizes that fits is scaled, if that gives a larger one.

        Before the plan has been loaded, what its KV cache holds is not known, and its batch is the base's.
        """
        points = [Point(workload, "equal_batch", batch, batch) for batch in self.batches[workload.label]]
        if self.spec.control:
            return points
        batch = plan_batch = self._fitting(workload)[-1]
        if "plan" in self.facts:
            plan_batch = equal_memory_batch(
                batch, self.facts["base"].kv_tokens, self.facts["plan"].kv_tokens, self._fits("plan", workload)
            )
            if plan_batch <= batch:
                return points
        return [*points, Point(workload, "equal_memory", batch, plan_batch)]

    def warm_up(self, engine: Engine, arm: Arm, point: Point) -> None:
        self._generate(engine, arm, point, "warm-up", min(WARM_UP_TOKENS, point.workload.output))

    def generate(self, engine: Engine, arm: Arm, point: Point, pair: object) -> Generation:
        """Both arms of a pair get the same prompts, no two pairs do."""
        return self._generate(engine, arm, point, pair, point.workload.output)

    def _generate(self, engine: Engine, arm: Arm, point: Point, pair: object, output_length: int) -> Generation:
        workload, seed = point.workload, self.spec.serving.seed
        batch = point.batch_of(arm)
        prompts = draw_prompts(self.spec.tokens, batch, workload.prompt, seed, workload.label, point.batch, pair)
        return engine.generate(prompts, output_length)

    def _fitting(self, workload: WorkloadSpec) -> list[int]:
        fits, sizes = self._fits("base", workload), self.spec.serving.batch_sizes
        fitting = [batch for batch in sizes if fits is None or batch <= fits]
        if not fitting:
            raise UserError(
                f"serving.batch_sizes: {sizes[0]} requests of workload {workload.label} do not fit in the KV cache of "
                f"{self.facts['base'].kv_tokens} tokens; give a smaller batch or more serving.kv_cache_bytes"
            )
        return fitting

    def _fits(self, arm: Arm, workload: WorkloadSpec) -> int | None:
        facts = self.facts[arm]
        return largest_batch(facts.kv_tokens, facts.block_size, workload.prompt + workload.output)
