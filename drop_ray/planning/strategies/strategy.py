"""The base class of strategies: the rule by which a plan chooses, and the keys that its line in the config takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists
from drop_ray.planning.modules import MODULES, Module, candidates
from drop_ray.planning.scores import ScoreTable


@dataclass(frozen=True)
class Choice:
    """The choice that a strategy has to make in one round."""

    count: int
    """Number of modules to choose in this round."""
    candidates: Sequence[Module]
    """Modules to choose from, by kind and layer: `Strategy.candidates` of the model as it is now."""
    scores: ScoreTable
    """Scores of the model as it is now in the plan's metric, with the block windows that `Strategy.gaps` asks for."""
    seed: int = 0
    """Seed of random choices."""


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """A subclass chooses what to drop next. Its name in the registry begins the names of its plans."""

    of: str | None
    """What it drops: `attention`, `mlp`, `joint` (both in one ranking) or `block`; None takes the plan's `of`."""
    uses_scores: bool = True
    """Whether it follows the scores, so that a plan may have a `metric`; False for a baseline."""
    iterative: bool = False
    """Whether a plan may be `iterative`: some are dropped, the rest is scored again without windows, and so on."""
    seeded: bool = False
    """Whether a plan may have a `seed`."""

    def __post_init__(self) -> None:
        if self.of is not None and self.of not in MODULES:
            raise ValueError(f"a strategy drops {', '.join(MODULES)} or None, not {self.of}")

    def candidates(self, of: str, num_layers: int, dropped: DropLists) -> list[Module]:
        """Modules that it may choose from a model without `dropped`. A plan of more is refused before any work."""
        return candidates(of, num_layers, dropped)

    def gaps(self, count: int) -> tuple[int, ...]:  # noqa: ARG002
        """The gaps whose scores it needs to choose `count` modules."""
        return ()

    @abstractmethod
    def choose(self, choice: Choice) -> Sequence[Module]:
        """`choice.count` different modules, most redundant first. An equal choice always gives the same modules."""
