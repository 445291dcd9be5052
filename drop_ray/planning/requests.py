"""The plans that a config asks for, one by one, checked against the model before any work."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from drop_ray.config import PlanSpec
from drop_ray.config.limits import LimitSpec
from drop_ray.config.plans import UNQUANTIZED
from drop_ray.errors import UserError
from drop_ray.extensions import STRATEGIES
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.budgets.budget import Budget
from drop_ray.planning.modules import ATTENTION, PLURALS, Module, candidates, present
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.strategies.search import Search, Steps, Task
from drop_ray.planning.strategies.strategy import Choice, Strategy

SWAP_ROUNDS = 4
"""Rounds of swaps at most, unless the plan says `swap_rounds`."""


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
    """Number of modules to drop; 0 where limits decide it."""
    metric: str
    """Name of the metric that it ranks by; unused by the baselines."""
    iterative: int | None = None
    """Number of modules to drop before scoring again; None drops all at once."""
    seed: int = 0
    """Seed of random choices."""
    objective: str | None = None
    """What a search seeks; None where nothing is searched."""
    width: int | None = None
    """Number of candidates that a search measures in a round after the first; None is all."""
    on: str | None = None
    """Line of `refit` by which the plan so far is refitted before each round; None leaves it as it is."""
    limit: LimitSpec | None = None
    """What is left at most, in place of `count`."""
    quantized: str | None = None
    """Name of the line of `quantization` after which the limit is to hold; None is before."""
    swap_rounds: int | None = None
    """Rounds of swaps at most; None is `SWAP_ROUNDS`."""
    line: str = ""
    """Its line in the config, such as `plans[2]`, for messages."""
    kinds: tuple[str, ...] = ()
    """Kinds of token mixers that it may drop as attention, such as `full_attention`; empty for all."""

    @property
    def label(self) -> str:
        """Name of the strategy with its settings, which is one line of a chart."""
        return _label(self.strategy, self.of) + self.manner

    @property
    def manner(self) -> str:
        """The settings by which the rounds differ from those of other plans of the strategy, as part of a name."""
        parts = [
            f"-iterative{self.iterative}" if self.iterative else "",
            f"-{self.objective}" if self.objective not in (None, *_rule(self.strategy).objectives[:1]) else "",
            f"-width{self.width}" if self.width is not None else "",
            f"-on-{self.on}" if self.on else "",
            f"-for-{self.quantized}" if self.quantized else "",
            f"-swaps{self.swap_rounds}" if self.swap_rounds is not None else "",
            *(f"-{kind}" for kind in self.kinds),
        ]
        return "".join(parts)

    @property
    def uses_scores(self) -> bool:
        return _rule(self.strategy).uses_scores

    @property
    def searches(self) -> bool:
        """Whether models are measured before it is known what is dropped."""
        return _rule(self.strategy).searches

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

    def candidates(self, layers: Layers, dropped: DropLists) -> list[Module]:
        """The modules of a model without `dropped` that its strategy chooses from."""
        return self._of_kinds(_rule(self.strategy).candidates(self.of, layers, dropped), layers)

    def choose(self, scores: ScoreTables, layers: Layers, dropped: DropLists, count: int) -> list[Module]:
        """The next modules to drop. `scores` are those of the model without `dropped` (unused by the baselines).

        Raises ValueError if the strategy, of whatever package, did not choose as many as it was asked for.
        """
        rule = _rule(self.strategy)
        choosable = self.candidates(layers, dropped)
        chosen = list(rule.choose(Choice(count, choosable, scores[self.metric], self.seed)))
        chosen = present(chosen, layers)
        self.check(chosen, layers, count)
        return chosen

    def check(self, chosen: Sequence[Module], layers: Layers, count: int) -> None:
        """ValueError unless `count` different modules that may be dropped were chosen; any number of them by limits."""
        count = count if self.limit is None else len(chosen)
        places = self._of_kinds(candidates(self.of, layers, DropLists()), layers)
        if len(chosen) != count or len({*places} & {*chosen}) != count:
            raise ValueError(
                f"strategy {self.strategy} was to choose {count} {PLURALS[self.of]}, and chose {list(chosen)}"
            )

    def search(self, layers: Layers, dropped: DropLists, budget: Budget | None = None) -> Steps:
        """The search for what is dropped from the model as given, which lacks `dropped`; `budget` is that of limits."""
        rule = _rule(self.strategy)
        assert isinstance(rule, Search), f"{self.strategy} measures nothing"
        return rule.search(Task(self.count, tuple(self.candidates(layers, dropped)), self.width, budget))

    def _of_kinds(self, modules: Sequence[Module], layers: Layers) -> list[Module]:
        """Those whose mixers are of its kinds, as the family has them."""
        return [
            module
            for module in present(modules, layers)
            if not self.kinds or module.kind != ATTENTION or layers.kinds[module.layer] in self.kinds
        ]


def plan_requests(
    specs: Sequence[PlanSpec], layers: Layers, dropped: DropLists, default_metric: str
) -> list[PlanRequest]:
    """Expand the specs with a strategy; equal requests are made once. UserError if a count exceeds the model, and for
    a kind of mixer that it does not have.

    dropped: sub-layers that the given model already lacks; default_metric: the metric of specs that name none. Plans by
    another metric have it in their names.
    """
    requests = {
        request.name: request
        for position, spec in enumerate(specs)
        for request in _expand(spec, position, layers, dropped, default_metric)
    }
    return list(requests.values())


def gaps_of(requests: Iterable[PlanRequest]) -> tuple[int, ...]:
    """The gaps to score on the model as given: always 1, which the report shows, and those that requests need."""
    return tuple(sorted({1, *(gap for request in requests for gap in request.gaps)}))


def _expand(
    spec: PlanSpec, position: int, layers: Layers, dropped: DropLists, default_metric: str
) -> Iterator[PlanRequest]:
    if spec.strategy is None:
        return
    rule = _rule(spec.strategy)
    of = rule.of or spec.of or ("joint" if spec.limit else None)
    assert of is not None  # the config was refused otherwise
    _check_kinds(spec.kinds, layers, f"plans[{position}].kinds")
    metric = spec.metric or default_metric
    if spec.limit is not None:
        for form in spec.quantized or (UNQUANTIZED,):
            quantized = None if form == UNQUANTIZED else form
            yield _limited(spec, f"plans[{position}]", of, default_metric, quantized)
    for count in spec.drop:
        request = PlanRequest(
            name="",
            strategy=spec.strategy,
            of=of,
            count=count,
            metric=metric,
            iterative=spec.iterative,
            seed=spec.seed,
            objective=spec.objective or next(iter(rule.objectives), None),
            width=None if spec.width == "all" else spec.width,
            on=spec.on,
            kinds=spec.kinds,
        )
        _check_count(request, layers, dropped, f"plans[{position}].drop")
        name = f"{_label(spec.strategy, of)}-{count}{request.manner}"
        name += f"-seed{spec.seed}" if rule.seeded else ""
        name += f"-{metric}" if metric != default_metric else ""
        yield replace(request, name=name)


def _check_kinds(kinds: Sequence[str], layers: Layers, field: str) -> None:
    for kind in kinds:
        if kind not in layers.mixer_kinds:
            raise UserError(f"{field}: no layer's mixer is {kind}; the model has {', '.join(layers.mixer_kinds)}")


def _check_count(request: PlanRequest, layers: Layers, dropped: DropLists, field: str) -> None:
    """UserError, which begins with `field`, if the plan drops more than there is, with what cannot be dropped."""
    count, plural = request.count, PLURALS[request.of]
    there, choosable = candidates(request.of, layers, dropped), request.candidates(layers, dropped)
    if count > len(there):
        stays = "; ".join(layers.stays)
        can = f" that can be dropped: {stays}" if stays else ""
        raise UserError(f"{field}: {count} is more than the model's {len(there)} {plural}{can}")
    if count > len(choosable):
        of_kinds = f" of {' and '.join(request.kinds)}" if request.kinds else ""
        raise UserError(
            f"{field}: {count} is more than the {len(choosable)} {plural}{of_kinds} that strategy {request.strategy} "
            "chooses from"
        )


def _limited(spec: PlanSpec, line: str, of: str, default_metric: str, quantized: str | None) -> PlanRequest:
    """The request of a line with limits, which are part of its name: `budget-bytes-24GB`, `budget-mlp-kv-0.5x`."""
    assert spec.strategy is not None
    assert spec.limit is not None
    request = PlanRequest(
        name="",
        strategy=spec.strategy,
        of=of,
        count=0,
        metric=spec.metric or default_metric,
        objective=spec.objective or next(iter(_rule(spec.strategy).objectives), None),
        width=spec.width if isinstance(spec.width, int) else None,
        limit=spec.limit,
        quantized=quantized,
        swap_rounds=spec.swap_rounds,
        line=line,
        kinds=spec.kinds,
    )
    parts = [spec.strategy, *([of] if spec.of not in (None, "joint") else []), spec.limit.label]
    name = f"{'-'.join(parts)}{request.manner}"
    return replace(request, name=name + (f"-{request.metric}" if request.metric != default_metric else ""))


def _label(strategy: str, of: str) -> str:
    """Name of a strategy; if the plan says what it drops, that is part of it: `random-mlp`."""
    return strategy if _rule(strategy).of else f"{strategy}-{of}"


def _rule(strategy: str) -> Strategy:
    rule: Strategy = STRATEGIES.load(strategy)
    return rule
