"""The base class of strategies that have models measured before they choose.

A search is a generator. It yields rounds, each a set of models that can be measured side by side, is sent what was
found of them, and returns what to drop. It knows neither how models are measured nor what is sought of them.
"""

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.strategy import Choice, Strategy

if TYPE_CHECKING:
    from drop_ray.planning.budgets.budget import Budget

Modules = tuple[Module, ...]


@dataclass(frozen=True)
class Task:
    """What a search has to find."""

    count: int
    """Number of modules to drop."""
    candidates: Modules
    """Modules to choose from, by kind and layer: `Strategy.candidates` of the model as given."""
    width: int | None = None
    """The plan's `width`; None is all."""
    budget: "Budget | None" = None
    """The limits that decide how many are dropped, in place of `count`; None where the plan has none."""


@dataclass(frozen=True)
class Round:
    """Models to be measured: the model as given without `dropped`, and then without each of the additions."""

    dropped: Modules
    """What the search has settled on so far, in its order. With `on: refitted` the model is refitted after that."""
    additions: tuple[Modules, ...]
    """What is dropped besides, one model for each; an empty one is the model itself."""


Found = Mapping[Modules, float]
"""What was found of a round's models, by addition. Low is good."""
Steps = Generator[Round, Found, Modules]
"""A search under way. It returns what is to be dropped, in its order."""


@dataclass(frozen=True, kw_only=True)
class Search(Strategy):
    """A subclass says what to measure, round by round. An equal task with equal findings must give the same rounds."""

    searches: ClassVar[bool] = True
    """It has models measured before it chooses."""
    uses_scores: bool = False
    """Whether it follows the scores besides what it has measured."""
    objectives: tuple[str, ...] = ("kl", "draft")
    """What a plan's `objective` may be, its default first."""

    @abstractmethod
    def search(self, task: Task) -> Steps:
        """Look for `task.count` different modules of `task.candidates`.

        A dry run sends values that are made up, to count what is measured: any values must lead to an end.
        """

    def choose(self, choice: Choice) -> Sequence[Module]:
        raise AssertionError(f"{type(self).__name__} measures models before it chooses {choice.count}")
