"""The base class of strategies: the rule by which a plan chooses, and the keys that its line in the config takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
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

    searches: ClassVar[bool] = False
    """Whether it has models measured before it chooses, as `strategies.search.Search` does."""
    of: str | None
    """What it drops: `attention`, `mlp`, `joint` (both in one ranking) or `block`; None takes the plan's `of`."""
    uses_scores: bool = True
    """Whether it follows the scores, so that a plan may have a `metric`; False for a baseline."""
    iterative: bool = False
    """Whether a plan may be `iterative`: some are dropped, the rest is scored again without windows, and so on."""
    seeded: bool = False
    """Whether a plan may have a `seed`."""
    objectives: tuple[str, ...] = ()
    """What a plan's `objective` may be, its default first; empty if it has no models measured."""
    has_width: bool = False
    """Whether a plan may have a `width`."""
    limited: bool = False
    """Whether a plan says by `limit` what is left at most, and not by `drop` how many are dropped."""

    def __post_init__(self) -> None:
        if self.of is not None and self.of not in MODULES:
            raise ValueError(f"a strategy drops {', '.join(MODULES)} or None, not {self.of}")

    def candidates(self, of: str, layers: Layers, dropped: DropLists) -> list[Module]:
        """Modules that it may choose from a model without `dropped`. A plan of more is refused before any work."""
        return candidates(of, layers, dropped)

    def gaps(self, count: int) -> tuple[int, ...]:  # noqa: ARG002
        """The gaps whose scores it needs to choose `count` modules."""
        return ()

    @abstractmethod
    def choose(self, choice: Choice) -> Sequence[Module]:
        """`choice.count` different modules, most redundant first. An equal choice always gives the same modules."""
