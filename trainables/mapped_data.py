"""MMDetection's COCO data set over annotations that all processes of a node share, for the live config of a trial.

`shared_annotations` puts it in the place of `CocoDataset`, whose samples, order and classes it gives exactly; what a
trial exports keeps the stock one. Semantic data sets stay as they are: their labels lie in files, image by image, and
what a process holds of them is a list of paths.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mmdet.datasets import CocoDataset
from mmengine.dataset import force_full_init
from mmengine.registry import DATASETS

from segdata.coco_records import CocoRecords

__all__ = ["MappedCocoDataset", "shared_annotations"]

LOADERS = ("train_dataloader", "val_dataloader")


def shared_annotations(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the loaders of a config with their COCO data sets, wrapped ones too, in the form that shares."""
    DATASETS.register_module(module=MappedCocoDataset, force=True)
    loaders = {name: config[name] for name in LOADERS if config.get(name)}
    return {name: loader | {"dataset": shared(loader["dataset"])} for name, loader in loaders.items()}


def shared(dataset: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a data set, or of the wrapper of one."""
    if dataset["type"] == CocoDataset.__name__ and not dataset.get("proposal_file"):
        return dataset | {"type": MappedCocoDataset.__name__}
    if isinstance(dataset.get("dataset"), dict):
        return dataset | {"dataset": shared(dataset["dataset"])}
    return dataset


class MappedCocoDataset(CocoDataset):
    """The stock COCO data set, whose process holds numbers of images and reads an image's entries when it is asked."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **{**others, "serialize_data": False})

    def load_data_list(self) -> npt.NDArray[np.int64]:
        """Opens the annotations and returns the numbers of all images."""
        self.records = CocoRecords(Path(self.ann_file))
        categories, wanted = self.records.categories, self.metainfo["classes"]
        self.cat_ids = [category.id for category in categories if category.name in wanted]
        self.cat2label = {category_id: label for label, category_id in enumerate(self.cat_ids)}
        self.labels = [self.cat2label.get(category.id) for category in categories]
        return np.arange(len(self.records))

    def filter_data(self) -> npt.NDArray[np.int64]:
        """Returns the numbers of those images that the stock data set would keep."""
        numbers: npt.NDArray[np.int64] = self.data_list
        if self.test_mode or self.filter_cfg is None:
            return numbers
        kept = self.records.side_px() >= self.filter_cfg.get("min_size", 0)
        if self.filter_cfg.get("filter_empty_gt", False):
            kept &= self.records.holds(self.cat_ids)
        return np.asarray(numbers[kept])

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a sample as the stock data set does."""
        image, instances = self.records.sample(int(self.data_list[idx]))
        entry = {"file_name": image.file_name, "img_id": image.id, "height": image.height, "width": image.width}
        info: dict[str, Any] = self.parse_data_info({"raw_img_info": entry, "raw_ann_info": []})
        if len(self.cat_ids) < len(self.labels):
            instances = [one | {"bbox_label": self.labels[one["bbox_label"]]} for one in instances]
            instances = [one for one in instances if one["bbox_label"] is not None]
        return info | {"instances": instances, "sample_idx": idx if idx >= 0 else len(self) + idx}
