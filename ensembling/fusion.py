"""Fusing prediction sets into one, image by image: memory does not grow with the number of images.

    wbf          instance   weighted boxes fusion; the masks of a cluster by weighted vote
    mask-fusion  instance   clusters by mask, the mask by weighted vote, the box from the mask
    nms          instance   the most confident of objects that overlap
    soft-nms     instance   all objects; those that overlap a more confident one become less confident
    nmw          instance   as nms, but what would be removed moves what stays
    soft-vote    semantic   mean of class probabilities
    hard-vote    semantic   the class that most members name

Imports `segdata` and this package.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ensembling.instances import fuse_by_boxes, fuse_by_masks, fuse_by_nms, fuse_by_nmw, fuse_by_soft_nms
from ensembling.members import open_members, read_instances, refuse_empty
from ensembling.semantic import fuse_hard, fuse_soft
from ensembling.settings import FusionSettings
from ensembling.weights import member_weights
from segdata.errors import InputError
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter

__all__ = [
    "METHODS",
    "OBJECT_FUSIONS",
    "Method",
    "PreparedFusion",
    "fuse",
    "largest_limit",
    "method_for",
    "most_confident",
    "prepare_fusion",
    "stored_codec",
]

Floats = npt.NDArray[np.float64]
Codec = Literal["coco-rle", "prob8", "labels"]
FuseObjects = Callable[[Sequence[ImageInstances], Floats, FusionSettings], ImageInstances]
FuseImage = Callable[[PredictionWriter, PredictedImage, Sequence[PredictionSet], Floats, FusionSettings], None]


class Method(NamedTuple):
    """A way to fuse.

    Attributes:
        task: What it fuses.
        codec: What it writes; probabilities become labels where the settings say so.
        reads: Codecs of members that it can read.
        fuse_image: Reads one image from all members, fuses it and adds it to the writer.
    """

    task: Literal["instance", "semantic"]
    codec: Codec
    reads: tuple[Codec, ...]
    fuse_image: FuseImage


def fuse(
    members: Sequence[Path],
    out: Path,
    *,
    method: str,
    weights: Sequence[float] | None = None,
    settings: FusionSettings | None = None,
    allow_empty: bool = False,
) -> Path:
    """Fuses prediction sets of the same images into a new one.

    Args:
        members: Prediction sets, of equal task, classes, data set and images. One may occur twice.
        out: The prediction set to write; must not exist or be empty.
        method: One of `METHODS` for the members' task.
        weights: One weight above 0 a member, None = all equal; only their ratios matter.
        settings: Thresholds; None = the defaults.
        allow_empty: Whether a member may have found no object in any image, as a good network does on images
            without objects.

    Returns:
        `out`. Its max_detections is the largest of the members' (and is kept to), its confidence threshold the
        smallest, each None where a member has none.

    Raises:
        InputError: If the method does not fit the members, they differ, one is empty, weights are wrong, or `out` is
            not empty.
        DatasetError: If a member is broken.
    """
    fusion = prepare_fusion(members, method=method, weights=weights, settings=settings, allow_empty=allow_empty)
    return fusion.write(out, fusion.images)


def prepare_fusion(
    members: Sequence[Path],
    *,
    method: str,
    weights: Sequence[float] | None = None,
    settings: FusionSettings | None = None,
    allow_empty: bool = False,
) -> "PreparedFusion":
    """Opens and checks all that `fuse` needs, for those who fuse some of the images at a time.

    Args:
        members: As in `fuse`, and so the others.
        method: See there.
        weights: See there.
        settings: See there.
        allow_empty: See there.

    Raises:
        InputError: As `fuse`.
        DatasetError: If a member is broken.
    """
    sets = open_members(members)
    chosen = method_for(method, sets)
    if not allow_empty:
        refuse_empty(sets)
    share_M = member_weights(weights, len(sets))
    used = FusionSettings() if settings is None else settings
    return PreparedFusion(sets, chosen, share_M, used, _fused_meta(sets, chosen, used))


@dataclass(frozen=True, eq=False)
class PreparedFusion:
    """Members that fit each other, and how they are fused.

    Attributes:
        sets: The members.
        method: How.
        shares: (M,) weights of the members, their sum is 1.
        settings: Thresholds.
        meta: What the fused set says about itself, without its images.
    """

    sets: tuple[PredictionSet, ...]
    method: Method
    shares: Floats
    settings: FusionSettings
    meta: PredictionMeta

    @property
    def images(self) -> tuple[PredictedImage, ...]:
        """Every image, in the order of the fused set."""
        return self.sets[0].meta.images

    def write(self, out: Path, images: Sequence[PredictedImage]) -> Path:
        """Fuses some of the images into a new prediction set.

        Raises:
            InputError: If `out` is not empty, or a member is not what it should be.
            DatasetError: If a member is broken.
        """
        with PredictionWriter(out, self.meta) as writer:
            for image in images:
                self.method.fuse_image(writer, image, self.sets, self.shares, self.settings)
        return out


def _instances_with(fuse_objects: FuseObjects) -> FuseImage:
    def fuse_image(
        writer: PredictionWriter,
        image: PredictedImage,
        sets: Sequence[PredictionSet],
        share_M: Floats,
        settings: FusionSettings,
    ) -> None:
        fused = fuse_objects([read_instances(member, image.file_name) for member in sets], share_M, settings)
        writer.add_instances(image, most_confident(fused, largest_limit(sets)))

    return fuse_image


OBJECT_FUSIONS: dict[str, FuseObjects] = {  # methods for instances -> what they do with one image's objects
    "wbf": fuse_by_boxes,
    "mask-fusion": fuse_by_masks,
    "nms": fuse_by_nms,
    "soft-nms": fuse_by_soft_nms,
    "nmw": fuse_by_nmw,
}
METHODS: dict[str, Method] = {
    **{name: Method("instance", "coco-rle", ("coco-rle",), _instances_with(of)) for name, of in OBJECT_FUSIONS.items()},
    "soft-vote": Method("semantic", "prob8", ("prob8",), fuse_soft),
    "hard-vote": Method("semantic", "labels", ("prob8", "labels"), fuse_hard),
}


def method_for(name: str, sets: Sequence[PredictionSet]) -> Method:
    """Returns the method of that name.

    Raises:
        InputError: If it is not one for the members' task, or can't read what a member holds.
    """
    task = sets[0].meta.task
    fitting = [known for known, method in METHODS.items() if method.task == task]
    if name not in fitting:
        raise InputError.of(
            f"expected a method for {task} predictions ({', '.join(fitting)}), but got {name!r}",
            where="fusion method",
            cure="Choose one of these.",
        )
    method = METHODS[name]
    for member in sets:
        if member.meta.codec not in method.reads:
            raise InputError.of(
                f"expected {' or '.join(method.reads)} for {name}, but got {member.meta.codec}",
                where=member.path,
                cure="Predict with probabilities, or use hard-vote, which needs labels only.",
            )
    return method


def _fused_meta(sets: Sequence[PredictionSet], method: Method, settings: FusionSettings) -> PredictionMeta:
    metas = [member.meta for member in sets]
    codec = stored_codec(method, settings)
    thresholds = [meta.confidence_threshold for meta in metas if meta.confidence_threshold is not None]
    return PredictionMeta(
        task=method.task,
        classes=metas[0].classes,
        category_ids=metas[0].category_ids,
        dataset_fingerprint=metas[0].dataset_fingerprint,
        code_version=_code_version(),
        confidence_threshold=min(thresholds) if len(thresholds) == len(metas) else None,
        max_detections=largest_limit(sets),
        mask_threshold=settings.mask_threshold if codec == "coco-rle" else None,
        codec=codec,
        stride=min(meta.stride for meta in metas) if codec == "prob8" else 1,
    )


def stored_codec(method: Method, settings: FusionSettings) -> Codec:
    """Returns how a fused set is stored."""
    return "labels" if method.codec == "prob8" and settings.output == "labels" else method.codec


def largest_limit(sets: Sequence[PredictionSet]) -> int | None:
    """The largest max_detections of the members; None where one has no limit."""
    limits = [member.meta.max_detections for member in sets if member.meta.max_detections is not None]
    return max(limits) if len(limits) == len(sets) else None


def most_confident(instances: ImageInstances, limit: int | None) -> ImageInstances:
    """Keeps the most confident objects; they come sorted."""
    return ImageInstances(
        boxes_xyxy=instances.boxes_xyxy[:limit],
        confidences=instances.confidences[:limit],
        classes=instances.classes[:limit],
        rles=instances.rles[:limit],
    )


def _code_version() -> str:
    try:
        return version("segsweep")
    except PackageNotFoundError:
        return "source"
