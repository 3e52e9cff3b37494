"""Domains: what they hold, what they refuse, and that what they draw lies in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.parameters import Choice, Float, Int, plain
from segdata.errors import SpaceError


def test_choice_holds_its_values_and_tells_true_from_one() -> None:
    choice = Choice(("sgd", 1, 2.5))
    assert choice.contains("sgd")
    assert choice.contains(1.0)
    assert not choice.contains(True)
    assert not choice.contains("adam")
    assert choice.size() == 3


def test_nearest_choice_of_a_number_is_the_closest_and_of_a_text_the_first() -> None:
    assert Choice((0.001, 0.01, 0.1)).nearest(0.02) == 0.01
    assert Choice(("adam", "adamw")).nearest("sgd") == "adam"
    assert Choice(("adam", "adamw")).nearest("adamw") == "adamw"


@pytest.mark.parametrize(
    ("values", "message"), [((), "empty list"), (("a", "b", "a"), "'a' twice"), ((1, 1.0), "twice")]
)
def test_choice_refuses(values: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Choice(values)


@pytest.mark.parametrize(
    ("low", "high", "log", "step", "message"),
    [
        (0.1, 0.01, False, None, r"wrong way round. Write \[0.01, 0.1\]"),
        (0.1, 0.1, False, None, "Put the one value under `fixed`"),
        (0.0, 1.0, True, None, "low > 0 for a log range, but got 0.0"),
        (-1.0, 1.0, True, None, "low > 0 for a log range"),
        (0.1, 1.0, True, 0.1, "`log` or `step`, but got both"),
        (0.0, 1.0, False, -0.1, "step > 0, but got -0.1"),
        (0.0, 1.0, False, 0.3, "divides 1.0 - 0.0, but got 0.3. End the range at 0.9"),
        (0.0, 1.0, False, 2.0, "End the range at 2"),
        (0.0, float("inf"), False, None, "finite ends"),
        (float("nan"), 1.0, False, None, "finite ends"),
    ],
)
def test_float_refuses(low: float, high: float, log: bool, step: float | None, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Float(low, high, log, step)


def test_int_refuses_a_step_that_does_not_fit_and_a_log_range_from_zero() -> None:
    with pytest.raises(SpaceError, match="End the range at 9"):
        Int(1, 10, step=4)
    with pytest.raises(SpaceError, match="low > 0"):
        Int(0, 10, log=True)
    with pytest.raises(SpaceError, match="got both"):
        Int(1, 10, log=True, step=3)


def test_stepped_ranges_hold_only_their_grid() -> None:
    grid = Float(0.1, 0.5, step=0.1)
    assert grid.discrete() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert grid.contains(0.1 + 0.2)
    assert not grid.contains(0.25)
    assert grid.nearest(0.26) == pytest.approx(0.3)
    assert Int(2, 10, step=4).discrete() == range(2, 11, 4)
    assert not Int(2, 10, step=4).contains(4)


def test_int_holds_whole_numbers_only() -> None:
    assert Int(1, 5).contains(3)
    assert not Int(1, 5).contains(3.0)
    assert not Int(0, 5).contains(True)


def test_middle_of_a_log_range_is_geometric() -> None:
    assert Float(1e-4, 1e-2, log=True).middle() == pytest.approx(1e-3)
    assert Float(0.0, 1.0).middle() == 0.5
    assert Int(1, 100, log=True).middle() == 10


def test_nearest_clips_to_the_range() -> None:
    assert Float(0.001, 0.01).nearest(0.02) == 0.01
    assert Int(9, 15).nearest(3) == 9
    assert isinstance(Int(9, 15).nearest(12.0), int)


def test_plain_unpacks_numpy_and_refuses_what_is_no_scalar() -> None:
    assert type(plain(np.int64(3))) is int
    assert type(plain(np.float32(0.5))) is float
    assert type(plain(np.bool_(True))) is bool
    with pytest.raises(SpaceError, match=r"got \[1, 2\]"):
        plain([1, 2])
    with pytest.raises(SpaceError, match="got None"):
        plain(None)


@given(
    st.one_of(
        st.builds(lambda low, width: Float(low, low + width), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)),
        st.builds(lambda low, ratio: Float(low, low * ratio, log=True), st.floats(1e-6, 1.0), st.floats(1.1, 1e4)),
        st.builds(
            lambda low, step, n: Float(low, low + n * step, step=step),
            st.floats(-10, 10),
            st.floats(0.01, 5),
            st.integers(1, 50),
        ),
        st.builds(lambda low, width: Int(low, low + width), st.integers(-100, 100), st.integers(1, 1000)),
        st.builds(lambda low, width: Int(low, low + width, log=True), st.integers(1, 100), st.integers(1, 1000)),
        st.builds(
            lambda low, step, n: Int(low, low + n * step, step=step),
            st.integers(-10, 10),
            st.integers(1, 7),
            st.integers(1, 50),
        ),
    ),
    st.integers(0, 2**32 - 1),
)
def test_whatever_a_range_draws_it_holds(domain: Float | Int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        assert domain.contains(domain.sample(rng))
    assert domain.contains(domain.middle())
    assert all(domain.contains(edge) for edge in domain.edges())
    values = domain.discrete()
    if values is not None and len(values) <= 100:
        assert len(values) == domain.size()
        assert all(domain.contains(value) for value in values)
