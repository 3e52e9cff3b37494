"""What each image adds to the scores, so that scores of any resample of the images need no mask again.

Average precision is no sum over images: of instances the matches are kept, and the curves are drawn anew for each
resample. Of label maps each image's counts of pixels are kept.

Legend: B resamples, N images, C classes, T IoU thresholds, K classes, A area ranges. May import numpy and this package.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from segscore.instances import MEANS, Kind, mean_of_class
from segscore.matching import Matches
from segscore.metrics import METRICS, of_class
from segscore.precision import average_precisions
from segscore.semantic import iou_of_counts, mean_of_present

__all__ = ["InstanceSample", "Sample", "SemanticSample"]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Sample(Protocol):
    """The images of a scored data set."""

    @property
    def num_images(self) -> int:
        """How many images there are."""

    def metrics(self, weight_BN: Floats) -> dict[str, Floats]:
        """Returns each metric of each resample, (B,), where an image counts as often as its weight, a whole number."""

    def beside(self, other: Self) -> Self:
        """Returns both as one data set, in which the other's images follow these."""


@dataclass(frozen=True, slots=True)
class InstanceSample:
    """Matches by one kind of overlap."""

    kind: Kind
    class_names: tuple[str, ...]
    matches: Matches

    @property
    def num_images(self) -> int:
        """How many images there are, in the order of their ids."""
        return self.matches.num_images

    def metrics(self, weight_BN: Floats) -> dict[str, Floats]:
        """Returns average precisions by name; classes without an object in a resample are not in its mean."""
        ap_BTKA = average_precisions(self.matches, weight_BN)
        rows = {name: metric for name, metric in METRICS.items() if metric.kind == self.kind}
        values = {name: MEANS[metric.attribute](ap_BTKA) for name, metric in rows.items()}
        classes = enumerate(self.class_names)
        return values | {of_class(self.kind, name): mean_of_class(ap_BTKA, index) for index, name in classes}

    def beside(self, other: Self) -> Self:
        """Returns both as one data set."""
        return type(self)(self.kind, self.class_names, self.matches.beside(other.matches))


@dataclass(frozen=True, slots=True)
class SemanticSample:
    """Counts of pixels.

    Attributes:
        class_names: By index.
        counts: int64 (N, 3, C): pixels of the class that are right, in the truth, in the prediction.
        boundaries: int64 (N, 3, C): likewise of each class's boundary; see `boundary_counts`. None = not counted.
    """

    class_names: tuple[str, ...]
    counts: Counts
    boundaries: Counts | None = None

    @property
    def num_images(self) -> int:
        """How many images there are, in the data set's order."""
        return len(self.counts)

    @property
    def image_mious(self) -> Floats:
        """Each image's mean IoU over the classes in its truth or prediction, (N,); NaN where all is ignored."""
        return np.array([mean_of_present(iou_C) for iou_C in iou_of_counts(self.counts)])

    def miou_per_batch(self, batch: int) -> float:
        """Mean over batches of the mean IoU counted over each batch, NaN where no batch has a pixel that counts.

        Images are batched in their order; the last batch may be smaller. This is the validation score that the
        litter-solo report found to be far from the leaderboard's ("ver.1"); `mIoU` is its "ver.2", `mIoU_per_image`
        its "ver.3".
        """
        starts = range(0, self.num_images, batch)
        sums = [self.counts[start : start + batch].sum(axis=0) for start in starts]
        return mean_of_present(np.array([mean_of_present(iou_of_counts(total_3C)) for total_3C in sums]))

    def metrics(self, weight_BN: Floats) -> dict[str, Floats]:
        """Returns the ratios of weighted counts by name."""
        total_B3C = np.einsum("bn,nkc->bkc", weight_BN, self.counts)
        iou_BC, of_images = iou_of_counts(total_B3C), self.image_mious
        present = ~np.isnan(of_images)
        shared_B, pixels_B = total_B3C[:, 0].sum(axis=-1), total_B3C[:, 1].sum(axis=-1)
        values = {
            "mIoU": _row_means(iou_BC),
            "mIoU_per_image": _ratio(weight_BN[:, present] @ of_images[present], weight_BN[:, present].sum(axis=-1)),
            "accuracy": _ratio(shared_B, pixels_B),
        }
        if self.boundaries is not None:
            edges_B3C = np.einsum("bn,nkc->bkc", weight_BN, self.boundaries)
            values["boundary_IoU"] = _row_means(iou_of_counts(edges_B3C))
        return values | {of_class(None, name): iou_BC[:, index] for index, name in enumerate(self.class_names)}

    def beside(self, other: Self) -> Self:
        """Returns both as one data set."""
        edges = [sample.boundaries for sample in (self, other) if sample.boundaries is not None]
        counts = np.concatenate((self.counts, other.counts))
        return type(self)(self.class_names, counts, np.concatenate(edges) if len(edges) == 2 else None)


def _ratio(part_B: Floats, whole_B: Floats) -> Floats:
    ratio = np.full(len(part_B), np.nan)
    np.divide(part_B, whole_B, out=ratio, where=whole_B > 0)
    return ratio


def _row_means(values_BC: Floats) -> Floats:
    """Mean of each row's values that are not NaN."""
    present = ~np.isnan(values_BC)
    return _ratio(np.where(present, values_BC, 0.0).sum(axis=-1), present.sum(axis=-1).astype(np.float64))
