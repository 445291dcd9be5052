"""Which sub-layers are refitted, and to which state of the base."""

import pytest

from drop_ray.models.families import DropLists
from drop_ray.refit.order import kept_sublayers, parting, refitted_sublayers


def targets(num_layers, attn=(), mlp=()):
    """(layer, kind, target) of everything kept."""
    kept = kept_sublayers(num_layers, DropLists(attn, mlp))
    return [(one.layer, one.kind[0], one.target) for one in kept]


def test_a_sublayer_is_to_reach_the_state_behind_what_is_dropped_after_it():
    assert targets(3, attn=(1,)) == [(0, "a", 1), (0, "m", 3), (1, "m", 4), (2, "a", 5), (2, "m", 6)]
    # The MLP of layer 0 stands before two whole blocks.
    assert targets(4, attn=(1, 2), mlp=(1, 2)) == [(0, "a", 1), (0, "m", 6), (3, "a", 7), (3, "m", 8)]
    assert targets(2, attn=(1,), mlp=(1,)) == [(0, "a", 1), (0, "m", 4)]
    assert targets(2, attn=(0,), mlp=(0,)) == [(1, "a", 3), (1, "m", 4)]


@pytest.mark.parametrize(
    ("attn", "mlp", "lacking", "first", "place"),
    [
        ((2,), (), DropLists(), 3, 3),  # the MLP of layer 1
        ((), (2,), DropLists(), 4, 4),  # the attention of layer 2
        ((2,), (1,), DropLists(), 2, 2),  # the attention of layer 1, before two dropped ones
        ((0,), (), DropLists(), 1, 0),  # nothing stands before it, and the models part there
        ((0, 1), (0,), DropLists(), 3, 0),
        ((1, 3), (), DropLists((1,)), 5, 5),  # what the base lacks itself is no loss
    ],
)
def test_the_first_one_is_the_last_before_what_is_dropped(attn, mlp, lacking, first, place):
    found = refitted_sublayers(4, DropLists(attn, mlp), lacking)
    assert found[0].number == first
    assert found == [one for one in kept_sublayers(4, DropLists(attn, mlp)) if one.number >= first]
    assert parting(found, DropLists(attn, mlp), lacking) == place


def test_nothing_is_refitted_where_nothing_is_dropped_or_left():
    assert refitted_sublayers(4, DropLists((1,)), DropLists((1,))) == []
    assert refitted_sublayers(2, DropLists((0, 1), (0, 1)), DropLists()) == []
