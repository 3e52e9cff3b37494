"""What a data set is like, in plain numbers: the baseline's anchors, input size and limits are fitted to them."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdata.errors import DatasetError
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset, read_label_map

__all__ = ["ObjectStatistics", "PixelStatistics", "object_statistics", "pixel_statistics"]


@dataclass(frozen=True, slots=True)
class ObjectStatistics:
    """Counts, and sizes in pixels; an object's size is the square root of its area. Crowd regions do not count.

    Without objects the sizes are NaN; images without objects count in `objects_per_image_median`.
    """

    images: int
    objects: int
    objects_per_image_median: float
    objects_per_image_max: int
    object_size_px_p10: float
    object_size_px_p50: float
    object_size_px_p90: float
    image_width_median: float
    image_height_median: float
    image_width_max: int
    image_height_max: int
    annotated_images: int | None = None  # with an object or a crowd region, which training keeps; None = all
    class_counts: tuple[int, ...] = ()  # objects of each class, in the order of category ids; () = not counted


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """Share of each class in the labelled pixels (they add up to 1; NaN when no pixel is labelled), and image sizes."""

    class_frequencies: tuple[float, ...]
    images: int
    image_width_median: float
    image_height_median: float
    image_width_max: int
    image_height_max: int


def object_statistics(dataset: InstanceDataset) -> ObjectStatistics:
    """Counts and measures an instance data set by the areas in its records.

    Raises:
        DatasetError: if it has no images.
    """
    widths, heights = _sizes([(image.width, image.height) for image in dataset.images])
    areas = np.array([obj.area_px for obj in dataset.objects if not obj.is_crowd], dtype=np.float64)
    counts = [sum(not obj.is_crowd for obj in dataset.objects_of(image.id)) for image in dataset.images]
    sizes = np.sqrt(np.maximum(areas, 0))
    p10, p50, p90 = (float(p) for p in np.percentile(sizes, (10, 50, 90))) if len(sizes) else (math.nan,) * 3
    return ObjectStatistics(
        images=len(dataset.images),
        objects=len(areas),
        objects_per_image_median=float(np.median(counts)),
        objects_per_image_max=max(counts),
        object_size_px_p10=p10,
        object_size_px_p50=p50,
        object_size_px_p90=p90,
        image_width_median=float(np.median(widths)),
        image_height_median=float(np.median(heights)),
        image_width_max=int(widths.max()),
        image_height_max=int(heights.max()),
        annotated_images=sum(bool(dataset.objects_of(image.id)) for image in dataset.images),
        class_counts=_class_counts(dataset),
    )


def _class_counts(dataset: InstanceDataset) -> tuple[int, ...]:
    counts = Counter(obj.category_id for obj in dataset.objects if not obj.is_crowd)
    return tuple(counts[category_id] for category_id in dataset.category_ids)


def pixel_statistics(dataset: SemanticDataset) -> PixelStatistics:
    """Reads every label map and counts its pixels.

    Raises:
        DatasetError: if there are no images, or a pixel is neither a class index nor the ignore index.
    """
    widths, heights = _sizes([(image.width, image.height) for image in dataset.images])
    counts = np.zeros(256, dtype=np.int64)
    for image in dataset.images:
        found = np.bincount(read_label_map(image.label_path).ravel(), minlength=256)
        unknown = [value for value in np.flatnonzero(found) if len(dataset.classes) <= value != dataset.ignore_index]
        if unknown:
            raise DatasetError.of(
                f"expected pixels from 0 to {len(dataset.classes) - 1} or {dataset.ignore_index}, "
                f"but got {', '.join(map(str, unknown[:5]))}",
                where=image.label_path,
                cure="Add the class to classes.json or correct the label map.",
            )
        counts += found
    labelled = counts[: len(dataset.classes)]
    total = int(labelled.sum())
    return PixelStatistics(
        class_frequencies=tuple(int(count) / total if total else math.nan for count in labelled),
        images=len(dataset.images),
        image_width_median=float(np.median(widths)),
        image_height_median=float(np.median(heights)),
        image_width_max=int(widths.max()),
        image_height_max=int(heights.max()),
    )


def _sizes(sizes: list[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if not sizes:
        raise DatasetError("expected a data set with images, but got none. Check the annotations or the split.")
    widths, heights = np.array(sizes, dtype=np.int64).T
    return widths, heights
