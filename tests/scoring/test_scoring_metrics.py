"""What each metric makes of two states: known angles, small ones, its bounds, and what identifies its scores."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.extensions import METRICS
from drop_ray.scoring.metrics.metric import StateMetric, metric_versions, metrics_of
from drop_ray.scoring.state import make_state
from drop_ray.scoring.swept import SweptMetrics

OWN = metrics_of(METRICS.own, StateMetric)
SWEPT = SweptMetrics.of(OWN)


def state(*values):
    """Of a batch of one sequence of one token."""
    return make_state(torch.tensor(values, dtype=torch.float32).view(1, 1, -1))


def distances(x, y):
    """Of one token, by metric."""
    return {name: total.item() for name, total in SWEPT.state_totals("mlp", state(*x), state(*y)).items()}


@pytest.mark.parametrize(
    ("x", "y", "cosine", "angular"),
    [
        ([3.0, 0.0], [0.0, 7.0], 1.0, 0.5),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], 0.0, 0.0),
        ([0.1, 0.2, 0.3], [-0.1, -0.2, -0.3], 2.0, 1.0),
        ([1.0, 0.0], [1.0, 1.0], 1 - math.sqrt(0.5), 0.25),
        ([0.0, 0.0], [1.0, 2.0], 1.0, 0.5),
    ],
)
def test_distances_of_known_angles(x, y, cosine, angular):
    found = distances(x, y)
    assert (found["cosine"], found["angular"]) == (pytest.approx(cosine, abs=2e-7), pytest.approx(angular, abs=1e-7))


@pytest.mark.parametrize("angle", [1e-6, 1e-4, 1e-2, 1.0, math.pi - 1e-4])
def test_small_angles_are_not_lost_in_the_rounding_of_their_cosine(angle):
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(512, 2, generator=generator, dtype=torch.float64))[0]
    x, y = 30 * plane[:, 0], 0.7 * (math.cos(angle) * plane[:, 0] + math.sin(angle) * plane[:, 1])
    before, after = (make_state(values.float().view(1, 1, -1)) for values in (x, y))
    exact = torch.stack([before.hidden.double().flatten(), after.hidden.double().flatten()])
    unit = exact / exact.norm(dim=1, keepdim=True)
    wanted = 2 * math.atan2((unit[0] - unit[1]).norm(), (unit[0] + unit[1]).norm()) / math.pi
    assert SWEPT.state_totals("mlp", before, after)["angular"].item() == pytest.approx(wanted, abs=1e-7)


vectors = st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3)


@given(vectors, vectors)
def test_no_distance_lies_outside_of_its_metrics_bounds(x, y):
    for name, distance in distances(x, y).items():
        least, greatest = OWN[name].bounds
        assert least - 1e-6 <= distance <= greatest + 1e-6


@given(st.sampled_from(sorted(OWN)), st.integers(0, 5))
def test_a_tokens_distance_depends_on_no_other_token(name, seed):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, 3, 5, 16, generator=generator)
    whole = OWN[name].distances(make_state(before), make_state(after))
    alone = OWN[name].distances(make_state(before[1:2, 2:3]), make_state(after[1:2, 2:3]))
    assert whole.shape == (3, 5)
    assert whole[1, 2] == alone.squeeze()


class Mean(StateMetric):
    """Forgets that there are tokens."""

    def distances(self, before, after):
        return (before.norms - after.norms).abs().mean(-1)


def test_a_metric_that_gives_no_distance_of_each_token_is_named():
    metric = Mean(bounds=(0.0, math.inf), source="a mistake")
    with pytest.raises(ValueError, match=r"metric mean gives distances of shape \[1\]; one of each token are \[1, 1\]"):
        SweptMetrics({"mean": metric}, {}, {}).state_totals("mlp", state(1.0), state(2.0))


def test_the_projects_own_metrics_add_nothing_to_the_identity_of_scores():
    assert metric_versions(METRICS.own) == {}
