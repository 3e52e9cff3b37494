"""The truth itself, written as a prediction set, scores 1.0 on every real data set: no limit caps a perfect model."""

import pytest

from segdata.coco import read_coco
from segdata.importers import import_label_maps, import_mask_folders
from segdata.labelmaps import coco_to_labelmaps, read_labels
from segdata.predictions import PredictionSet, truth_as_predictions
from segscore.metrics import score_predictions

pytestmark = pytest.mark.slow


def scores_of_truth(truth, folder):
    return score_predictions(truth, PredictionSet.open(truth_as_predictions(truth, folder)))


def imported(name, real_data, out):
    if name.startswith("nuclei"):
        import_mask_folders(real_data / "nuclei_24_6" / name.split("-")[1], out, class_name="nucleus")
    else:
        raw = real_data / "particles_80" / name.split("-")[1]
        import_label_maps(raw / "images", raw / "labels", out, class_name="particle")
    return read_coco(out / "annotations.json")


@pytest.mark.parametrize("name", ["nuclei-train", "nuclei-test", "particles-train", "particles-test"])
def test_imported_instances_score_one(name, real_data, tmp_path):
    scores = scores_of_truth(imported(name, real_data, tmp_path / "data"), tmp_path / "truth")
    assert scores["segm_mAP"] == 1.0
    assert scores["bbox_mAP"] == 1.0


@pytest.mark.parametrize("part", ["train", "valid"])
def test_rubbish_bags_score_one_for_both_tasks(part, real_data, tmp_path):
    folder = real_data / "trashbags"
    truth = read_coco(folder / f"{part}.json")
    assert scores_of_truth(truth, tmp_path / "instances")["segm_mAP"] == 1.0
    labels = coco_to_labelmaps(truth, tmp_path / "labels")
    scores = scores_of_truth(read_labels(folder / part, labels), tmp_path / "semantic")
    assert scores["mIoU"] == 1.0
    assert scores["mIoU_per_image"] == 1.0
