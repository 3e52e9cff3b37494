"""The evaluators inside training score boundaries where the sweep asks for it, and else do not take the time."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from segdata.coco import read_coco, rle_of
from segdata.labelmaps import read_label_map, read_labels, write_classes, write_label_map
from segdata.predictions import PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segscore import score_predictions
from trainables.description import DataDescription
from trainables.evaluators import InstanceEvaluator, SemanticEvaluator, evaluator_config


def test_masks_are_scored_by_their_outlines_too(particles: DataDescription) -> None:
    assert particles.val.annotations is not None
    truth = read_coco(particles.val.annotations)
    sizes = {image.id: (image.height, image.width) for image in truth.images}
    found = [
        {
            "image_id": obj.image_id,
            "category_id": obj.category_id,
            "bbox": list(obj.bbox_xywh),
            "score": 1.0,
            "segmentation": rle_of(obj, *sizes[obj.image_id]).to_coco(),
        }
        for obj in truth.objects
    ]
    annotations = str(particles.val.annotations)
    scores = InstanceEvaluator(annotations, boundaries=True).compute_metrics([found])
    assert scores["boundary_AP"] == scores["boundary_AP_50"] == scores["segm_mAP"] == 1.0
    assert "boundary_AP" not in InstanceEvaluator(annotations).compute_metrics([found])


def validated(labels: Path, images: Path, found: dict[str, np.ndarray], **options: Any) -> dict[str, float]:
    """What the evaluator says when a model predicts these label maps."""
    evaluator = SemanticEvaluator(str(labels), **options)
    samples = [
        {"img_path": str(images / f"{stem}.png"), "pred_sem_seg": {"data": torch.from_numpy(label_HW[None])}}
        for stem, label_HW in found.items()
    ]
    evaluator.process(None, samples)
    return evaluator.compute_metrics(evaluator.results)


def test_label_maps_score_in_training_as_in_a_prediction_set(litter: DataDescription, tmp_path: Path) -> None:
    assert litter.val.labels is not None and litter.val.images is not None
    truth = read_labels(litter.val.images, litter.val.labels)
    found = {}
    meta = PredictionMeta(
        task="semantic", classes=truth.classes, dataset_fingerprint="0", code_version="0", codec="labels"
    )
    with PredictionWriter(tmp_path / "found", meta) as writer:
        for number, image in enumerate(truth.images):
            true_HW = read_label_map(image.label_path)
            shifted_HW = np.roll(np.where(true_HW == truth.ignore_index, 0, true_HW), 3, axis=1).astype(np.uint8)
            found[Path(image.name).stem] = shifted_HW
            record = PredictedImage(id=number, file_name=image.name, width=image.width, height=image.height)
            writer.add_labels(record, shifted_HW)
    scores = validated(litter.val.labels, litter.val.images, found, boundaries=True)
    assert scores == score_predictions(truth, PredictionSet.open(tmp_path / "found"), boundaries=True)
    assert 0 < scores["boundary_IoU"] < scores["mIoU"] < 1
    assert "boundary_IoU" not in validated(litter.val.labels, litter.val.images, found)


def test_an_image_of_one_colour_has_the_images_edge_for_its_boundary(tmp_path: Path) -> None:
    write_classes(tmp_path, ("background", "bag"))
    write_label_map(np.zeros((50, 50), np.uint8), tmp_path / "a.png")
    found = np.zeros((50, 50), np.uint8)
    found[0] = 1  # of the edge's 50^2 - 48^2 = 196 pixels, and of the next row's 48 that now border on another class
    scores = validated(tmp_path, tmp_path, {"a": found}, boundaries=True)
    assert scores["boundary_IoU"] == (146 / (196 + 48)) / 2


def test_only_a_sweep_that_names_boundaries_has_them_scored(litter: DataDescription) -> None:
    assert evaluator_config(litter, {}, boundaries=True)["boundaries"] is True
    assert "boundaries" not in evaluator_config(litter, {})
