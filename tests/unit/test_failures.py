from __future__ import annotations

import pytest

from durable.steps.failures import culprits, mark


def _marked(seq: int, run_id: str = "run") -> ValueError:
    error = ValueError(seq)
    mark(error, run_id, seq)
    return error


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_the_step_that_raised_is_the_culprit() -> None:
    """An exception that a step raised leads to this step alone."""
    assert culprits(_marked(3), "run") == {3}
    assert culprits(ValueError(), "run") == set()


def test_causes_are_followed_to_the_first_step() -> None:
    """`raise ... from` leads to the step behind it, and no further than the first one."""
    error = _marked(3)
    error.__cause__ = _marked(1)
    assert culprits(_raised(RuntimeError(), error), "run") == {3}


def test_suppressed_contexts_are_followed_too() -> None:
    """What was being handled when the last error was raised led to it, even with `from None`."""
    with pytest.raises(RuntimeError) as caught:
        try:
            raise _marked(4)
        except ValueError:
            raise RuntimeError from None
    assert culprits(caught.value, "run") == {4}


def test_a_cause_comes_before_the_context() -> None:
    """Where both are there, the one that the program named counts."""
    with pytest.raises(RuntimeError) as caught:
        try:
            raise _marked(1)
        except ValueError:
            raise RuntimeError from _marked(2)
    assert culprits(caught.value, "run") == {2}


def test_all_members_of_a_group_are_followed() -> None:
    """Each path of a group ends at its own step."""
    inner = ExceptionGroup("inner", [_marked(2), ValueError()])
    assert culprits(ExceptionGroup("outer", [_marked(1), inner]), "run") == {1, 2}


def test_steps_of_other_runs_do_not_count() -> None:
    """A child run's failure leads to what is behind it in this run."""
    assert culprits(_raised(RuntimeError(), _marked(1, "other")), "run") == set()
    outer = _marked(1, "other")
    mark(outer, "run", 7)
    assert culprits(outer, "run") == {7}


def test_circles_end() -> None:
    """Exceptions that refer to each other are followed once."""
    one, two = ValueError(), ValueError()
    one.__context__, two.__context__ = two, one
    assert culprits(one, "run") == set()


def test_an_exception_that_takes_no_attributes_is_not_marked() -> None:
    """Marking fails silently where an exception refuses it."""

    class Closed(Exception):  # noqa: N818 -- a class for this test
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    error = Closed()
    mark(error, "run", 1)
    assert culprits(error, "run") == set()
