"""The truth written as a prediction set: what perfect predictions look like."""

import numpy as np
from PIL import Image

from segdata.coco import read_coco, rle_of
from segdata.labelmaps import coco_to_labelmaps, read_label_map, read_labels, write_classes
from segdata.predictions import PredictionSet, truth_as_predictions


def test_the_truth_of_label_maps_is_written_with_ignored_pixels_as_background(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir(), labels.mkdir()
    Image.new("RGB", (3, 2)).save(images / "a.png")
    write_classes(labels, ["background", "can"])
    Image.fromarray(np.array([[0, 1, 255], [1, 1, 0]], dtype=np.uint8)).save(labels / "a.png")
    found = PredictionSet.open(truth_as_predictions(read_labels(images, labels), tmp_path / "p"))
    np.testing.assert_array_equal(found.labels("a.png"), [[0, 1, 0], [1, 1, 0]])


def test_the_truth_of_real_objects_comes_back_as_the_same_masks(real_data, tmp_path):
    dataset = read_coco(real_data / "trashbags" / "valid.json")
    found = PredictionSet.open(truth_as_predictions(dataset, tmp_path / "p"))
    for image in dataset.images:
        expected = tuple(rle_of(obj, image.height, image.width) for obj in dataset.objects_of(image.id))
        instances_found = found.instances(image.file_name)
        assert instances_found.rles == expected
        assert (instances_found.confidences == 1).all()
    assert sum(len(found.instances(image.file_name)) for image in dataset.images) == 126


def test_the_truth_has_the_labelled_boxes_and_leaves_out_what_covers_no_pixel(real_data, tmp_path):
    dataset = read_coco(real_data / "trashbags" / "train.json")
    found = PredictionSet.open(truth_as_predictions(dataset, tmp_path / "p"))
    boxes_xyxy = [found.instances(image.file_name).boxes_xyxy for image in dataset.images]
    empty = {25, 271}
    expected = [obj.bbox_xywh for i in dataset.images for obj in dataset.objects_of(i.id) if obj.id not in empty]
    boxes = np.concatenate(boxes_xyxy).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    np.testing.assert_allclose(boxes, expected, atol=1e-4)


def test_the_truth_of_real_label_maps_comes_back_as_the_same_pixels(real_data, tmp_path):
    dataset = read_coco(real_data / "trashbags" / "valid.json")
    coco_to_labelmaps(dataset, tmp_path / "labels")
    labelled = read_labels(real_data / "trashbags" / "valid", tmp_path / "labels")
    found = PredictionSet.open(truth_as_predictions(labelled, tmp_path / "p"))
    for image in labelled.images[:5]:
        np.testing.assert_array_equal(found.labels(image.name), read_label_map(image.label_path))
