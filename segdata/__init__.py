"""Labelled images and predictions as files: COCO, label maps, importers, splits, checks, prediction sets.

The ground floor: imports nothing of ours, and neither torch nor ray nor an mm* package.
"""

from segdata.coco import read_coco, write_coco
from segdata.dataset_folder import DatasetFolder, open_dataset_folder
from segdata.dataset_split import Shares, split_instances, split_semantic
from segdata.defects import Defect, find_defects, find_leaks
from segdata.errors import DatasetError, InputError, SegsweepError
from segdata.fingerprint import instance_fingerprint, semantic_fingerprint
from segdata.importers import ImportReport, import_label_maps, import_mask_folders
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord, mask_of, rle_of
from segdata.labelmaps import LabelledImage, SemanticDataset, coco_to_labelmaps, read_label_map, read_labels
from segdata.predictions import (
    ImageInstances,
    PredictedImage,
    PredictionMeta,
    PredictionSet,
    PredictionWriter,
    truth_as_predictions,
)
from segdata.rle import Rle, rle_decode, rle_encode
from segdata.splits import Fold, Split, make_split, read_split, write_split
from segdata.statistics import ObjectStatistics, PixelStatistics, object_statistics, pixel_statistics
from segdata.synthetic import synthesize

__all__ = [
    "Category",
    "DatasetError",
    "DatasetFolder",
    "Defect",
    "Fold",
    "ImageInstances",
    "ImageRecord",
    "ImportReport",
    "InputError",
    "InstanceDataset",
    "LabelledImage",
    "ObjectRecord",
    "ObjectStatistics",
    "PixelStatistics",
    "PredictedImage",
    "PredictionMeta",
    "PredictionSet",
    "PredictionWriter",
    "Rle",
    "SegsweepError",
    "SemanticDataset",
    "Shares",
    "Split",
    "coco_to_labelmaps",
    "find_defects",
    "find_leaks",
    "import_label_maps",
    "import_mask_folders",
    "instance_fingerprint",
    "make_split",
    "mask_of",
    "object_statistics",
    "open_dataset_folder",
    "pixel_statistics",
    "read_coco",
    "read_label_map",
    "read_labels",
    "read_split",
    "rle_decode",
    "rle_encode",
    "rle_of",
    "semantic_fingerprint",
    "split_instances",
    "split_semantic",
    "synthesize",
    "truth_as_predictions",
    "write_coco",
    "write_split",
]
