"""What a strategy is: the rule by which a plan chooses, and which keys of a plan's line in the config go with it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists
from drop_ray.planning.modules import MODULES, Module, candidates
from drop_ray.planning.scores import ScoreTable


@dataclass(frozen=True)
class Choice:
    """How many to choose, of what, and what is known of them."""

    count: int
    """How many to choose in this round."""
    candidates: Sequence[Module]
    """What there is to choose from, by kind and layer: `Strategy.candidates` of the model as it is now."""
    scores: ScoreTable
    """Of the model as it is now, in the plan's metric; of windows of blocks, those that `Strategy.gaps` asks for."""
    seed: int = 0
    """Of random choices."""


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """A subclass says what to drop next. Its name is the registry's, and begins the names of its plans."""

    of: str | None
    """What it drops: `attention`, `mlp`, `joint` (both, ranked together) or `block`; None lets the plan's `of` say."""
    uses_scores: bool = True
    """Whether it follows the scores, so that `metric` goes with it; False is a baseline to compare with."""
    iterative: bool = False
    """Whether `iterative` goes with it: some are dropped, the rest is scored again (without windows), and so on."""
    seeded: bool = False
    """Whether `seed` goes with it."""

    def __post_init__(self) -> None:
        if self.of is not None and self.of not in MODULES:
            raise ValueError(f"a strategy drops {', '.join(MODULES)} or None, not {self.of}")

    def candidates(self, of: str, num_layers: int, dropped: DropLists) -> list[Module]:
        """What it may choose from a model without `dropped`; a plan of more is refused before any work."""
        return candidates(of, num_layers, dropped)

    def gaps(self, count: int) -> tuple[int, ...]:  # noqa: ARG002
        """Sizes of the block windows whose scores it needs to choose `count`."""
        return ()

    @abstractmethod
    def choose(self, choice: Choice) -> Sequence[Module]:
        """`choice.count` different modules, most redundant first. The same choice always gives the same ones."""
