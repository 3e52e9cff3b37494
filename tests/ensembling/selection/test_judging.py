"""Ensembles judged in memory have the scores of the prediction sets that fusing writes, to 1e-12."""

import math
from pathlib import Path

import numpy as np
import pytest

from ensembling import METHODS, FusionSettings
from ensembling.selection import Candidate, Library
from ensembling.selection.blends import Blend, whole_weights
from segdata.predictions import PredictionSet
from segscore.metrics import METRICS, score_predictions
from tests.ensembling.selection.scenes import Truth, instance_scene, score_on_disk, semantic_scene

INSTANCE = [name for name, method in METHODS.items() if method.task == "instance"]
WEIGHTS = ({0: 1, 1: 1, 2: 1}, {0: 3, 2: 1}, {1: 1}, {0: 60, 1: 33, 2: 7})


def assert_equal_scores(
    tmp_path: Path,
    candidates: list[Candidate],
    truth: Truth,
    method: str,
    settings: FusionSettings,
    metrics: list[str],
) -> None:
    """All weights are judged at once, as a round of the selection does."""
    libraries = {metric: Library(candidates, truth, metric=metric, mode="max") for metric in metrics}
    blends = [Blend.of(method, weights, settings) for weights in WEIGHTS]
    gains = {metric: library.gains(blends) for metric, library in libraries.items()}
    for number, weights in enumerate(WEIGHTS):
        chosen = [candidates[index] for index in weights]
        shares = [weight / sum(weights.values()) for weight in weights.values()]
        out = tmp_path / f"{method}{number}"
        expected = score_on_disk(out, chosen, truth, method=method, weights=shares, settings=settings)
        for metric in metrics:
            found = gains[metric][number]
            assert found == pytest.approx(expected[metric], abs=1e-12), (metric, weights)
            assert 0.02 < found <= 1.0  # of something, not of nothing


@pytest.mark.parametrize("method", INSTANCE)
@pytest.mark.parametrize(
    "settings",
    [FusionSettings(), FusionSettings(iou_threshold=0.4, mask_threshold=0.3, minimum_confidence=0.4, overlap="box")],
)
def test_instances(tmp_path: Path, method: str, settings: FusionSettings) -> None:
    candidates, truth = instance_scene(tmp_path)
    metrics = ["segm_mAP", "segm_mAP_75", "segm_mAP/bag", "bbox_mAP", "boundary_AP_50"]
    assert_equal_scores(tmp_path, candidates, truth, method, settings, metrics)


@pytest.mark.parametrize("strides", [(1, 1, 1), (4, 4, 4), (1, 4, 2)])
@pytest.mark.parametrize(
    "settings",
    [
        FusionSettings(),
        FusionSettings(mean="geometric"),
        FusionSettings(mean="confidence"),
        FusionSettings(output="labels"),
    ],
    ids=["arithmetic", "geometric", "confidence", "labels"],
)
def test_soft_votes(tmp_path: Path, strides: tuple[int, ...], settings: FusionSettings) -> None:
    candidates, truth = semantic_scene(tmp_path, strides=strides)
    metrics = ["mIoU", "mIoU_per_image", "accuracy", "boundary_IoU", "IoU/bottle"]
    assert_equal_scores(tmp_path, candidates, truth, "soft-vote", settings, metrics)


@pytest.mark.parametrize("codecs", [("prob8", "prob8", "prob8"), ("prob8", "labels", "labels")])
def test_hard_votes(tmp_path: Path, codecs: tuple[str, ...]) -> None:
    candidates, truth = semantic_scene(tmp_path, strides=(4, 1, 1), codecs=codecs)
    assert_equal_scores(tmp_path, candidates, truth, "hard-vote", FusionSettings(), ["mIoU", "boundary_IoU"])


def test_a_candidates_own_score_is_that_of_its_set(tmp_path: Path) -> None:
    for scene, metric in ((instance_scene(tmp_path), "segm_mAP"), (semantic_scene(tmp_path, strides=(4, 1)), "mIoU")):
        candidates, truth = scene
        library = Library(candidates, truth, metric=metric, mode="max")
        own = library.gains([Blend(None, ((index, 1),), FusionSettings()) for index in range(len(candidates))])
        expected = [score_predictions(truth, PredictionSet.open(one.predictions))[metric] for one in candidates]
        assert own == pytest.approx(expected, abs=1e-12)


def test_many_votes_are_summed_without_overflow(tmp_path: Path) -> None:
    """More than 257 votes of up to 255 do not fit into 16 bits."""
    candidates, truth = semantic_scene(tmp_path, strides=(1, 1))
    library = Library(candidates, truth, metric="mIoU", mode="max")
    weights = {0: 1, 1: 300}
    expected = score_on_disk(
        tmp_path / "out", candidates, truth, method="soft-vote", weights=[1, 300], settings=FusionSettings()
    )
    found = library.gains([Blend.of("soft-vote", weights, FusionSettings())])
    assert found == pytest.approx([expected["mIoU"]], abs=1e-12)


def test_scores_of_halves_are_those_of_their_images(tmp_path: Path) -> None:
    candidates, truth = semantic_scene(tmp_path, images=6)
    library = Library(candidates, truth, metric="accuracy", mode="max")
    blend = Blend.of("soft-vote", {0: 1, 1: 1}, FusionSettings())
    whole, first, second = (library.gains([blend], images)[0] for images in (0, 1, 2))
    assert first != second
    assert whole == pytest.approx((first + second) / 2, abs=1e-12)  # all images are of one size


def test_bytes_beyond_the_memory_limit_are_read_from_a_file(tmp_path: Path) -> None:
    candidates, truth = semantic_scene(tmp_path)
    blends = [Blend.of(method, {0: 2, 2: 1}, FusionSettings()) for method in ("soft-vote", "hard-vote")]
    in_memory, on_disk = (
        Library(candidates, truth, metric="mIoU", mode="max", memory_mb=limit).gains(blends) for limit in (100, 0)
    )
    assert in_memory == on_disk


def test_less_is_better_where_the_mode_says_so(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path)
    library = Library(candidates, truth, metric="segm_mAP", mode="min")
    gain = library.gains([Blend.of("nms", {0: 1}, FusionSettings())])[0]
    assert gain < 0
    assert library.score_of(gain) == -gain
    assert math.isnan(library.score_of(-math.inf))


def test_one_ensemble_is_judged_once_whatever_its_weights_are_called(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path)
    library = Library(candidates, truth, metric="segm_mAP", mode="max")
    library.gains(
        [Blend.of("nms", weights, FusionSettings()) for weights in ({0: 2, 1: 2}, {1: 1, 0: 1}, {0: 5, 1: 5})]
    )
    assert library.evaluations == 1


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ({0: 2, 3: 1}, {0: 2, 3: 1}),
        ({0: 0.5, 1: 0.25}, {0: 67, 1: 33}),
        ({0: 1000, 1: 1}, {0: 100, 1: 1}),  # each counts at least one part of a hundred
    ],
)
def test_weights_become_whole(weights: dict[int, float], whole: dict[int, int]) -> None:
    assert whole_weights(weights) == whole


def test_every_metric_of_the_task_can_be_chosen_by(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path, members=1)
    for name in [name for name, metric in METRICS.items() if metric.task == "instance"]:
        library = Library(candidates, truth, metric=name, mode="max")
        expected = score_predictions(truth, PredictionSet.open(candidates[0].predictions), boundaries=True)[name]
        found = library.score_of(library.gains([Blend(None, ((0, 1),), FusionSettings())])[0])
        np.testing.assert_allclose(found, expected, atol=1e-12)  # NaN where there is no such object
