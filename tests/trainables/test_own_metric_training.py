"""A metric of the user's own in a real training: recorded beside the stock scores, and told when it fails."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import trainables.ray_trainable as ray_trainable
from search_spaces.trial_config import ModelChoice, TrialConfig
from segscore.own_metric import OwnMetric
from trainables.description import DataDescription
from trainables.fork_server import start_child
from trainables.ray_trainable import TrialContext, run_to_outcome
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, TrialFiles

pytestmark = pytest.mark.slow

OBJECTS = """\
def true_area(truth, found):
    masks = [result["segmentation"]["counts"] for result in found]
    assert len(truth["images"]) == 3 and all(isinstance(counts, str) for counts in masks)
    return sum(annotation["area"] for annotation in truth["annotations"])
"""
PIXELS = """\
def share_wrong(truths, predictions, ignore_index):
    wrong = counted = 0
    for truth, found in zip(truths, predictions):
        kept = truth != ignore_index
        counted += int(kept.sum())
        wrong += int((truth != found)[kept].sum())
    return wrong / counted
"""
SECOND_EPOCH = """\
CALLS = []

def late(truths, predictions, ignore_index):
    CALLS.append(len(truths))
    if len(CALLS) == 1:
        return float("nan")
    raise ValueError("a second time")
"""


def own(folder: Path, text: str, name: str) -> tuple[OwnMetric]:
    return (OwnMetric(name, folder / "my_metric.py", text),)  # no such file here, as on another node


def test_objects_are_scored_by_it_beside_the_stock_scores(
    particles: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    request_of: Callable[..., TrialRequest],
    train: Callable[[TrialRequest], list[dict[str, float]]],
    tmp_path: Path,
) -> None:
    request = request_of(tiny_trial("mask-rcnn", epochs=1), particles, tmp_path / "0000")
    metrics = own(tmp_path, OBJECTS, "true_area")
    (row,) = train(replace(request, metric="true_area", mode="min", own_metrics=metrics))
    assert row["true_area"] > 0 and 0 <= row["segm_mAP"] <= 1


def test_label_maps_are_scored_by_it_and_its_best_epoch_is_kept(
    litter: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    request_of: Callable[..., TrialRequest],
    train: Callable[[TrialRequest], list[dict[str, float]]],
    tmp_path: Path,
) -> None:
    """The share of wrong pixels is 1 - accuracy; the epoch with the fewest is the best one."""
    request = request_of(tiny_trial("segformer", epochs=2), litter, tmp_path / "0000")
    metrics = own(tmp_path, PIXELS, "share_wrong")
    rows = train(replace(request, metric="share_wrong", mode="min", own_metrics=metrics))
    for row in rows:
        assert row["share_wrong"] == pytest.approx(1 - row["accuracy"], abs=1e-12)
    kept = torch.load(TrialFiles(request.directory).best, weights_only=True)["meta"]
    assert kept["scores"]["share_wrong"] == min(row["share_wrong"] for row in rows)


def test_one_that_fails_ends_the_trial_with_file_and_line(
    litter: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    request_of: Callable[..., TrialRequest],
    follow: Callable[..., tuple[list[dict[str, float]], object]],
    tmp_path: Path,
) -> None:
    """Its first call gives NaN: an epoch without a score, after which the trial goes on."""
    request = request_of(tiny_trial("segformer", epochs=3), litter, tmp_path / "0000")
    request = replace(request, metric="late", own_metrics=own(tmp_path, SECOND_EPOCH, "late"))
    log = request.directory / "train.log"
    rows, ended = follow(start_child("trainables.trial:train", request, log))
    assert [math.isnan(row["late"]) for row in rows] == [True]
    assert ended.kind == "crashed"  # type: ignore[attr-defined]
    told = f"{tmp_path}/my_metric.py:7: expected a metric that returns, but got ValueError: a second time. Correct it"
    assert ended.reason == told  # type: ignore[attr-defined]
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("images", [3, 4])
def test_two_processes_gather_all_label_maps_for_it(
    images: int,
    litter: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There are 3 images. Where it fails, the other process, which waits for the scores, ends as well."""
    rows: list[EpochScores] = []
    monkeypatch.setattr(ray_trainable, "report", lambda files, row: rows.append(row))
    text = PIXELS.replace("return wrong", f"assert len(truths) == {images}\n    return wrong")
    context = TrialContext(
        litter,
        tmp_path,
        "share_wrong",
        "min",
        7,
        threads=1,
        loader_workers=0,
        max_failures=0,
        processes=2,
        own_metrics=own(tmp_path, text, "share_wrong"),
    )
    trial = tiny_trial("segmenter", epochs=1)
    trial = replace(trial, model=ModelChoice("segmenter", "vit-t", init="none", width=0.25, head_width=0.125))
    ended = run_to_outcome({"number": 0, "trial": trial.to_dict()}, context, TrialFiles(tmp_path / "0000"))
    if images == 3:
        assert ended.kind == "completed", ended.reason
        assert rows[0].scores["share_wrong"] == pytest.approx(1 - rows[0].scores["accuracy"], abs=1e-12)
    else:
        assert (ended.kind, rows) == ("crashed", [])
        assert "my_metric.py:7: expected a metric that returns, but got AssertionError" in ended.reason
