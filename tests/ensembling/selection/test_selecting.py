"""What is chosen from prediction sets: known optima, the guard, limits, determinism, and what is refused."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensembling.selection import Candidate, Library, Selection, SelectionRules, select_ensemble
from segdata.errors import InputError
from segdata.instances import ImageRecord, InstanceDataset
from segdata.predictions import ImageInstances, PredictedImage, PredictionSet, PredictionWriter
from segdata.rle import rle_bbox
from segscore.metrics import score_predictions
from tests.ensembling.selection.scenes import (
    CATEGORIES,
    HEIGHT,
    WIDTH,
    disc,
    instance_meta,
    instance_scene,
    object_of,
    score_on_disk,
    semantic_scene,
    semantic_truth,
    write_objects,
    write_probabilities,
)

UNTUNED = SelectionRules(tuning_trials=0, estimate=False)
TUNED = SelectionRules(tuning_trials=12, estimate=False)


def of_shares(folder: Path, shares: dict[str, list[float]]) -> tuple[list[Candidate], Any]:
    """One image of as many columns as shares; each candidate gives the true class its share of 1, a false one the rest.

    The true class is 2, the false one 1, so that a tie is lost.
    """
    candidates = []
    for name, share in shares.items():
        prob_CW = np.stack([np.zeros(len(share)), 1 - np.array(share), np.array(share)])
        candidates.append(Candidate(name, write_probabilities(folder / name, [np.repeat(prob_CW[:, None], 2, axis=1)])))
    return candidates, semantic_truth(folder / "truth", [np.full((2, len(share)), 2, dtype=np.uint8)])


def chosen(
    candidates: list[Candidate],
    truth: Any,
    metric: str = "accuracy",
    method: str = "soft-vote",
    rules: SelectionRules = UNTUNED,
    **more: Any,
) -> Selection:
    return select_ensemble(Library(candidates, truth, metric=metric, mode="max"), method=method, rules=rules, **more)


def weights_of(selection: Selection) -> dict[str, float]:
    return {member.candidate.name: member.weight for member in selection.members}


def four_objects(folder: Path, found: dict[str, list[tuple[int, float]]]) -> tuple[list[Candidate], InstanceDataset]:
    """Four discs on an image; each candidate finds those it names, with a confidence, exactly."""
    image = ImageRecord(1, "a.png", WIDTH, HEIGHT)
    discs = [disc(20 + 25 * number, 40, 10) for number in range(4)]
    truth = InstanceDataset((image,), CATEGORIES, tuple(object_of(i + 1, 1, 2, rle) for i, rle in enumerate(discs)))
    rows = {name: {1: [(discs[i], confidence, 0) for i, confidence in seen]} for name, seen in found.items()}
    return [Candidate(name, write_objects(folder / name, [image], row)) for name, row in rows.items()], truth


def test_two_weak_votes_that_complete_each_other_beat_a_strong_one(tmp_path: Path) -> None:
    shares = {
        "strong": [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.0, 0.0],
        "left": [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.3, 0.3, 0.3, 0.3],
        "right": [0.3, 0.3, 0.3, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],
    }
    found = chosen(*of_shares(tmp_path, shares))
    assert found.best_single == ("strong", 0.8)
    assert found.score == 1.0
    assert weights_of(found) == {"left": 0.5, "right": 0.5}
    assert not found.fell_back
    left, right = found.members
    assert (left.alone, left.without, left.joined) == (0.6, 0.6, 0.6)
    assert (right.alone, right.without, right.joined) == (0.6, 0.6, 1.0)


def test_two_weak_detectors_that_complete_each_other_beat_a_strong_one(tmp_path: Path) -> None:
    found = {"strong": [(0, 0.9), (1, 0.9), (2, 0.9)], "left": [(0, 0.8), (1, 0.8)], "right": [(2, 0.8), (3, 0.8)]}
    selection = chosen(*four_objects(tmp_path, found), "segm_mAP_50", "wbf")
    assert selection.score == 1.0
    assert "right" in weights_of(selection) and len(selection.members) == 2  # with strong or with left
    assert selection.best_single[0] == "strong"


def test_a_member_is_weighed_twice_where_that_is_right(tmp_path: Path) -> None:
    """Equal weights lose the first column, three to one the last: 0.7 + 0.25 < 1, 3 x 0.3 + 1 < 2."""
    found = chosen(*of_shares(tmp_path, {"a": [0.7, 0.4, 0.3], "b": [0.25, 0.95, 1.0]}))
    assert found.score == 1.0
    assert weights_of(found) == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}


def test_a_copy_and_a_bad_candidate_are_left_out(tmp_path: Path) -> None:
    a, b = [0.9, 0.9, 0.3, 0.3], [0.3, 0.3, 0.9, 0.9]
    found = chosen(*of_shares(tmp_path, {"a": a, "copy of a": a, "b": b, "bad": [0.0, 0.0, 0.0, 0.0]}))
    assert weights_of(found) == {"a": 0.5, "b": 0.5}


def test_the_best_candidate_alone_where_no_ensemble_is_better(tmp_path: Path) -> None:
    candidates, truth = of_shares(tmp_path, {"best": [0.9, 0.6, 0.6], "x": [0.1, 0.1, 0.9], "y": [0.2, 0.9, 0.0]})
    found = chosen(candidates, truth, rules=UNTUNED)
    assert found.fell_back
    assert weights_of(found) == {"best": 1.0}
    assert found.score == found.best_single[1] == 1.0
    assert found.members[0].without is None
    every = chosen(candidates, truth, rules=replace(UNTUNED, select="all"))
    assert len(every.members) == 3 and not every.fell_back
    assert every.score < every.best_single[1]


def test_the_best_candidate_alone_is_fused_by_a_method_that_leaves_it_as_it_is(tmp_path: Path) -> None:
    """Mask fusion takes boxes from masks; here the candidate's own boxes are right and its masks too small."""
    image = ImageRecord(1, "a.png", WIDTH, HEIGHT)
    whole, part = disc(50, 40, 20), disc(50, 40, 12)
    x, y, width, height = rle_bbox(whole)
    with PredictionWriter(tmp_path / "one", instance_meta()) as writer:
        record = PredictedImage(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)
        writer.add_instances(record, ImageInstances.of([[x, y, x + width, y + height]], [0.9], [0], (part,)))
    truth = InstanceDataset((image,), CATEGORIES, (object_of(1, 1, 2, whole),))
    found = chosen([Candidate("one", tmp_path / "one")], truth, "bbox_mAP", "mask-fusion")
    assert (found.method, found.score, found.fell_back) == ("wbf", 1.0, True)
    assert found.default_score == 0.0


@pytest.mark.parametrize("method", ["wbf", "mask-fusion", "nms", "soft-nms", "nmw"])
def test_never_worse_than_the_best_single_nor_than_the_defaults(tmp_path: Path, method: str) -> None:
    for seed in range(3):
        candidates, truth = instance_scene(tmp_path / method, seed=seed)
        found = chosen(candidates, truth, "segm_mAP", method, TUNED)
        single = max(
            (score_predictions(truth, PredictionSet.open(one.predictions))["segm_mAP"], one.name) for one in candidates
        )
        assert found.best_single == (single[1], pytest.approx(single[0], abs=1e-12))
        assert found.score >= max(found.best_single[1], found.default_score)
        assert sum(weights_of(found).values()) == pytest.approx(1.0)


def test_the_score_is_that_of_fusing_what_was_chosen(tmp_path: Path) -> None:
    scenes = ((instance_scene(tmp_path), "segm_mAP", "wbf"), (semantic_scene(tmp_path), "mIoU", "soft-vote"))
    for (candidates, truth), metric, method in scenes:
        found = chosen(candidates, truth, metric, method, TUNED)
        members = [member.candidate for member in found.members]
        weights = [member.weight for member in found.members]
        out = tmp_path / f"fused-{method}"
        expected = score_on_disk(out, members, truth, method=found.method, weights=weights, settings=found.settings)
        assert found.score == pytest.approx(expected[metric], abs=1e-12)
        assert found.score > found.best_single[1]  # an ensemble, so that the above says something
        for place, member in enumerate(found.members):
            assert member.without is not None and member.without < found.score  # each adds something
            others, rest = members[:place] + members[place + 1 :], weights[:place] + weights[place + 1 :]
            fewer = tmp_path / f"fewer-{method}{place}"
            score = score_on_disk(fewer, others, truth, method=found.method, weights=rest, settings=found.settings)
            assert member.without == pytest.approx(score[metric], abs=1e-12)
        assert found.members[-1].joined == found.score


def test_tuning_finds_the_threshold_that_masks_cut_short_need(tmp_path: Path) -> None:
    """Two of three members see a part only: a majority cuts, a third of the votes keeps the whole."""
    image = ImageRecord(1, "a.png", WIDTH, HEIGHT)
    whole = disc(50, 40, 20)
    part = disc(54, 40, 16)
    truth = InstanceDataset((image,), CATEGORIES, (object_of(1, 1, 2, whole),))
    found = {"a": part, "b": part, "c": disc(50, 40, 19)}
    candidates = [
        Candidate(name, write_objects(tmp_path / name, [image], {1: [(rle, 0.9, 0)]})) for name, rle in found.items()
    ]
    rules = replace(TUNED, select="all", tuning_trials=40)
    tuned = chosen(candidates, truth, "segm_mAP", "wbf", rules)
    assert tuned.default_score < tuned.score


@pytest.mark.parametrize(
    ("method", "fixed"),
    [
        ("wbf", {"mask_threshold": 0.45, "minimum_confidence": 0.1}),
        ("soft-nms", {"decay": "gaussian", "overlap": "box"}),
        ("nms", {"iou_threshold": 0.5, "merge_own": True}),
    ],
)
def test_fixed_settings_stay(tmp_path: Path, method: str, fixed: dict[str, Any]) -> None:
    candidates, truth = instance_scene(tmp_path)
    found = chosen(candidates, truth, "segm_mAP", method, TUNED, fixed=fixed)
    assert not found.fell_back
    assert {name: getattr(found.settings, name) for name in fixed} == fixed


@pytest.mark.parametrize("method", ["nms", "soft-vote"])
def test_order_and_repetition_change_nothing(tmp_path: Path, method: str) -> None:
    candidates, truth = (instance_scene if method == "nms" else semantic_scene)(tmp_path)
    metric = "segm_mAP" if method == "nms" else "mIoU"
    rules = replace(TUNED, estimate=True)
    results = [chosen(some, truth, metric, method, rules) for some in (candidates, candidates, candidates[::-1])]
    assert results[0] == results[1] == results[2]


def test_estimate_is_of_images_that_the_choice_did_not_see(tmp_path: Path) -> None:
    """On the first half of the images one candidate is right, on the second the other; neither is, where unseen."""
    good, bad = ([0.0, 0.1, 0.9], [0.0, 0.9, 0.1])
    probs = {True: np.array(good).reshape(3, 1, 1).repeat(4, 2), False: np.array(bad).reshape(3, 1, 1).repeat(4, 2)}
    first_N = np.zeros(6, dtype=bool)
    first_N[np.random.default_rng(0).permutation(6)[:3]] = True  # as the library halves for seed 0
    candidates = [
        Candidate("a", write_probabilities(tmp_path / "a", [probs[bool(in_first)] for in_first in first_N])),
        Candidate("b", write_probabilities(tmp_path / "b", [probs[not in_first] for in_first in first_N])),
    ]
    truth = semantic_truth(tmp_path / "truth", [np.full((1, 4), 2, dtype=np.uint8)] * 6)
    found = chosen(candidates, truth, rules=replace(UNTUNED, estimate=True))
    assert found.estimate is not None
    assert (found.score, found.estimate.single, found.estimate.ensemble) == (0.5, 0.0, 0.0)


def test_members_that_add_less_than_is_asked_for_are_left_out(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path)
    many = chosen(candidates, truth, "segm_mAP", "wbf", TUNED)
    adds = [many.score - member.without for member in many.members if member.without is not None]
    fewer = chosen(candidates, truth, "segm_mAP", "wbf", replace(TUNED, least_gain=min(adds) + 0.001))
    assert len(fewer.members) < len(many.members)


def test_all_candidates_are_taken_with_equal_weights(tmp_path: Path) -> None:
    shares = {"a": [0.9, 0.3, 0.9], "b": [0.3, 0.9, 0.9], "c": [0.8, 0.8, 0.1]}
    found = chosen(*of_shares(tmp_path, shares), rules=replace(UNTUNED, select="all"))
    assert weights_of(found) == {"a": pytest.approx(1 / 3), "b": pytest.approx(1 / 3), "c": pytest.approx(1 / 3)}
    assert found.score == 1.0


def with_costs(candidates: list[Candidate], **costs: tuple[tuple[str, ...], float]) -> list[Candidate]:
    return [replace(one, models=costs[one.name][0], milliseconds=costs[one.name][1]) for one in candidates]


def test_limits_of_models_and_milliseconds_are_kept(tmp_path: Path) -> None:
    shares = {"a": [0.9, 0.9, 0.3, 0.3], "b": [0.3, 0.3, 0.9, 0.9], "view": [0.4, 0.2, 0.9, 0.7], "dear": [0.9] * 4}
    candidates, truth = of_shares(tmp_path, shares)
    costs = {"a": (("net1",), 10.0), "b": (("net2",), 10.0), "view": (("net1",), 12.0), "dear": (("x", "y"), 50.0)}
    known = with_costs(candidates, **costs)
    one_model = chosen(known, truth, rules=replace(UNTUNED, most_models=1))
    assert weights_of(one_model) == {"a": 0.5, "view": 0.5}  # two views of one network
    assert one_model.models == ("net1",)
    assert one_model.milliseconds == 22.0
    assert one_model.best_single == ("a", 0.5)
    quick = chosen(known, truth, rules=replace(UNTUNED, most_milliseconds=20.0))
    assert weights_of(quick) == {"a": 0.5, "b": 0.5}
    both = chosen(known, truth, rules=replace(UNTUNED, most_models=1, most_milliseconds=20.0))
    assert weights_of(both) == {"a": 1.0} and both.fell_back
    free = chosen(known, truth)
    assert weights_of(free) == {"dear": 1.0}
    assert free.models == ("x", "y")
    all_of_them = chosen(known, truth, rules=replace(UNTUNED, select="all", most_milliseconds=25.0))
    assert all_of_them.milliseconds is not None and all_of_them.milliseconds <= 25.0


def test_where_none_fits_the_cheapest_is_named(tmp_path: Path) -> None:
    candidates, truth = of_shares(tmp_path, {"a": [0.9], "b": [0.8]})
    known = with_costs(candidates, a=(("n1", "n2"), 30.0), b=(("n1", "n2", "n3"), 20.0))
    with pytest.raises(InputError, match=r"networks <= 1, but got none; the cheapest is a \(networks: 2, mill.*: 30\)"):
        chosen(known, truth, rules=replace(UNTUNED, most_models=1))
    with pytest.raises(InputError, match=r"milliseconds an image <= 5, but got none; the cheapest is b \(networks: 3"):
        chosen(known, truth, rules=replace(UNTUNED, most_milliseconds=5.0))
    with pytest.raises(InputError, match="most_milliseconds: expected the milliseconds an image of a, but got none"):
        chosen(candidates, truth, rules=replace(UNTUNED, most_milliseconds=5.0))


def test_a_users_own_metric_chooses_the_same_as_ours(tmp_path: Path) -> None:
    for (candidates, truth), metric, method in (
        (instance_scene(tmp_path), "segm_mAP", "wbf"),
        (semantic_scene(tmp_path, strides=(2, 2, 2)), "mIoU", "soft-vote"),
    ):
        seen: list[str] = []

        def own(found: PredictionSet, truth: Any = truth, metric: str = metric, seen: list[str] = seen) -> float:
            seen.append(found.meta.codec)
            return score_predictions(truth, found)[metric]

        rules = replace(TUNED, tuning_trials=5)
        by_disk = Library(candidates, truth, metric="mine", mode="max", own=own)
        found = select_ensemble(by_disk, method=method, rules=rules)
        ours = chosen(candidates, truth, metric, method, rules)
        assert weights_of(found) == weights_of(ours)
        assert (found.settings, found.evaluations) == (ours.settings, ours.evaluations)
        assert found.score == pytest.approx(ours.score, abs=1e-12)
        assert len(seen) == found.evaluations  # each ensemble is written and scored once
        assert found.estimate is None


def test_less_may_be_better(tmp_path: Path) -> None:
    candidates, truth = of_shares(tmp_path, {"a": [0.9, 0.9, 0.3], "b": [0.3, 0.9, 0.9], "bad": [0.0, 0.0, 0.9]})

    def error(found: PredictionSet) -> float:
        return 1.0 - score_predictions(truth, found)["accuracy"]

    library = Library(candidates, truth, metric="error", mode="min", own=error)
    found = select_ensemble(library, method="soft-vote", rules=UNTUNED)
    assert found.score == 0.0
    assert weights_of(found) == {"a": 0.5, "b": 0.5}
    assert found.best_single == ("a", pytest.approx(1 / 3))


def test_methods_are_tried_on_one_library(tmp_path: Path) -> None:
    """In the hard vote of two, a tie goes to the false class; the soft vote tells who is sure."""
    candidates, truth = of_shares(tmp_path, {"a": [0.9, 0.9, 0.4], "b": [0.4, 0.9, 0.9]})
    library = Library(candidates, truth, metric="accuracy", mode="max")
    hard, soft = (select_ensemble(library, method=method, rules=UNTUNED) for method in ("hard-vote", "soft-vote"))
    assert (hard.fell_back, hard.score, soft.score) == (True, pytest.approx(2 / 3), 1.0)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the temporary folders of a user's own metric nor by what lies beyond the memory limit."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    candidates, truth = semantic_scene(tmp_path)

    def failing(found: PredictionSet) -> float:
        raise InputError("the metric says no")

    with pytest.raises(InputError, match="the metric says no"):
        select_ensemble(Library(candidates, truth, metric="m", mode="max", own=failing), method="soft-vote")
    library = Library(candidates, truth, metric="mIoU", mode="max", memory_mb=0)
    select_ensemble(library, method="soft-vote", rules=UNTUNED, fixed={"mean": "geometric"})
    assert list(temporary.iterdir()) == []
