"""What a selection refuses, each with a message that says what is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensembling.selection import Candidate, Library, Selection, SelectionRules, select_ensemble
from segdata.errors import DatasetError, InputError
from tests.ensembling.selection.scenes import (
    CLASSES,
    instance_scene,
    semantic_scene,
    write_objects,
    write_probabilities,
)

UNTUNED = SelectionRules(tuning_trials=0, estimate=False)


def chosen(
    candidates: list[Candidate], truth: Any, metric: str = "accuracy", method: str = "soft-vote", **more: Any
) -> Selection:
    library = Library(candidates, truth, metric=metric, mode="max")
    return select_ensemble(library, method=method, rules=UNTUNED, **more)


def test_labels_can_be_voted_hard_only(tmp_path: Path) -> None:
    candidates, truth = semantic_scene(tmp_path, codecs=("prob8", "labels", "labels"))
    with pytest.raises(InputError, match="expected prob8 for soft-vote, but got labels"):
        chosen(candidates, truth, "mIoU", "soft-vote")
    assert chosen(candidates, truth, "mIoU", "hard-vote").score > 0.5


def test_candidates_of_other_images_classes_and_tasks_are_refused(tmp_path: Path) -> None:
    candidates, truth = semantic_scene(tmp_path)
    fewer, _ = semantic_scene(tmp_path / "fewer", images=4)
    with pytest.raises(InputError, match="expected the 5 images of .*, but got 4 images"):
        chosen([*candidates, replace(fewer[0], name="fewer")], truth)
    with pytest.raises(DatasetError, match="expected a prediction for '4.png', but got none"):
        chosen(fewer, truth)
    objects, _ = instance_scene(tmp_path)
    with pytest.raises(InputError, match="expected task semantic .*, but got instance"):
        chosen([*candidates, replace(objects[0], name="objects")], truth)
    with pytest.raises(InputError, match="expected predictions of the truth's task, semantic, but got instance"):
        chosen(objects, truth)
    probs = [np.full((3, 57, 71), 1 / 3)] * 5
    other = write_probabilities(tmp_path / "other", probs, classes=(*CLASSES[:2], "can"))
    with pytest.raises(InputError, match="expected classes .*'bottle'.*, but got .*'can'"):
        chosen([*candidates, Candidate("other", other)], truth)


def test_an_empty_candidate_and_false_confidences_are_refused(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path)
    empty = write_objects(tmp_path / "empty", truth.images, {})
    with pytest.raises(InputError, match="empty: expected objects in some of 5 images, but got none"):
        chosen([*candidates, Candidate("empty", empty)], truth, "segm_mAP", "wbf")
    results = candidates[1].predictions / "instances.json"
    text = results.read_text(encoding="utf-8")
    score = text[text.index('"score": ') :].split(",")[0]
    for wrong in ("NaN", "1.5"):
        results.write_text(text.replace(score, f'"score": {wrong}', 1), encoding="utf-8")
        with pytest.raises(InputError, match=f"expected confidences within 0..1 in .*png, but got {wrong.lower()}"):
            chosen(candidates, truth, "segm_mAP", "wbf")


def test_wrong_labels_and_probabilities_are_refused(tmp_path: Path) -> None:
    candidates, truth = semantic_scene(tmp_path, codecs=("labels", "prob8", "prob8"))
    labels = sorted((candidates[0].predictions / "labels").glob("*.png"))[0]
    kept = labels.read_bytes()
    labels.write_bytes((truth.images[0].label_path).read_bytes())  # holds ignored pixels, 255
    with pytest.raises(DatasetError, match="expected labels below 3 in 0.png, but got 255"):
        chosen(candidates, truth, "mIoU", "hard-vote")
    labels.write_bytes(kept)
    broken = candidates[1].predictions / "probabilities" / "2.npz"
    np.savez_compressed(broken, prob=np.full((3, 57, 71), np.nan, dtype=np.float32))
    with pytest.raises(DatasetError, match=r"expected uint8 \(3, 57, 71\), but got float32"):
        chosen(candidates, truth, "mIoU", "hard-vote")


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path)
    with pytest.raises(InputError, match="expected at least one member, but got none"):
        chosen([], truth, "segm_mAP", "wbf")
    with pytest.raises(InputError, match="expected candidates of different names, but got m1 twice"):
        chosen([*candidates, candidates[1]], truth, "segm_mAP", "wbf")
    with pytest.raises(InputError, match=r"expected a metric of instance predictions \(segm_mAP, .*but got 'mIoU'"):
        chosen(candidates, truth, "mIoU", "wbf")
    with pytest.raises(InputError, match="expected a method for instance predictions .*, but got 'soft-vote'"):
        chosen(candidates, truth, "segm_mAP", "soft-vote")
    with pytest.raises(InputError, match="expected a setting of fusion .*, but got 'iou'"):
        chosen(candidates, truth, "segm_mAP", "wbf", fixed={"iou": 0.5})
    with pytest.raises(InputError, match="iou_threshold: expected at least 0 and below 1, but got 2"):
        chosen(candidates, truth, "segm_mAP", "wbf", fixed={"iou_threshold": 2.0})


def test_a_metric_of_what_the_truth_lacks_chooses_nothing(tmp_path: Path) -> None:
    candidates, truth = instance_scene(tmp_path)
    with pytest.raises(InputError, match="expected a score of segm_mAP_l for a candidate, but got none"):
        chosen(candidates, truth, "segm_mAP_l", "wbf")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"select": "best"}, "select: expected greedy or all, but got best"),
        ({"rounds": 0}, "rounds: expected at least 1, but got 0"),
        ({"bags": 0}, "bags: expected at least 1, but got 0"),
        ({"bag_share": 0.0}, "bag_share: expected above 0 and at most 1, but got 0.0"),
        ({"tuning_trials": -1}, "tuning_trials: expected at least 0, but got -1"),
        ({"seed": -1}, "seed: expected at least 0, but got -1"),
        ({"least_gain": -0.1}, "least_gain: expected a number from 0, but got -0.1"),
        ({"most_models": 0}, "most_models: expected at least 1, but got 0"),
        ({"most_milliseconds": float("nan")}, "most_milliseconds: expected a number above 0, but got nan"),
    ],
)
def test_wrong_rules_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelectionRules(**wrong)
