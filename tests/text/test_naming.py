"""Which name is given twice."""

import pytest

from drop_ray.text.naming import first_twice


@pytest.mark.parametrize(
    ("names", "twice"),
    [([], None), (["a"], None), (["b", "a", "c"], None), (["b", "a", "a", "b"], "a"), ([1, 0, 2, 0], 0)],
)
def test_the_name_that_is_first_met_again(names, twice):
    assert first_twice(iter(names)) == twice
