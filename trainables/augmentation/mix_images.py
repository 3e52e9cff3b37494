"""The step of a training pipeline that mixes several images: `MixImages`, inside a stock MultiImageMixDataset.

The data set asks which other images the step wants (MMDetection by `get_indexes`, MMSegmentation by `get_indices`),
puts them beside the image as `mix_results`, and calls the step.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmcv.transforms import BaseTransform

from segdata.labelmaps import read_label_map
from trainables.augmentation.augment import new_generator
from trainables.augmentation.mixing import mixed
from trainables.augmentation.sample import IGNORED, Results, read_sample, write_sample

__all__ = ["MixImages"]

ATTEMPTS = 32  # draws of an image that holds a rare class


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
        return [find_image(dataset, self.wanted, rng)]

    get_indexes = get_indices

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


def find_image(dataset: Images, wanted: int | None, rng: np.random.Generator) -> int:
    """Draws an image; up to 32 times, until one holds the wanted class."""
    index = int(rng.integers(len(dataset)))
    for _ in range(ATTEMPTS):
        if wanted is None or wanted in classes_in(dataset.get_data_info(index)):
            break
        index = int(rng.integers(len(dataset)))
    return index


def classes_in(info: dict[str, Any]) -> frozenset[int]:
    """Returns the classes of an image by its annotations."""
    if "instances" in info:
        return frozenset(entry["bbox_label"] for entry in info["instances"] if not entry["ignore_flag"])
    return classes_of_label_map(info["seg_map_path"])


@lru_cache(maxsize=100_000)
def classes_of_label_map(path: str) -> frozenset[int]:
    return frozenset(int(index) for index in np.unique(read_label_map(Path(path)))) - {IGNORED}
