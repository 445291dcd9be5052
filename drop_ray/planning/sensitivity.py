"""How far the calibration text decides a plan: what a strategy drops by each of several texts, and by all of them.

Only strategies that rank once by scores of one sweep are asked: a baseline follows no text, what is scored again and
again is not decided by one ranking, and a metric of the output takes many forward passes over each text.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import ATTENTION, MLP, in_order
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.requests import PlanRequest
from drop_ray.planning.scores import Importance, ScoreTable, ScoreTables

CONSENSUS = "consensus"
"""The end of the names of plans that all texts have a say in, and what tables call all texts together."""

Key = tuple[str, int, int]
"""Module, layer and gap, as in a score table."""


@dataclass(frozen=True)
class TextScores:
    """What one calibration text says of the base."""

    text: str
    """Name of the text."""
    identity: str
    """Hash of the token ids of its samples, of which the first ones may be scored alone."""
    num_samples: int
    """Samples of it that were scored."""
    tables: ScoreTables
    """The score tables, by metric."""
    votes: bool
    """Whether it has a say in the consensus: one number of samples of each text does, the largest."""


@dataclass(frozen=True)
class Agreement:
    """How far two calibration texts agree in what one plan is about."""

    plan: str
    """Name of the plan."""
    one: TextScores
    """A text."""
    other: TextScores
    """Another."""
    tau: float | None
    """Kendall's tau-b of the importance of what the plan chooses from; None where it chooses from one only."""
    overlap: float
    """Share of the sub-layers dropped by the plan on one text that it drops on the other, too."""


def one_shot(requests: Iterable[PlanRequest], metrics: Collection[str]) -> list[PlanRequest]:
    """Those that rank once by scores in one of the metrics.

    metrics: those that the ordinary sweep computes. Metrics of the output would take many passes over each text.
    """
    return [
        request
        for request in requests
        if request.uses_scores and not request.searches and request.iterative is None and request.metric in metrics
    ]


def consensus_name(name: str) -> str:
    """Name of a plan or a strategy by all texts."""
    return f"{name}-{CONSENSUS}"


def plan_by(request: PlanRequest, tables: ScoreTables, layers: Layers, dropped: DropLists, name: str) -> DropPlan:
    """What the request drops of a model without `dropped`, by these scores."""
    chosen = request.choose(tables, layers, dropped, request.count)
    return DropPlan(name, *in_order(dropped, chosen), request.label, request.metric)


def consensus_tables(
    request: PlanRequest, texts: Sequence[TextScores], layers: Layers, dropped: DropLists
) -> ScoreTables:
    """Tables in which the importance of a module is its mean rank over the texts that vote; 1 is the least important.

    What the strategy chooses from is one ranking: attention layers and MLPs together for a joint plan. Modules of equal
    importance share the mean of their ranks; of equal mean ranks the strategy drops the deeper layer first, as it does
    of equal importance.
    """
    from scipy.stats import rankdata

    tables = [text.tables[request.metric] for text in texts if text.votes]
    ranks: dict[Key, Importance] = {}
    for keys in _rankings(request, tables[0], layers, dropped):
        rows = [rankdata([table.importance[key].mean for key in keys]) for table in tables]
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        ranks |= {key: Importance(float(mean), 0.0) for key, mean in zip(keys, means, strict=True)}
    return {request.metric: ScoreTable(ranks)}


def agreement(
    request: PlanRequest, one: TextScores, other: TextScores, layers: Layers, dropped: DropLists
) -> Agreement:
    """How far two texts agree."""
    from scipy.stats import kendalltau

    tables = [text.tables[request.metric] for text in (one, other)]
    keys = _chosen_from(request, tables[0], layers, dropped)
    values = [[table.importance[key].mean for key in keys] for table in tables]
    tau = float(kendalltau(*values).statistic) if len(keys) > 1 else None
    first, second = (plan_by(request, text.tables, layers, dropped, request.name).drops for text in (one, other))
    return Agreement(request.name, one, other, tau, shared(first, second, dropped))


def shared(one: DropLists, other: DropLists, dropped: DropLists) -> float:
    """Share of the sub-layers that one drops which the other drops, too; beside what the model lacked before."""
    first, second = (_sublayers(lists) - _sublayers(dropped) for lists in (one, other))
    return len(first & second) / max(len(first), len(second))


def _sublayers(lists: DropLists) -> set[tuple[str, int]]:
    return {(ATTENTION, layer) for layer in lists.attn} | {(MLP, layer) for layer in lists.mlp}


def _chosen_from(request: PlanRequest, table: ScoreTable, layers: Layers, dropped: DropLists) -> list[Key]:
    """What the request chooses from: the windows that it asks for, or else single modules."""
    if request.gaps:
        return sorted(key for key in table.importance if key[2] in request.gaps)
    return [(module.kind, module.layer, 1) for module in request.candidates(layers, dropped)]


def _rankings(request: PlanRequest, table: ScoreTable, layers: Layers, dropped: DropLists) -> list[list[Key]]:
    """The keys of a table, put together with those that each is ranked among: what is chosen from in one ranking, and
    the rest, which a strategy may look at, by module and gap."""
    first = _chosen_from(request, table, layers, dropped)
    groups: dict[tuple[str, int], list[Key]] = {}
    for key in sorted(table.importance.keys() - {*first}):
        groups.setdefault((key[0], key[2]), []).append(key)
    return [first, *groups.values()]
