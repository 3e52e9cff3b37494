"""A sheet of every augmentation step on a real image with its masks drawn: `segsweep spaces show --pictures`.

The very functions that training uses draw it. Imports OpenCV, segdata and trainables' augmentation.
Letters: H, W pixels; pictures are uint8 (H, W, 3) BGR as OpenCV writes them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from search_spaces.augmentations import AUGMENTATION_STEPS, MIXING_STEPS
from search_spaces.knob import Task
from search_spaces.knobs import KNOBS
from segdata.coco import read_coco
from segdata.dataset_folder import open_dataset_folder
from segdata.errors import DatasetError
from segdata.images import read_image
from segdata.instances import InstanceDataset, mask_of
from segdata.labelmaps import SemanticDataset, read_label_map, read_labels
from segdata.splits import read_split
from segsweep.data_roles import Truth, read_truth
from segsweep.pictures import Mask, Picture, colour_of, label_path
from segsweep.sweep_file import Sweep
from trainables.augmentation.changes import changed
from trainables.augmentation.layers import ObjectLayers
from trainables.augmentation.mixing import mixed
from trainables.augmentation.sample import Sample

__all__ = ["SheetData", "augmentation_sheet", "folder_data", "sweep_data"]

COLUMNS, TILE_PX, CAPTION_PX = 6, 300, 26
LONGEST_PX = 1333  # larger images are reduced, as for training
DRAWS = 8  # of which the one that changes most is shown
TINT = 0.25
FLIP = "flip"
DETAILED = ("gauss_noise", "motion_blur", "gaussian_blur")  # seen at full size only: the middle of the image is shown


@dataclass(frozen=True)
class SheetData:
    """Labelled images to draw from: the labels, and the folder of the images."""

    truth: Truth
    images: Path

    @property
    def names(self) -> list[str]:
        """File names of the images."""
        if isinstance(self.truth, InstanceDataset):
            return [image.file_name for image in self.truth.images]
        return [image.name for image in self.truth.images]


def sweep_data(sweep: Sweep) -> SheetData:
    """Returns the training data of a sweep."""
    dataset, split = sweep.data.dataset, sweep.data.split
    if dataset is None or split is None:
        role = sweep.data.roles["train"]
        return SheetData(read_truth(role), role.images)
    return SheetData(read_truth(dataset).subset(read_split(split).folds[sweep.data.fold].train), dataset.images)


def folder_data(path: Path, task: Task | None = None) -> SheetData:
    """Returns the data of a dataset folder: its objects or label maps by the task; None = objects if it has any.

    Raises:
        DatasetError: It is no dataset folder, or has no labels of that kind.
    """
    folder = open_dataset_folder(path)
    if folder.annotations is not None and task != "semantic":
        return SheetData(read_coco(folder.annotations), folder.images)
    if folder.labels is None or task == "instance":
        kind = "label maps" if task == "semantic" else "objects"
        raise DatasetError.of(f"expected {kind}, but got none", where=path, cure="Leave out --task, or import them.")
    return SheetData(read_labels(folder.images, folder.labels), folder.images)


def augmentation_sheet(
    data: SheetData, out: Path, *, image: str | None = None, strength: float = 1.0, seed: int = 0
) -> tuple[str, tuple[str, ...]]:
    """Writes a PNG with one tile a step, the plain image first.

    Args:
        data: Labelled images.
        out: The PNG file.
        image: File name of the image to show; None = an ordinary one with labels.
        strength: As the knob `augmentation_strength`.
        seed: Of the draws.

    Returns:
        The image's name, and the steps in the order of the tiles.

    Raises:
        DatasetError: There is no such image, or none with labels.
    """
    shown = chosen_image(data, image)
    others = [name for name in data.names if name != shown] or [shown]
    rng = np.random.default_rng(seed)
    samples = [read(data, shown), *(read(data, str(name)) for name in rng.choice(others, 3))]
    task = "semantic" if samples[0].classes is None else "instance"
    steps = (FLIP, *(name for name in AUGMENTATION_STEPS if task in KNOBS[name].tasks))
    height = min(TILE_PX, round(TILE_PX * samples[0].size[0] / samples[0].size[1]))
    tiles = [tile("original", samples[0], height), tile("original, its middle", middle(samples[0], height), height)]
    for name in steps:
        drawn = flipped(samples[0]) if name == FLIP else strongest(name, samples, strength, rng)
        detail = name in DETAILED
        tiles.append(
            tile(f"{name}, its middle" if detail else name, middle(drawn, height) if detail else drawn, height)
        )
    if not cv2.imwrite(str(out), sheet(tiles)):
        raise OSError(f"{out}: could not be written")
    return shown, steps


def chosen_image(data: SheetData, image: str | None) -> str:
    """Returns the image that was asked for, else one with as many objects (or classes) as the median image."""
    if image is not None and image not in data.names:
        raise DatasetError.of(
            f"expected an image of the data, but got {image!r}", where="--image", cure=f"For example {data.names[0]}."
        )
    if image is not None:
        return image
    counts = {name: labels_in(data.truth, name) for name in data.names[:200]}
    labelled = {name: count for name, count in counts.items() if count}
    if not labelled:
        raise DatasetError.of("expected images with labels, but got none", where=data.images, cure="Check the labels.")
    ordinary = float(np.median(list(labelled.values())))
    return min(labelled, key=lambda name: abs(labelled[name] - ordinary))


def labels_in(truth: Truth, name: str) -> int:
    """Returns how many objects an image has, or how many classes beside its most frequent one."""
    if isinstance(truth, InstanceDataset):
        image = next(image for image in truth.images if image.file_name == name)
        return len(truth.objects_of(image.id))
    return len(np.unique(read_label_map(label_path(truth, name)))) - 1


def read(data: SheetData, name: str) -> Sample:
    """Reads an image with its labels, reduced to the size at which it would be trained."""
    picture = cv2.cvtColor(read_image(data.images / name), cv2.COLOR_RGB2BGR)
    factor = min(1.0, LONGEST_PX / max(picture.shape[:2]))
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    reduced = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if isinstance(data.truth, SemanticDataset):
        label_HW = read_label_map(label_path(data.truth, name))
        return Sample(reduced, cv2.resize(label_HW, size, interpolation=cv2.INTER_NEAREST_EXACT)[None])
    image = next(image for image in data.truth.images if image.file_name == name)
    objects = [obj for obj in data.truth.objects_of(image.id) if not obj.is_crowd]
    drawn = [mask_of(obj, image.height, image.width).astype(np.uint8) for obj in objects]
    masks = [cv2.resize(mask_HW, size, interpolation=cv2.INTER_NEAREST_EXACT) for mask_HW in drawn]
    layers = ObjectLayers.of(np.stack(masks) if masks else np.zeros((0, size[1], size[0]), np.uint8))
    index_of = {category_id: index for index, category_id in enumerate(data.truth.category_ids)}
    classes = np.array([index_of[obj.category_id] for obj in objects], dtype=np.int64)
    return Sample(reduced, layers.labels, classes, np.zeros(len(objects), dtype=bool))


def flipped(sample: Sample) -> Sample:
    """Returns the sample left to right, as the stock RandomFlip turns it, which training uses."""
    return replace(sample, image=sample.image[:, ::-1], labels=sample.labels[:, :, ::-1])


def strongest(name: str, samples: Sequence[Sample], strength: float, rng: np.random.Generator) -> Sample:
    """Returns the one of eight draws that changes the image most: a weak draw would show nothing."""
    taken = samples if name == "mosaic" else samples[:2]
    ground = int(np.bincount(samples[0].labels.ravel()).argmax()) if samples[0].classes is None else None
    draws = []
    for _ in range(DRAWS):
        if name in MIXING_STEPS:
            draws.append(mixed(name, taken, None, ground, rng))
        else:
            draws.append(changed(samples[0], name, 1.0, strength, rng))
    return max(draws, key=lambda draw: difference(draw, samples[0]))


def difference(one: Sample, two: Sample) -> float:
    if one.image.shape != two.image.shape:
        return np.inf
    return float(np.abs(one.image.astype(np.int16) - two.image).mean())


def middle(sample: Sample, height: int) -> Sample:
    """Returns the part in the middle that fills a tile at full size."""
    tall, wide = min(height, sample.size[0]), min(TILE_PX, sample.size[1])
    top, left = (sample.size[0] - tall) // 2, (sample.size[1] - wide) // 2
    window = np.s_[top : top + tall, left : left + wide]
    return replace(sample, image=sample.image[window], labels=sample.labels[:, *window])


def tile(title: str, sample: Sample, tile_height: int) -> Picture:
    """Returns a tile: the sample fitted into it, its labels tinted and outlined, its title above."""
    factor = min(tile_height / sample.size[0], TILE_PX / sample.size[1])
    size = (round(sample.size[1] * factor), round(sample.size[0] * factor))
    picture = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    for number, mask_HW in masks_of(sample):
        small_HW = cv2.resize(mask_HW.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
        colour = colour_of(number)
        picture[small_HW > 0] = ((1 - TINT) * picture[small_HW > 0] + TINT * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(small_HW, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, 1)
    framed = np.full((tile_height + CAPTION_PX, TILE_PX + 6, 3), 255, dtype=np.uint8)
    top, left = CAPTION_PX + (tile_height - size[1]) // 2, 3 + (TILE_PX - size[0]) // 2
    framed[top : top + size[1], left : left + size[0]] = picture
    cv2.putText(framed, title, (6, CAPTION_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return framed


def masks_of(sample: Sample) -> Iterator[tuple[int, Mask]]:
    """Yields (colour number, mask) of each object, or of each class but the ignored and 0."""
    if sample.classes is not None:
        yield from enumerate(sample.layers().masks())
        return
    for index in np.unique(sample.labels[0]):
        if index not in (0, 255):
            yield int(index), sample.labels[0] == index


def sheet(tiles: Sequence[Picture]) -> Picture:
    """Returns the tiles in rows of six."""
    blank = np.full_like(tiles[0], 255)
    filled = [*tiles, *([blank] * (-len(tiles) % COLUMNS))]
    return np.vstack([np.hstack(filled[start : start + COLUMNS]) for start in range(0, len(filled), COLUMNS)])
