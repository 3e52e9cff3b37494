"""Scores blends of label maps and class probabilities: voted image by image in memory, counted as `segscore` does.

What is tried together mostly differs in one member: what it shares is summed once an image.
Legend: C classes, P pixels, h x w the grid on which probabilities are stored. Imports numpy, `segdata`, `segscore` and
this package.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ensembling.fusion import METHODS, stored_codec
from ensembling.selection.array_store import ArrayStore
from ensembling.selection.blends import Blend
from ensembling.selection.label_kernels import count_pairs, largest_in_table
from ensembling.semantic import aligned, in_bytes, voted_bytes, voted_labels
from ensembling.vote_kernels import add, largest
from ensembling.votes import hard_vote
from ensembling.weights import member_weights, whole_votes
from segdata.errors import DatasetError
from segdata.labelmaps import LabelledImage, SemanticDataset, read_label_map
from segdata.predictions import PredictionSet
from segdata.probabilities import unpack_whole
from segscore.agreement import require_agreement
from segscore.boundaries import boundary_counts
from segscore.metrics import names_boundaries
from segscore.samples import SemanticSample
from segscore.semantic import class_counts, confusion_matrix, image_named

__all__ = ["SemanticJudge"]

Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Sums = npt.NDArray[np.uint16] | npt.NDArray[np.int32]
_STEPS = 255  # of a probability in 8 bits


class SemanticJudge:
    """Scores blends as `segscore.metrics.score_predictions` scores the prediction sets that `fuse` writes of them.

    Probabilities are rounded to 8 bits after the vote, as in a set that is written, so scores are the same.

    Args:
        sets: The candidates' prediction sets.
        truth: Label maps.
        metric: Name of a metric of label maps.
        store: Keeps the candidates' bytes.

    Raises:
        DatasetError: A candidate's classes, images or sizes are not the truth's, or a label is not one of a class.
        InputError: There is no room for the bytes.
    """

    def __init__(self, sets: Sequence[PredictionSet], truth: SemanticDataset, metric: str, store: ArrayStore) -> None:
        for predictions in sets:
            require_agreement(truth, predictions)
        self._sets, self._truth, self._metric, self._store = sets, truth, metric, store
        self._boundaries = names_boundaries([metric])
        for number, image in enumerate(truth.images):
            self._read(number, image)

    @property
    def num_images(self) -> int:
        """How many images there are, in the order of the truth."""
        return len(self._truth.images)

    def scores(self, blends: Sequence[Blend], weight_BN: Floats) -> Floats:
        """Returns (blends, B) scores, where an image counts as often as its weight; NaN where there is none."""
        counts = np.zeros((len(blends), self.num_images, 3, len(self._truth.classes)), dtype=np.int64)
        edges = np.zeros_like(counts)
        for number in range(self.num_images):
            true_HW = self._store.get(("truth", number))
            shared = _Shared(self, [blend for blend in blends if self._is_summed(blend)], number)
            for place, blend in enumerate(blends):
                label_HW = self._labels(blend, number, shared)
                counts[place, number] = self._count(true_HW, label_HW)
                if self._boundaries:
                    edges[place, number] = boundary_counts(true_HW, label_HW, *self._numbers)
        samples = [SemanticSample(self._truth.classes, *both) for both in zip(counts, edges, strict=True)]
        return np.stack([sample.metrics(weight_BN)[self._metric] for sample in samples])

    def packed(self, member: int, number: int) -> Bytes:
        """Returns a member's probabilities of an image as they are stored, uint8 (C, h, w)."""
        return self._store.get(("prob8", member, number))

    @property
    def _numbers(self) -> tuple[int, int]:
        return len(self._truth.classes), self._truth.ignore_index

    def _read(self, number: int, image: LabelledImage) -> None:
        true_HW = read_label_map(image.label_path)
        with image_named(image.name):
            confusion_matrix(true_HW, np.zeros_like(true_HW), *self._numbers)  # refuses labels of no class
        self._store.put(("truth", number), true_HW)
        for member, predictions in enumerate(self._sets):
            if predictions.meta.codec == "prob8":
                self._store.put(("prob8", member, number), predictions.packed(image.name))
                continue
            label_HW = predictions.labels(image.name)
            if (highest := int(label_HW.max())) >= len(self._truth.classes):
                raise DatasetError.of(
                    f"expected labels below {len(self._truth.classes)} in {image.name}, but got {highest}",
                    where=predictions.path,
                    cure="Predict the member again with the classes of the truth.",
                )
            self._store.put(("labels", member, number), label_HW)

    def _count(self, true_HW: Bytes, label_HW: Bytes) -> Counts:
        return class_counts(count_pairs(true_HW.reshape(-1), label_HW.reshape(-1), len(self._truth.classes)))

    def _labels(self, blend: Blend, number: int, shared: "_Shared") -> Bytes:
        """Returns the classes that the set holds which `fuse` would write, uint8 (H, W)."""
        if blend.method is None:
            return self._own_labels(blend.members[0], number)
        if self._is_summed(blend):
            return self._labels_of_sums(shared.sums(blend), sum(blend.votes), number, self._finest(blend))
        share_M = member_weights(blend.votes, len(blend.votes))
        if blend.method == "hard-vote":
            labels = [self._own_labels(member, number) for member in blend.members]
            return hard_vote(labels, len(self._truth.classes), share_M.tolist())
        stride = self._finest(blend)
        record = self._sets[0].image(self._truth.images[number].name)
        strides = [self._sets[member].meta.stride for member in blend.members]
        packed = [self.packed(member, number) for member in blend.members]
        parts = [aligned(part, record, own, stride) for part, own in zip(packed, strides, strict=True)]
        if stored_codec(METHODS[blend.method], blend.settings) == "labels":
            return voted_labels(parts, share_M, record, stride, blend.settings)
        return self._labels_of_packed(voted_bytes(parts, share_M, blend.settings), number, stride)

    def _own_labels(self, member: int, number: int) -> Bytes:
        key = ("labels", member, number)
        if key not in self._store:
            stride = self._sets[member].meta.stride
            self._store.put(key, self._labels_of_packed(self.packed(member, number), number, stride))
        return self._store.get(key)

    def _labels_of_packed(self, packed: Bytes, number: int, stride: int) -> Bytes:
        """Does as `PredictionSet.labels`."""
        image = self._truth.images[number]
        full_CHW = packed if stride == 1 else unpack_whole(packed, stride)
        label_HW = np.empty(full_CHW.shape[1:], dtype=np.uint8)
        full_CP = full_CHW.reshape(len(full_CHW), -1)
        largest(full_CP, np.empty(full_CP.shape[1], dtype=full_CP.dtype), label_HW.reshape(-1))
        return np.ascontiguousarray(label_HW[: image.height, : image.width])

    def _labels_of_sums(self, sum_CP: Sums, votes: int, number: int, stride: int) -> Bytes:
        table = _bytes_of_sums(votes, sum_CP.dtype)
        image = self._truth.images[number]
        if stride > 1:
            shape = (len(sum_CP), -(-image.height // stride), -(-image.width // stride))
            return self._labels_of_packed(table[sum_CP].reshape(shape), number, stride)
        label_HW = np.empty((image.height, image.width), dtype=np.uint8)
        largest_in_table(sum_CP, table, label_HW.reshape(-1))
        return label_HW

    def _finest(self, blend: Blend) -> int:
        return min(self._sets[member].meta.stride for member in blend.members)

    def _is_summed(self, blend: Blend) -> bool:
        """Whether the vote is a sum of whole votes x bytes on one grid."""
        if blend.method != "soft-vote" or blend.settings.mean != "arithmetic":
            return False
        if blend.settings.output == "labels" or len({self._sets[member].meta.stride for member in blend.members}) > 1:
            return False
        return _are_exact(blend.votes)


class _Shared:
    """Sums of one image's bytes; what all blends have in common is summed once."""

    def __init__(self, judge: SemanticJudge, blends: Sequence[Blend], number: int) -> None:
        self._judge, self._number = judge, number
        self._dtype = np.uint16 if all(_STEPS * sum(blend.votes) <= 0xFFFF for blend in blends) else np.int32
        weights = [dict(blend.weights) for blend in blends]
        common = set.intersection(*(set(known) for known in weights)) if weights else set()
        self._common = {member: min(known[member] for known in weights) for member in common}
        self._sum: Sums | None = self._summed(None, self._common) if self._common else None

    def sums(self, blend: Blend) -> Sums:
        """Returns the votes x bytes of a blend, (C, P)."""
        more = {member: vote - self._common.get(member, 0) for member, vote in blend.weights}
        return self._summed(self._sum, {member: vote for member, vote in more.items() if vote})

    def _summed(self, start: Sums | None, votes: dict[int, int]) -> Sums:
        total = None if start is None else start.copy()
        for member, vote in votes.items():
            packed = self._judge.packed(member, self._number)
            part_CP = packed.reshape(len(packed), -1)
            if total is None:
                total = np.zeros(part_CP.shape, dtype=self._dtype)
            add(part_CP, self._dtype(vote), 0, total)
        assert total is not None, "a blend has a member"
        return total


@lru_cache(maxsize=4096)
def _are_exact(votes: tuple[int, ...]) -> bool:
    """Whether fusing counts with these votes, not with ones in nearly the same ratios."""
    votes_M, exact = whole_votes(member_weights(votes, len(votes)))
    return exact and tuple(votes_M.tolist()) == votes


@lru_cache(maxsize=64)
def _bytes_of_sums(votes: int, dtype: npt.DTypeLike) -> Bytes:
    """Returns for each sum of whole votes x bytes the byte that `soft_vote` and rounding make of it."""
    unit = 1.0 / (float(votes) * _STEPS)
    sums = np.arange(votes * _STEPS + 1).astype(dtype)
    return in_bytes(np.multiply(sums, unit, out=np.empty(len(sums), dtype=np.float32), casting="same_kind"))
