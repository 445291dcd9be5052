"""What of a library's error is shown."""

from itertools import pairwise

from drop_ray.text.faults import with_cause


def chain(*errors, implicit=False):
    for outer, inner in pairwise(errors):
        if implicit:
            outer.__context__ = inner
        else:
            outer.__cause__ = inner
    return errors[0]


def test_the_bottom_of_the_chain_is_shown_in_one_line():
    error = chain(RuntimeError("cannot\nload"), OSError("middle"), KeyError("text"))
    assert with_cause(error) == "RuntimeError: cannot load; caused by KeyError: 'text'"
    assert (
        with_cause(chain(RuntimeError("a"), ValueError("b"), implicit=True))
        == "RuntimeError: a; caused by ValueError: b"
    )


def test_what_is_said_already_is_not_said_twice():
    assert with_cause(ValueError("a")) == "ValueError: a"
    assert with_cause(chain(RuntimeError("no file x"), OSError("file x"))) == "RuntimeError: no file x"
    hidden = chain(RuntimeError("a"), ValueError("b"), implicit=True)
    hidden.__suppress_context__ = True
    assert with_cause(hidden) == "RuntimeError: a"
    assert len(with_cause(ValueError("x" * 10_000))) == 600
