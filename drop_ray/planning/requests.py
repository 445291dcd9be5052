"""The plans a config asks for, one by one, checked against the model before any work."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drop_ray.config import PlanSpec
from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.strategies import (
    Module,
    candidates,
    consecutive_blocks,
    next_drops,
    random_order,
    reverse_order,
)


@dataclass(frozen=True)
class PlanRequest:
    """One plan to be made: drop `count` of what `of` names.

    strategy: attention, mlp, joint, block, block_consecutive, random or reverse; iterative: how many to drop before
    scoring again, None for all at once; metric: whose scores it ranks by, unused by the baselines.
    """

    name: str
    strategy: str
    of: str
    count: int
    metric: str
    iterative: int | None = None
    seed: int = 0

    @property
    def label(self) -> str:
        """The strategy with what distinguishes it, one line of a chart."""
        if self.strategy in ("random", "reverse"):
            return f"{self.strategy}-{self.of}"
        return f"{self.strategy}-iterative{self.iterative}" if self.iterative else self.strategy

    @property
    def uses_scores(self) -> bool:
        return self.strategy not in ("random", "reverse")

    @property
    def gap(self) -> int:
        """Size of the block windows it looks at; 1 is attention, MLP and block scores."""
        return self.count if self.strategy == "block_consecutive" else 1

    def rounds(self) -> list[int]:
        """How many to drop at a time: [8], or [2, 2, 2, 2] when iterative."""
        if self.iterative is None:
            return [self.count]
        full, rest = divmod(self.count, self.iterative)
        return [self.iterative] * full + ([rest] if rest else [])

    def choose(self, scores: ScoreTables, num_layers: int, dropped: DropLists, count: int) -> list[Module]:
        """The next modules to drop; `scores` are those of the model without `dropped` (unused by the baselines)."""
        if self.strategy == "random":
            return random_order(self.of, num_layers, dropped, self.seed)[:count]
        if self.strategy == "reverse":
            return reverse_order(self.of, num_layers, dropped)[:count]
        if self.strategy == "block_consecutive":
            return consecutive_blocks(scores[self.metric], count)
        return next_drops(scores[self.metric], self.of, num_layers, dropped, count)


def plan_requests(
    specs: Sequence[PlanSpec], num_layers: int, dropped: DropLists, default_metric: str
) -> list[PlanRequest]:
    """Expand the specs with a strategy; equal requests are made once. UserError if a count exceeds the model.

    dropped: what the model given already lacks; default_metric: of specs that name none. Plans by another metric say so
    in their names.
    """
    requests = {
        request.name: request
        for position, spec in enumerate(specs)
        for request in _expand(spec, position, num_layers, dropped, default_metric)
    }
    return list(requests.values())


def gaps_of(requests: Iterable[PlanRequest]) -> tuple[int, ...]:
    """The gaps to score on the model as given: 1 always (the report shows it), and the windows asked for."""
    return tuple(sorted({1, *(request.gap for request in requests)}))


def _expand(
    spec: PlanSpec, position: int, num_layers: int, dropped: DropLists, default_metric: str
) -> Iterator[PlanRequest]:
    if spec.strategy is None:
        return
    of = spec.of or ("block" if spec.strategy == "block_consecutive" else spec.strategy)
    available = len(candidates(of, num_layers, dropped))
    for count in spec.drop:
        if count > available:
            what = {"attention": "attention layers", "mlp": "MLPs", "joint": "attention layers and MLPs"}.get(
                of, "blocks"
            )
            raise UserError(f"plans[{position}].drop: {count} is more than the model's {available} {what}")
        metric = spec.metric or default_metric
        name = _name(spec, of, count) + (f"-{metric}" if metric != default_metric else "")
        yield PlanRequest(name, spec.strategy, of, count, metric, spec.iterative, spec.seed)


def _name(spec: PlanSpec, of: str, count: int) -> str:
    if spec.strategy == "random":
        return f"random-{of}-{count}-seed{spec.seed}"
    if spec.strategy == "reverse":
        return f"reverse-{of}-{count}"
    return f"{spec.strategy}-{count}" + (f"-iterative{spec.iterative}" if spec.iterative else "")
