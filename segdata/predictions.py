"""Prediction sets: what a model or an ensemble predicted for a list of images, as a folder.

    meta.json                     task, classes, where it comes from, every image that was predicted
    instances.json                instance: COCO results (image_id, category_id, bbox xywh, score, RLE), one a line
    instances_index.json          instance: where each image's results lie in instances.json, in bytes
    probabilities/<stem>.npz      semantic, codec prob8: `prob`, uint8 (C, ceil(H/stride), ceil(W/stride)), 255 = 1.0
    labels/<stem>.png             semantic, codec labels: uint8 (H, W), pixel = index into `classes`

It is the only thing that ensembling, scoring, pseudo labels and the viewer read. An image that is not listed in
`meta.json` was not predicted, and asking for it is an error; a listed image without results is empty.
"""

from segdata.prediction_meta import ImageInstances, PredictedImage, PredictionMeta
from segdata.prediction_reader import PredictionSet
from segdata.prediction_writer import PredictionWriter
from segdata.truth import truth_as_predictions

__all__ = [
    "ImageInstances",
    "PredictedImage",
    "PredictionMeta",
    "PredictionSet",
    "PredictionWriter",
    "truth_as_predictions",
]
