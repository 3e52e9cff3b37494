"""The step of a training pipeline that mixes several images: `MixImages`, inside a stock MultiImageMixDataset.

The data set asks which other images the step wants (MMDetection by `get_indexes`, MMSegmentation by `get_indices`),
puts them beside the image as `mix_results`, and calls the step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmcv.transforms import BaseTransform

from segdata.labelmaps import read_label_map
from trainables.augmentation.augment import new_generator
from trainables.augmentation.mixing import mixed
from trainables.augmentation.sample import IGNORED, Results, read_sample, write_sample

__all__ = ["MixImages"]


class Images(Protocol):
    """A data set of MMEngine, as far as it is used here."""

    def __len__(self) -> int: ...

    def get_data_info(self, index: int) -> dict[str, Any]: ...


class MixImages(BaseTransform):
    """Puts parts of other training images into an image, with a probability.

    Args:
        name: mosaic, copy_paste, class_mix or cut_mix.
        prob: Probability that an image is changed.
        rare: Share of the changes in which a class is drawn by one over its frequency, then an image that holds it,
            and what is pasted holds it too; otherwise all images are equally likely.
        class_frequencies: How often each class occurs, in any unit. The most frequent one is the ground of label maps:
            `copy_paste` does not paste it.
    """

    def __init__(self, name: str, prob: float, rare: float = 0.0, class_frequencies: Sequence[float] = ()) -> None:
        self.name, self.prob, self.rare = name, prob, rare
        self.frequencies = np.array(class_frequencies, dtype=np.float64)
        self.wanted: int | None = None
        self.classes_seen: dict[int, frozenset[int]] = {}  # by the index of an image in the data set

    def get_indices(self, dataset: Images) -> list[int]:
        """Draws whether the step is taken and which images it takes; none otherwise."""
        rng = new_generator()
        self.wanted = None
        if rng.random() >= self.prob:
            return []
        if self.name == "mosaic":
            return [int(index) for index in rng.integers(len(dataset), size=3)]
        if rng.random() < self.rare:
            self.wanted = self.rare_class(rng)
        return [self.find_image(dataset, rng)]

    get_indexes = get_indices

    def find_image(self, dataset: Images, rng: np.random.Generator) -> int:
        """Draws an image, one of those that hold the wanted class; of all, if none does.

        Images are looked at in random order until one holds it, each of them once in the life of this step.
        """
        if self.wanted is None:
            return int(rng.integers(len(dataset)))
        order = [int(index) for index in rng.permutation(len(dataset))]
        return next((index for index in order if self.wanted in self.classes_at(dataset, index)), order[0])

    def classes_at(self, dataset: Images, index: int) -> frozenset[int]:
        """Returns the classes in an image of the data set."""
        if index not in self.classes_seen:
            self.classes_seen[index] = classes_in(dataset.get_data_info(index))
        return self.classes_seen[index]

    def rare_class(self, rng: np.random.Generator) -> int | None:
        """Draws a class by one over its frequency; classes that do not occur are left out, and None is rare alone."""
        weights = np.divide(1.0, self.frequencies, out=np.zeros_like(self.frequencies), where=self.frequencies > 0)
        if np.count_nonzero(weights) < 2:
            return None
        return int(rng.choice(len(weights), p=weights / weights.sum()))

    @property
    def ground(self) -> int | None:
        """The most frequent class."""
        return int(np.nanargmax(self.frequencies)) if np.isfinite(self.frequencies).any() else None

    def transform(self, results: Results) -> Results:
        """Returns the mixed results, or the very same if the step was not drawn."""
        rng = new_generator()
        others = [read_sample(other) for other in results.get("mix_results", ())]
        if not others:
            return results
        samples = [read_sample(results), *others]
        return write_sample(results, mixed(self.name, samples, self.wanted, self.ground, rng))


def classes_in(info: dict[str, Any]) -> frozenset[int]:
    """Returns the classes of an image by its annotations."""
    if "instances" in info:
        return frozenset(entry["bbox_label"] for entry in info["instances"] if not entry["ignore_flag"])
    return frozenset(np.unique(read_label_map(Path(info["seg_map_path"]))).tolist()) - {IGNORED}
