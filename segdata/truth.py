"""The truth itself as a prediction set: what a perfect model would have written.

Scored by the same evaluator it must give 1.0, which checks labels, limits and evaluator at once.
"""

from pathlib import Path

import numpy as np

from segdata.fingerprint import instance_fingerprint, semantic_fingerprint
from segdata.instances import ImageRecord, InstanceDataset, rle_of
from segdata.labelmaps import SemanticDataset, read_label_map
from segdata.prediction_meta import ImageInstances, PredictedImage, PredictionMeta
from segdata.prediction_writer import PredictionWriter
from segdata.rle import rle_area

__all__ = ["truth_as_predictions"]

_CODE_VERSION = "truth"


def truth_as_predictions(dataset: InstanceDataset | SemanticDataset, path: Path, images: Path | None = None) -> Path:
    """Writes the labels as predictions with confidence 1.0, and returns `path`.

    Left out are crowd regions, and objects without a pixel, which nothing can match. Ignored pixels become class 0,
    since a prediction has none.

    Args:
        dataset: Objects or label maps.
        path: The folder to write.
        images: The images folder of an instance data set, for the fingerprint; None as in `instance_fingerprint`.

    Raises:
        InputError: if `path` exists and is not empty.
        DatasetError: if a label file can't be read.
    """
    if isinstance(dataset, InstanceDataset):
        return _objects(dataset, path, instance_fingerprint(dataset, images))
    return _label_maps(dataset, path)


def _objects(dataset: InstanceDataset, path: Path, fingerprint: str) -> Path:
    meta = PredictionMeta(
        task="instance",
        classes=dataset.class_names,
        category_ids=dataset.category_ids,
        dataset_fingerprint=fingerprint,
        code_version=_CODE_VERSION,
        codec="coco-rle",
    )
    with PredictionWriter(path, meta) as writer:
        for image in dataset.images:
            record = PredictedImage(id=image.id, file_name=image.file_name, width=image.width, height=image.height)
            writer.add_instances(record, _instances_of(dataset, image))
    return path


def _instances_of(dataset: InstanceDataset, image: ImageRecord) -> ImageInstances:
    index_of = {category_id: index for index, category_id in enumerate(dataset.category_ids)}
    objects = [obj for obj in dataset.objects_of(image.id) if not obj.is_crowd]
    drawn = [(obj, rle_of(obj, image.height, image.width)) for obj in objects]
    seen = [(obj, rle) for obj, rle in drawn if rle_area(rle)]
    boxes = np.array([obj.bbox_xywh for obj, _ in seen], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = [index_of[obj.category_id] for obj, _ in seen]
    return ImageInstances.of(boxes, np.ones(len(seen)), classes, tuple(rle for _, rle in seen))


def _label_maps(dataset: SemanticDataset, path: Path) -> Path:
    meta = PredictionMeta(
        task="semantic",
        classes=dataset.classes,
        dataset_fingerprint=semantic_fingerprint(dataset),
        code_version=_CODE_VERSION,
        codec="labels",
    )
    with PredictionWriter(path, meta) as writer:
        for number, image in enumerate(dataset.images, start=1):
            label_HW = read_label_map(image.label_path)
            record = PredictedImage(id=number, file_name=image.name, width=image.width, height=image.height)
            writer.add_labels(record, np.where(label_HW == dataset.ignore_index, 0, label_HW).astype(np.uint8))
    return path
