"""What the measurements of one benchmark share: the points to measure, found as engines are loaded, and the prompts."""

from dataclasses import dataclass, field
from typing import Any

from drop_ray.config import WorkloadSpec
from drop_ray.errors import UserError
from drop_ray.serving.engine import Engine, EngineFacts, Generation
from drop_ray.serving.measures import measures
from drop_ray.serving.pairs import Point
from drop_ray.serving.spec import BenchSpec, Side
from drop_ray.serving.workloads import draw_prompts, equal_memory_batch, largest_batch, saturated

# Output tokens of a warm-up: enough to meet the shapes of the prompts and of a decode step.
WARM_UP_TOKENS = 2


@dataclass
class Session:
    """The state of one benchmark while it runs."""

    spec: BenchSpec
    """The benchmark."""
    facts: dict[Side, EngineFacts] = field(default_factory=dict)
    """What the engine of each side has, once it was loaded."""
    checks: dict[Side, dict[str, Any]] = field(default_factory=dict)
    """Findings of the gate on each side, once it was loaded."""
    peaks: dict[Side, int] = field(default_factory=dict)
    """Peak memory of each side in bytes."""
    batches: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Batch sizes to measure, by workload, once `sweep` has found them."""

    def sweep(self, base: Engine, workload: WorkloadSpec) -> None:
        """Find the batch sizes to measure: those that fit in the base's KV cache, up to the first that saturates it."""
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
        """The points of a workload: each batch size at equal batch, and one point at equal memory.

        The latter scales the largest of the config's batch sizes that fits, and is left out if that gives no larger
        batch. Before the variant has been loaded, the size of its KV cache is not known, so that the base's batch
        is taken.
        """
        points = [Point(workload, "equal_batch", batch, batch) for batch in self.batches[workload.label]]
        if self.spec.control:
            return points
        batch = variant_batch = self._fitting(workload)[-1]
        if "variant" in self.facts:
            base_tokens, variant_tokens = self.facts["base"].kv_tokens, self.facts["variant"].kv_tokens
            variant_batch = equal_memory_batch(batch, base_tokens, variant_tokens, self._fits("variant", workload))
            if variant_batch <= batch:
                return points
        return [*points, Point(workload, "equal_memory", batch, variant_batch)]

    def warm_up(self, engine: Engine, side: Side, point: Point) -> None:
        self._generate(engine, side, point, "warm-up", min(WARM_UP_TOKENS, point.workload.output))

    def generate(self, engine: Engine, side: Side, point: Point, pair: object) -> Generation:
        """Generate for one side. Both sides of a pair get the same prompts, and no two pairs do."""
        return self._generate(engine, side, point, pair, point.workload.output)

    def _generate(self, engine: Engine, side: Side, point: Point, pair: object, output_length: int) -> Generation:
        workload, seed = point.workload, self.spec.serving.seed
        batch = point.batch_of(side)
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

    def _fits(self, side: Side, workload: WorkloadSpec) -> int | None:
        facts = self.facts[side]
        return largest_batch(facts.kv_tokens, facts.block_size, workload.prompt + workload.output)
