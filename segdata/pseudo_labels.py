"""Pseudo labels: what a model or an ensemble is sure of, as a data set to train on.

    out/images/            the images, as further names of the same files (copies where that can't be)
    out/annotations.json   of an instance set: its sure objects
    out/labels/            of a semantic set: label maps and classes.json
    out/pseudo_labels.json where the labels come from, by which rules, and what was left out

May import numpy and this package.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from segdata.atomic import link_or_copy, new_folder, refuse_existing, write_text
from segdata.coco import write_coco
from segdata.dataset_folder import ANNOTATIONS, IMAGES, LABELS
from segdata.errors import DatasetError, InputError
from segdata.images import content_hash, image_size
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import IGNORE_INDEX, LabelMap, write_classes, write_label_map
from segdata.prediction_meta import PredictedImage
from segdata.prediction_reader import PredictionSet
from segdata.rle import rle_area, rle_bbox
from segdata.sound_predictions import sound_instances, sound_labels

__all__ = ["PROVENANCE_FILE", "PseudoLabels", "SureObjects", "SurePixels", "overlapping", "write_pseudo_labels"]

PROVENANCE_FILE = "pseudo_labels.json"
OnImage = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SureObjects:
    """Which objects of an instance set become labels.

    Attributes:
        min_confidence: Objects below it are left out, 0 to 1. What is left out is background to whoever trains.
        keep_empty: Whether images without an object are kept, as images of background.
    """

    min_confidence: float = 0.5
    keep_empty: bool = False

    def __post_init__(self) -> None:
        """Refuses values out of range.

        Raises:
            InputError: Naming the option.
        """
        _require_share(self.min_confidence, "--min-confidence")


@dataclass(frozen=True, slots=True)
class SurePixels:
    """Which pixels and images of a semantic set become labels; a pixel's confidence is its largest probability.

    Attributes:
        min_confidence: Pixels below it become `below`, 0 to 1; None = all stay.
        below: Background, or ignored (255).
        unsure: An image is dropped if more than `max_unsure` of its foreground pixels have at most this confidence.
        max_unsure: That share, 0 to 1; 1 drops none.
        background: The class that is no foreground.
        keep_empty: Whether images without foreground are kept.
    """

    min_confidence: float | None = None
    below: Literal["background", "ignored"] = "background"
    unsure: float = 0.8
    max_unsure: float = 0.1
    background: str = "background"
    keep_empty: bool = False

    def __post_init__(self) -> None:
        """Refuses values out of range.

        Raises:
            InputError: Naming the option.
        """
        for option, value in (("--min-confidence", self.min_confidence), ("--unsure", self.unsure)):
            if value is not None:
                _require_share(value, option)
        _require_share(self.max_unsure, "--max-unsure")
        if self.below not in ("background", "ignored"):
            raise InputError.of(
                f"expected background or ignored, but got {self.below!r}", where="--below", cure="Choose one."
            )

    @property
    def needs_probabilities(self) -> bool:
        """Whether labels alone don't do."""
        return self.min_confidence is not None or self.max_unsure < 1


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """What was written; `dropped` is image -> reason, `labels` counts objects or foreground pixels."""

    kept: int
    dropped: dict[str, str]
    labels: int


def write_pseudo_labels(
    predictions: PredictionSet,
    images: Path,
    out: Path,
    rules: SureObjects | SurePixels,
    on_image: OnImage | None = None,
) -> PseudoLabels:
    """Writes a data set folder with the sure predictions as its labels.

    Args:
        predictions: Of the images.
        images: Their folder.
        out: The folder to write.
        rules: `SureObjects` for an instance set, `SurePixels` for a semantic one.
        on_image: Called after each image with (done, total).

    Raises:
        InputError: `out` is not empty, no image is kept, the set holds labels only where confidences are asked for, or
            the background is none of its classes.
        DatasetError: An image is missing or of another size than was predicted, or the set is broken.
    """
    refuse_existing(out)
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        if isinstance(rules, SureObjects):
            written = _write_objects(predictions, images, folder, rules, on_image)
        else:
            written = _write_labels(predictions, images, folder, rules, on_image)
        if not written.kept:
            raise InputError.of(
                f"expected images with sure predictions, but got none of {len(predictions.meta.images)}",
                where=predictions.path,
                cure="Ask for less by --min-confidence, --unsure or --max-unsure, or predict with a better model.",
            )
        meta = predictions.meta
        origin = {
            "predictions": str(predictions.path.absolute()),
            "trial": meta.trial,
            "config_hash": meta.config_hash,
            "dataset_fingerprint": meta.dataset_fingerprint,
            "code_version": meta.code_version,
            "confidence_threshold": meta.confidence_threshold,
            "rules": asdict(rules),
        }
        write_text(folder / PROVENANCE_FILE, json.dumps(origin | asdict(written), indent=2) + "\n")
    return written


def overlapping(folder: Path, others: Iterable[Path]) -> tuple[str, ...]:
    """Names the images of a folder, deeper ones too, that have the same bytes as one of `others` (files)."""
    mine = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.stat().st_size for path in mine}
    hashes = {content_hash(path) for path in others if path.stat().st_size in sizes}
    return tuple(str(path.relative_to(folder)) for path in mine if hashes and content_hash(path) in hashes)


def _write_objects(
    predictions: PredictionSet, images: Path, folder: Path, rules: SureObjects, on_image: OnImage | None
) -> PseudoLabels:
    meta = predictions.meta
    kept: list[ImageRecord] = []
    objects: list[ObjectRecord] = []
    dropped: dict[str, str] = {}
    for done, image in enumerate(meta.images, start=1):
        found = sound_instances(predictions, image.file_name)
        sure = np.flatnonzero(found.confidences >= np.float32(rules.min_confidence)).tolist()
        seen = [index for index in sure if rle_area(found.rles[index])]
        if seen or rules.keep_empty:
            _link_image(image, images, folder / IMAGES / image.file_name)
            kept.append(ImageRecord(image.id, image.file_name, image.width, image.height))
        else:
            dropped[image.file_name] = f"no object with confidence {rules.min_confidence:g} or more"
        for index in seen:
            rle = found.rles[index]
            category_id = meta.category_ids[int(found.classes[index])]
            area, box = float(rle_area(rle)), rle_bbox(rle)
            objects.append(ObjectRecord(len(objects) + 1, image.id, category_id, rle, box, area, is_crowd=False))
        _tell(on_image, done, len(meta.images))
    categories = tuple(Category(index, name) for index, name in zip(meta.category_ids, meta.classes, strict=True))
    write_coco(InstanceDataset(tuple(kept), categories, tuple(objects)), folder / ANNOTATIONS)
    return PseudoLabels(len(kept), dropped, len(objects))


def _write_labels(
    predictions: PredictionSet, images: Path, folder: Path, rules: SurePixels, on_image: OnImage | None
) -> PseudoLabels:
    meta = predictions.meta
    background = _background(predictions, rules)
    (folder / LABELS).mkdir()
    write_classes(folder / LABELS, meta.classes)
    dropped: dict[str, str] = {}
    kept, pixels = 0, 0
    for done, image in enumerate(meta.images, start=1):
        label_HW, reason = _sure_labels(predictions, image, rules, background)
        if reason is None:
            kept += 1
            pixels += int(((label_HW != background) & (label_HW != IGNORE_INDEX)).sum())
            _link_image(image, images, folder / IMAGES / PurePosixPath(image.file_name).name)
            write_label_map(label_HW, folder / LABELS / f"{Path(image.file_name).stem}.png")
        else:
            dropped[image.file_name] = reason
        _tell(on_image, done, len(meta.images))
    return PseudoLabels(kept, dropped, pixels)


def _sure_labels(
    predictions: PredictionSet, image: PredictedImage, rules: SurePixels, background: int
) -> tuple[LabelMap, str | None]:
    """Returns an image's label map, and why the image is dropped if it is; `background` -1 = there is none."""
    label_HW = sound_labels(predictions, image.file_name).copy()
    foreground_HW = label_HW != background
    if rules.needs_probabilities:
        sure_HW = predictions.probabilities(image.file_name).max(axis=0)
        unsure = np.count_nonzero(foreground_HW & (sure_HW <= np.float32(rules.unsure)))
        share = unsure / max(np.count_nonzero(foreground_HW), 1)
        if share > rules.max_unsure:
            return label_HW, f"{share:.1%} of its foreground has confidence {rules.unsure:g} or less"
        if rules.min_confidence is not None:
            low_HW = sure_HW < np.float32(rules.min_confidence)
            label_HW[low_HW] = background if rules.below == "background" else IGNORE_INDEX
    labelled = (label_HW != background) & (label_HW != IGNORE_INDEX)
    if not labelled.any() and not rules.keep_empty:
        return label_HW, "no sure foreground"
    return label_HW, None


def _background(predictions: PredictionSet, rules: SurePixels) -> int:
    """Returns the index of the background, -1 if the set has none and needs none.

    Raises:
        InputError: It is needed, or the set does not hold what the rules ask for.
    """
    meta = predictions.meta
    if rules.needs_probabilities and meta.codec != "prob8":
        raise InputError.of(
            "expected predictions with probabilities, but got labels only",
            where=predictions.path,
            cure="Predict with probabilities, or keep all pixels of all images: --max-unsure 1, no --min-confidence.",
        )
    if len(meta.classes) > IGNORE_INDEX:
        raise InputError.of(
            f"expected at most {IGNORE_INDEX} classes in 8-bit label maps, but got {len(meta.classes)}",
            where=predictions.path,
            cure="Merge some.",
        )
    if rules.background in meta.classes:
        return meta.classes.index(rules.background)
    if rules.background != SurePixels.__dataclass_fields__["background"].default or (
        rules.min_confidence is not None and rules.below == "background"
    ):
        raise InputError.of(
            f"expected one of the classes ({', '.join(meta.classes)}), but got {rules.background!r}",
            where="--background",
            cure="Name the class, or use --below ignored.",
        )
    return -1


def _link_image(image: PredictedImage, images: Path, target: Path) -> None:
    """Gives an image a second name, once its size is checked; a copy where the file system has no links."""
    place = PurePosixPath(image.file_name)
    if place.is_absolute() or ".." in place.parts:
        raise DatasetError.of(
            "expected a file name within the images folder, but got another",
            where=image.file_name,
            cure="Write the prediction set again.",
        )
    source = images / image.file_name
    width, height = image_size(source)
    if (width, height) != (image.width, image.height):
        raise DatasetError.of(
            f"expected {image.width}x{image.height} pixels as predicted, but got {width}x{height}",
            where=source,
            cure="Name the folder of the predicted images by --images.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, target)


def _require_share(value: float, option: str) -> None:
    if not 0 <= value <= 1:
        raise InputError.of(f"expected a number from 0 to 1, but got {value:g}", where=option, cure="Take 0.9, say.")


def _tell(on_image: OnImage | None, done: int, total: int) -> None:
    if on_image is not None:
        on_image(done, total)
