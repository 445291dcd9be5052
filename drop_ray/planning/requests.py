"""The plans that a config asks for, one by one, checked against the model before any work."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drop_ray.config import PlanSpec
from drop_ray.errors import UserError
from drop_ray.extensions import STRATEGIES
from drop_ray.models.families import DropLists
from drop_ray.planning.modules import MODULES, PLURALS, Module, candidates
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.strategies.strategy import Choice, Strategy


@dataclass(frozen=True)
class PlanRequest:
    """One plan to be made."""

    name: str
    """Name of the plan and its files, such as `attention-4-iterative2`."""
    strategy: str
    """Name of its strategy."""
    of: str
    """What it drops: `attention`, `mlp`, `joint` or `block`."""
    count: int
    """Number of modules to drop."""
    metric: str
    """Name of the metric that it ranks by; unused by the baselines."""
    iterative: int | None = None
    """Number of modules to drop before scoring again; None drops all at once."""
    seed: int = 0
    """Seed of random choices."""

    @property
    def label(self) -> str:
        """Name of the strategy with its settings, which is one line of a chart."""
        return _label(self.strategy, self.of) + (f"-iterative{self.iterative}" if self.iterative else "")

    @property
    def uses_scores(self) -> bool:
        return _rule(self.strategy).uses_scores

    @property
    def gaps(self) -> tuple[int, ...]:
        """Gaps whose scores it needs."""
        return _rule(self.strategy).gaps(self.count)

    def rounds(self) -> list[int]:
        """Number of modules to drop in each round: [8], or [2, 2, 2, 2] when iterative."""
        if self.iterative is None:
            return [self.count]
        full, rest = divmod(self.count, self.iterative)
        return [self.iterative] * full + ([rest] if rest else [])

    def choose(self, scores: ScoreTables, num_layers: int, dropped: DropLists, count: int) -> list[Module]:
        """The next modules to drop. `scores` are those of the model without `dropped` (unused by the baselines).

        Raises ValueError if the strategy, of whatever package, did not choose as many as it was asked for.
        """
        rule = _rule(self.strategy)
        choosable = rule.candidates(self.of, num_layers, dropped)
        chosen = list(rule.choose(Choice(count, choosable, scores[self.metric], self.seed)))
        places = {Module(kind, layer) for kind in MODULES[self.of] for layer in range(num_layers)}
        if len(chosen) != count or len(places.intersection(chosen)) != count:
            raise ValueError(f"strategy {self.strategy} was to choose {count} {PLURALS[self.of]}, and chose {chosen}")
        return chosen


def plan_requests(
    specs: Sequence[PlanSpec], num_layers: int, dropped: DropLists, default_metric: str
) -> list[PlanRequest]:
    """Expand the specs with a strategy; equal requests are made once. UserError if a count exceeds the model.

    dropped: sub-layers that the given model already lacks; default_metric: the metric of specs that name none. Plans by
    another metric have it in their names.
    """
    requests = {
        request.name: request
        for position, spec in enumerate(specs)
        for request in _expand(spec, position, num_layers, dropped, default_metric)
    }
    return list(requests.values())


def gaps_of(requests: Iterable[PlanRequest]) -> tuple[int, ...]:
    """The gaps to score on the model as given: always 1, which the report shows, and those that requests need."""
    return tuple(sorted({1, *(gap for request in requests for gap in request.gaps)}))


def _expand(
    spec: PlanSpec, position: int, num_layers: int, dropped: DropLists, default_metric: str
) -> Iterator[PlanRequest]:
    if spec.strategy is None:
        return
    rule = _rule(spec.strategy)
    of = rule.of or spec.of
    assert of is not None  # the config was refused otherwise
    there, choosable = candidates(of, num_layers, dropped), rule.candidates(of, num_layers, dropped)
    metric = spec.metric or default_metric
    for count in spec.drop:
        if count > len(there):
            raise UserError(f"plans[{position}].drop: {count} is more than the model's {len(there)} {PLURALS[of]}")
        if count > len(choosable):
            raise UserError(
                f"plans[{position}].drop: {count} is more than the {len(choosable)} {PLURALS[of]} that strategy "
                f"{spec.strategy} chooses from"
            )
        name = f"{_label(spec.strategy, of)}-{count}"
        name += f"-iterative{spec.iterative}" if spec.iterative else ""
        name += f"-seed{spec.seed}" if rule.seeded else ""
        name += f"-{metric}" if metric != default_metric else ""
        yield PlanRequest(name, spec.strategy, of, count, metric, spec.iterative, spec.seed)


def _label(strategy: str, of: str) -> str:
    """Name of a strategy; if the plan says what it drops, that is part of it: `random-mlp`."""
    return strategy if _rule(strategy).of else f"{strategy}-{of}"


def _rule(strategy: str) -> Strategy:
    rule: Strategy = STRATEGIES.load(strategy)
    return rule
