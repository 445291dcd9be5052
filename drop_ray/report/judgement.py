"""Rows that say how variants were judged: which were evaluated, on how many documents, and how sure they are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScreenRow:
    """Whether a variant got tasks and texts."""

    variant: str
    """Name of the variant."""
    kept: bool
    """Whether it did."""
    reason: str
    """Why, or why not."""


@dataclass(frozen=True)
class CalibrationRow:
    """How sure a variant is of its answers to a multiple-choice task, against how often they are right."""

    variant: str
    """Name of the variant."""
    task: str
    """Task or group."""
    documents: int
    """Documents with a confidence."""
    accuracy: float | None
    """Share of them whose most likely choice is right; none where the artifact has no confidences."""
    confidence: float | None
    """Mean probability of the most likely choice among the choices."""
    error: float | None
    """Expected calibration error in 10 bins of equal width: mean distance of confidence and accuracy of a bin."""
    base_error: float | None
    """The base's on the same documents."""


@dataclass(frozen=True)
class TargetRow:
    """How a task that ends when the difference to the base is known ended on one variant."""

    variant: str
    """Name of the variant."""
    task: str
    """Task or group."""
    metric: str
    """The primary metric."""
    within: float
    """Half the width of the interval that was asked for."""
    confidence: float
    """Probability with which the interval holds at all looks at once."""
    documents: int
    """Documents that the variant was evaluated on."""
    population: int
    """Documents of the task, on all of which the base was evaluated."""
    difference: float | None
    """Mean of variant less base on the variant's documents; none where the task has no interval."""
    low: float | None
    """Lower end of the interval of the difference over all documents."""
    high: float | None
    """Upper end."""
    no_interval: str
    """Why there is no interval, such as that all documents were evaluated; empty where there is one."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0: variant and base differ on this task."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high
