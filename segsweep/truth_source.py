"""Where the truth of a score lies: a COCO file, a folder of label maps, or a dataset folder. Imports segdata."""

from pathlib import Path

from segdata.coco import InstanceDataset, read_coco
from segdata.dataset_folder import IMAGES, open_dataset_folder
from segdata.errors import InputError
from segdata.labelmaps import CLASSES_FILE, SemanticDataset, read_labels
from segscore.own_metric import Task

__all__ = ["read_truth"]


def read_truth(path: Path, task: Task, images: Path | None = None) -> InstanceDataset | SemanticDataset:
    """Reads the truth for predictions of a task.

    Args:
        path: A COCO JSON file; a folder of label maps with its `classes.json`; or a dataset folder, of which the labels
            of the task are taken.
        task: What the predictions are of; it decides where a dataset folder holds labels of both kinds.
        images: The images of a folder of label maps; None = `images/` beside it.

    Raises:
        InputError: There is nothing of this kind at `path`.
        DatasetError: The labels are broken.
    """
    if path.is_file():
        return read_coco(path)
    if (path / CLASSES_FILE).is_file():
        return read_labels(_images_of(path, images), path)
    if not path.is_dir():
        raise InputError.of(
            "expected a COCO JSON file, a folder of label maps, or a dataset folder, but got nothing there",
            where=path,
            cure="Name the truth of the predicted images.",
        )
    folder = open_dataset_folder(path)
    if folder.annotations is not None and (task == "instance" or folder.labels is None):
        return read_coco(folder.annotations)
    assert folder.labels is not None  # a dataset folder holds one or the other
    return read_labels(images or folder.images, folder.labels)


def _images_of(labels: Path, images: Path | None) -> Path:
    beside = labels.resolve().parent / IMAGES
    if images is None and not beside.is_dir():
        raise InputError.of(
            f"expected the images of the label maps in {beside}, but got nothing there",
            where=labels,
            cure="Name their folder by --images.",
        )
    return images or beside
