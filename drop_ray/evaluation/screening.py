"""Which plans get the tasks: those whose predictions are nearest to the base's, or that no other beats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Candidate:
    """A plan that wants to be evaluated."""

    name: str
    """Its name."""
    kl: float | None
    """Mean KL divergence from the base per token; None where it has no panel."""
    parameters: int
    """Parameters that it keeps."""


@dataclass(frozen=True)
class Screened:
    """Which plans get the tasks."""

    kept: tuple[str, ...]
    """Names of those that do, in the order of the candidates."""
    reasons: Mapping[str, str]
    """Of every candidate why it is kept or left out, in words."""


def screen(candidates: Sequence[Candidate], keep: int | Literal["pareto"]) -> Screened:
    """Keep the `keep` lowest divergences, or with `pareto` every candidate that no other beats.

    Of equal divergences the one with fewer parameters goes first, then the earlier one. A candidate beats another if it
    has no more divergence and no more parameters, and less of one of them. One whose divergence is missing, NaN or
    infinite is left out and beats nobody.
    """
    fine = [one for one in candidates if one.kl is not None and math.isfinite(one.kl)]
    ranked = sorted(fine, key=lambda one: (one.kl, one.parameters))  # sorted() keeps the order of equals
    reasons = {one.name: "it has no panel" if one.kl is None else f"its KL is {one.kl}" for one in candidates}
    if keep == "pareto":
        beaten = {one.name: _beats(fine, one) for one in fine}
        reasons |= {one.name: _of_frontier(one, beaten[one.name]) for one in fine}
        kept = {name for name, by in beaten.items() if by is None}
    else:
        reasons |= {
            one.name: f"KL {one.kl:.3g} is {_place(number)} of {len(candidates)}; {_kept(keep)}"
            for number, one in enumerate(ranked, 1)
        }
        kept = {one.name for one in ranked[:keep]}
    return Screened(tuple(one.name for one in candidates if one.name in kept), reasons)


def _beats(others: Sequence[Candidate], one: Candidate) -> Candidate | None:
    """Of those that beat a candidate the one with the least divergence."""
    key = (one.kl, one.parameters)
    better = [
        other
        for other in others
        if other.kl is not None
        and one.kl is not None
        and other.kl <= one.kl
        and other.parameters <= one.parameters
        and (other.kl, other.parameters) != key
    ]
    return min(better, key=lambda other: (other.kl, other.parameters), default=None)


def _of_frontier(one: Candidate, by: Candidate | None) -> str:
    own = f"KL {one.kl:.3g} with {one.parameters:,} parameters"
    if by is None:
        return f"{own}: no other plan has less of both"
    return f"{own}: {by.name} has KL {by.kl:.3g} with {by.parameters:,}"


def _place(number: int) -> str:
    return "the lowest" if number == 1 else f"the {number}{_ending(number)} lowest"


def _ending(number: int) -> str:
    teen = 10 <= number % 100 <= 20
    return "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _kept(keep: int) -> str:
    return "1 is kept" if keep == 1 else f"{keep} are kept"
