"""Votes of semantic members: arithmetic by hand, scipy's mode as the oracle, and who wins a tie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from ensembling.votes import hard_vote, member_weights, soft_vote
from segdata.errors import InputError


def test_soft_vote_is_the_weighted_mean() -> None:
    first = np.array([[[0.2, 1.0]], [[0.8, 0.0]]], dtype=np.float32)  # C=2, H=1, W=2
    second = np.array([[[0.6, 0.0]], [[0.4, 1.0]]], dtype=np.float32)
    voted = soft_vote([first, second], [1, 3])
    expected = [[[0.25 * 0.2 + 0.75 * 0.6, 0.25]], [[0.25 * 0.8 + 0.75 * 0.4, 0.75]]]
    np.testing.assert_allclose(voted, expected, atol=1e-7)
    assert voted.dtype == np.float32


def test_soft_vote_of_large_images_equals_numpys_mean() -> None:
    prob_MCHW = np.random.default_rng(0).random((4, 3, 97, 131), dtype=np.float32)
    np.testing.assert_allclose(soft_vote(prob_MCHW), prob_MCHW.astype(np.float64).mean(axis=0), atol=1e-7)


def test_soft_vote_of_one_is_that_one() -> None:
    prob_CHW = np.random.default_rng(1).random((3, 20, 30), dtype=np.float32)
    np.testing.assert_array_equal(soft_vote([prob_CHW], [0.3]), prob_CHW)


@given(
    hnp.arrays(np.float32, (3, 2, 3, 4), elements=st.floats(0, 1, width=32)),
    st.permutations([0, 1, 2]),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_soft_vote_does_not_depend_on_the_order_of_members(
    prob_MCHW: np.ndarray, order: list[int], weights: list[float]
) -> None:
    voted = soft_vote(prob_MCHW, weights)
    shuffled = soft_vote([prob_MCHW[index] for index in order], [weights[index] for index in order])
    np.testing.assert_allclose(shuffled, voted, atol=1e-7)


def test_soft_vote_member_twice_at_half_weight_is_once() -> None:
    first, second = np.random.default_rng(2).random((2, 2, 5, 6), dtype=np.float32)
    np.testing.assert_allclose(soft_vote([first, first, second], [0.5, 0.5, 1]), soft_vote([first, second]), atol=1e-7)


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
def test_soft_vote_refuses_what_is_no_probability(bad: float) -> None:
    prob_CHW = np.full((2, 3, 3), 0.5, dtype=np.float32)
    broken = prob_CHW.copy()
    broken[1, 2, 2] = bad
    with pytest.raises(InputError, match="member 1: expected probabilities within 0..1"):
        soft_vote([prob_CHW, broken])


def test_soft_vote_refuses_other_shapes() -> None:
    with pytest.raises(InputError, match=r"member 1: expected an array of shape \(2, 3, 3\)"):
        soft_vote([np.zeros((2, 3, 3), np.float32), np.zeros((2, 3, 4), np.float32)])


@given(hnp.arrays(np.uint8, (5, 4, 6), elements=st.integers(0, 4)))
@settings(max_examples=60, deadline=None)
def test_hard_vote_equals_scipys_mode(label_MHW: np.ndarray) -> None:
    # scipy, too, gives a tie to the lowest value
    np.testing.assert_array_equal(hard_vote(label_MHW, 5), stats.mode(label_MHW, axis=0).mode)


@given(
    hnp.arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 3)),
    st.permutations([0, 1, 2, 3]),
    st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_hard_vote_does_not_depend_on_the_order_of_members(
    label_MHW: np.ndarray, order: list[int], weights: list[float]
) -> None:
    voted = hard_vote(label_MHW, 4, weights)
    np.testing.assert_array_equal(hard_vote(label_MHW[order], 4, [weights[index] for index in order]), voted)


def test_hard_vote_weighs_members() -> None:
    label_MHW = np.array([[[1, 1]], [[2, 2]], [[2, 1]]], dtype=np.uint8)
    assert hard_vote(label_MHW, 3, [3, 1, 1]).tolist() == [[1, 1]]
    assert hard_vote(label_MHW, 3, [1, 1, 1]).tolist() == [[2, 1]]


def test_hard_vote_tie_goes_to_the_lowest_class() -> None:
    label_MHW = np.array([[[2]], [[1]]], dtype=np.uint8)
    assert hard_vote(label_MHW, 3).tolist() == [[1]]
    # 0.1 + 0.2 against 0.3: a tie though the sums of floats differ in the last bit
    thirds = np.array([[[2]], [[2]], [[1]]], dtype=np.uint8)
    assert hard_vote(thirds, 3, [0.1, 0.2, 0.3]).tolist() == [[1]]


def test_hard_vote_of_one_is_that_one() -> None:
    label_HW = np.random.default_rng(3).integers(0, 7, (9, 8)).astype(np.uint8)
    np.testing.assert_array_equal(hard_vote([label_HW], 7), label_HW)


def test_hard_vote_refuses_unknown_labels() -> None:
    label_HW = np.array([[0, 255]], dtype=np.uint8)
    with pytest.raises(InputError, match="member 0: expected labels below 3, the number of classes, but got 255"):
        hard_vote([label_HW], 3)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [1.0, 1.0, 1.0]])
def test_weights_that_are_wrong_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights: expected one finite weight above 0 for each of 2 members, but got"):
        member_weights(weights, 2)


def test_no_member_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least one member, but got none"):
        soft_vote([])
