"""Votes of semantic members: arithmetic by hand, scipy's mode as the oracle, and who wins a tie."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from ensembling.votes import Mean, hard_vote, soft_vote, soft_vote_labels
from ensembling.weights import member_weights, whole_votes
from segdata.errors import InputError

MEANS: tuple[Mean, ...] = ("arithmetic", "geometric", "confidence")


def meant(prob_MCHW: np.ndarray, weights: list[float], mean: Mean) -> np.ndarray:
    """The means as their definitions read, in float64."""
    share_M = np.array(weights) / sum(weights)
    if mean == "confidence":
        voices_MHW = share_M[:, None, None] * prob_MCHW.max(axis=1)
        total_HW = voices_MHW.sum(axis=0)
        summed_CHW = (voices_MHW[:, None] * prob_MCHW).sum(axis=0)
        return np.where(total_HW > 0, summed_CHW / np.where(total_HW > 0, total_HW, 1), 0)
    arithmetic_CHW: np.ndarray = np.tensordot(share_M, prob_MCHW, 1)
    if mean == "arithmetic":
        return arithmetic_CHW
    logs_CHW = np.tensordot(share_M, np.log(prob_MCHW + 1 / 510), 1)
    raw_CHW = np.maximum(np.exp(logs_CHW) - 1 / 510, 0)
    found_HW = raw_CHW.sum(axis=0)
    factor_HW = np.where(found_HW > 0, arithmetic_CHW.sum(axis=0) / np.where(found_HW > 0, found_HW, 1), 0)
    return np.minimum(raw_CHW * factor_HW, 1)


bytes_of = hnp.arrays(np.uint8, (3, 3, 2, 4))
weights_of = st.lists(st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0]), min_size=3, max_size=3)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("kinds", [("u1", "u1", "u1"), ("f4", "f4", "f4"), ("f8", "f4", "u1")])
@given(packed_MCHW=bytes_of, weights=weights_of)
@settings(max_examples=30, deadline=None)
def test_soft_vote_equals_its_definition(
    kinds: tuple[str, ...], mean: Mean, packed_MCHW: np.ndarray, weights: list[float]
) -> None:
    members = [
        part if kind == "u1" else (part / 255).astype(kind) for part, kind in zip(packed_MCHW, kinds, strict=True)
    ]
    voted = soft_vote(members, weights, mean=mean)
    np.testing.assert_allclose(voted, meant(packed_MCHW / 255, weights, mean), atol=2e-6)
    labels = soft_vote_labels(members, weights, mean=mean)
    best = np.take_along_axis(voted, labels[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(best, voted.max(axis=0), atol=1e-6)


@given(packed_MCHW=bytes_of)
@settings(max_examples=50, deadline=None)
def test_soft_vote_labels_of_bytes_are_those_of_whole_sums(packed_MCHW: np.ndarray) -> None:
    """Exactly, ties to the lower class: 2 x first + second + second again."""
    expected = (2 * packed_MCHW[0].astype(int) + packed_MCHW[1] + packed_MCHW[2]).argmax(axis=0)
    np.testing.assert_array_equal(soft_vote_labels(list(packed_MCHW), [0.2, 0.1, 0.1]), expected)


@pytest.mark.parametrize("mean", MEANS)
@given(packed_MCHW=bytes_of, weights=weights_of)
@settings(max_examples=30, deadline=None)
def test_soft_vote_of_a_member_twice_at_half_weight_is_once(
    mean: Mean, packed_MCHW: np.ndarray, weights: list[float]
) -> None:
    first, *others = packed_MCHW
    half = weights[0] / 2
    twice = soft_vote([first, first, *others], [half, half, *weights[1:]], mean=mean)
    np.testing.assert_allclose(twice, soft_vote([first, *others], weights, mean=mean), atol=1e-6)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("copies", [1, 2, 3])
@given(packed_MCHW=bytes_of)
@settings(max_examples=30, deadline=None)
def test_soft_vote_of_identical_members_is_one_of_them(mean: Mean, copies: int, packed_MCHW: np.ndarray) -> None:
    voted = soft_vote([packed_MCHW[0]] * copies, mean=mean)
    np.testing.assert_array_equal(np.rint(voted * 255).astype(np.uint8), packed_MCHW[0])


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("kinds", [("u1", "u1", "u1"), ("f4", "f4", "f4"), ("f8", "f4", "u1")])
@given(packed_MCHW=bytes_of, order=st.permutations([0, 1, 2]), weights=weights_of)
@settings(max_examples=30, deadline=None)
def test_the_order_of_members_does_not_matter_to_any_mean(
    kinds: tuple[str, ...], mean: Mean, packed_MCHW: np.ndarray, order: list[int], weights: list[float]
) -> None:
    """To the last bit."""
    members = [
        part if kind == "u1" else (part / 255).astype(kind) for part, kind in zip(packed_MCHW, kinds, strict=True)
    ]
    shuffled, shuffled_weights = [members[i] for i in order], [weights[i] for i in order]
    voted = soft_vote(members, weights, mean=mean)
    assert soft_vote(shuffled, shuffled_weights, mean=mean).tobytes() == voted.tobytes()
    labels = soft_vote_labels(members, weights, mean=mean)
    np.testing.assert_array_equal(soft_vote_labels(shuffled, shuffled_weights, mean=mean), labels)


@pytest.mark.parametrize("mean", MEANS)
def test_classes_with_the_same_numbers_tie_to_the_lowest_in_any_order_of_members(mean: Mean) -> None:
    """Each class has 0, 0 and 120, so none has more; sums of floats in turn differ in the last bit."""
    pairs = ([0, 0], [0, 120], [120, 0])
    for order in itertools.permutations(pairs):
        members = [np.array(pair, dtype=np.uint8).reshape(2, 1, 1) for pair in order]
        assert soft_vote_labels(members, mean=mean).item() == 0, order
        as_floats = [(part / 255).astype(np.float32) for part in members]
        assert soft_vote_labels(as_floats, mean=mean).item() == 0, order


def test_the_zero_of_one_member_is_no_veto_in_the_geometric_mean() -> None:
    first = np.array([[[0]], [[255]]], dtype=np.uint8)
    second = np.array([[[250]], [[5]]], dtype=np.uint8)
    voted = soft_vote([first, second], [1, 3], mean="geometric")
    assert 0 < voted[0, 0, 0] < 1


def test_confidence_lets_the_surer_member_count_for_more() -> None:
    sure = np.array([[[1.0]], [[0.0]]], dtype=np.float32)
    unsure = np.array([[[0.4]], [[0.6]]], dtype=np.float32)
    # (1 x 1 + 0.6 x 0.4) / 1.6
    np.testing.assert_allclose(soft_vote([sure, unsure], mean="confidence")[0, 0, 0], 1.24 / 1.6, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "votes", "exact"),
    [
        ([0.1, 0.2, 0.3], [1, 2, 3], True),
        ([1.0] * 300, [1] * 300, True),
        ([0.5, 0.5, 1 / 3], [3, 3, 2], True),
        ([1.0, 2**0.5], [3474675, 4913933], False),  # 2^23 / (1 + sqrt 2), and the rest
    ],
)
def test_weights_become_whole_votes(weights: list[float], votes: list[int], exact: bool) -> None:
    found, is_exact = whole_votes(member_weights(weights, len(weights)))
    assert (found.tolist(), is_exact) == (votes, exact)


def test_a_vote_of_many_weighted_members_is_counted_in_wider_numbers() -> None:
    label_MHW = np.random.default_rng(4).integers(0, 3, (300, 2, 5)).astype(np.uint8)
    expected = np.stack([(label_MHW == label).sum(axis=0) for label in range(3)]).argmax(axis=0)
    np.testing.assert_array_equal(hard_vote(list(label_MHW), 3), expected)
    uneven = np.random.default_rng(5).uniform(1, 2, 300)
    shares = np.stack([np.tensordot(uneven, label_MHW == label, 1) for label in range(3)])
    np.testing.assert_array_equal(hard_vote(list(label_MHW), 3, uneven.tolist()), shares.argmax(axis=0))


def test_soft_vote_of_many_members_does_not_overflow() -> None:
    prob_CHW = np.full((2, 3, 4), 255, dtype=np.uint8)
    np.testing.assert_array_equal(soft_vote([prob_CHW] * 300), np.ones((2, 3, 4), dtype=np.float32))
    np.testing.assert_array_equal(soft_vote([prob_CHW] * 3, [1, 2**0.5, 3]), np.ones((2, 3, 4), dtype=np.float32))


def test_soft_vote_refuses_whole_numbers_that_are_no_bytes() -> None:
    with pytest.raises(InputError, match="member 0: expected probabilities of a float dtype or uint8, but got int64"):
        soft_vote([np.zeros((2, 1, 1), dtype=np.int64)])


@pytest.mark.parametrize("weights", [[1e308, 1e308, 1e308], [1e-320, 1e-320, 1e-320]])
def test_weights_near_the_ends_of_floats_keep_their_ratios(weights: list[float]) -> None:
    np.testing.assert_allclose(member_weights(weights, 3), [1 / 3] * 3)


def test_a_weight_that_vanishes_beside_the_sum_is_refused() -> None:
    with pytest.raises(InputError, match="expected weights that all count beside their sum"):
        member_weights([1e308, 1e-308], 2)


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


@given(
    hnp.arrays(np.uint8, (3, 3, 5), elements=st.integers(0, 3)),
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 1.0, 2**0.5, 3.1]), min_size=3, max_size=3),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_hard_vote_of_copies_is_that_of_the_members(label_MHW: np.ndarray, weights: list[float], copies: int) -> None:
    """A member twice at half weight is once, and identical members are one of them."""
    first, *others = label_MHW
    half = weights[0] / 2
    twice = hard_vote([first, first, *others], 4, [half, half, *weights[1:]])
    np.testing.assert_array_equal(twice, hard_vote(list(label_MHW), 4, weights))
    np.testing.assert_array_equal(hard_vote([first] * copies, 4, weights[:copies]), first)


@given(
    hnp.arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 6)), st.lists(st.integers(1, 40), min_size=4, max_size=4)
)
@settings(max_examples=60, deadline=None)
def test_hard_vote_equals_counting(label_MHW: np.ndarray, weights: list[int]) -> None:
    """Whole weights, so that plain sums are exact; the lowest class of a tie."""
    counted = np.stack([np.tensordot(weights, label_MHW == label, 1) for label in range(7)])
    np.testing.assert_array_equal(hard_vote(list(label_MHW), 7, [w / 7 for w in weights]), counted.argmax(axis=0))


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
