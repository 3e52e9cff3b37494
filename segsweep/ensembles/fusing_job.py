"""A fusion in shards: what is to be fused, in which pieces, and what one process does of it.

    NAME.fusing/fusing.json     what must be the same for the work to go on: members, method, weights, settings
    NAME.fusing/shards/00012/   the fused images of a shard, a prediction set, which is there whole or not at all

Several processes may write side by side. Imports ensembling; neither ray nor a training framework.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ensembling.fusion import PreparedFusion, prepare_fusion
from ensembling.settings import FusionSettings
from segdata.errors import InputError
from segdata.prediction_meta import INSTANCES_FILE, META_FILE, PredictedImage
from segdata.predictions import PredictionSet

__all__ = ["FusingJob", "fuse_as_asked", "fuse_share"]

_DIGITS = 16


@dataclass(frozen=True, slots=True)
class FusingJob:
    """A fusion, and the share of it that one process does: the shards `share`, `share + shares` ... of `missing`.

    Attributes:
        members: Prediction sets, absolute.
        method: One of `ensembling.fusion.METHODS`.
        weights: One a member, None = all equal.
        settings: Thresholds.
        allow_empty: Whether a member may have found nothing at all.
        folder: Of the parts, absolute.
        shard_images: Images a shard.
        missing: Numbers of the shards that are not fused yet.
        share: Which of the processes.
        shares: How many there are.
    """

    members: tuple[Path, ...]
    method: str
    weights: tuple[float, ...] | None
    settings: FusionSettings
    allow_empty: bool
    folder: Path
    shard_images: int
    missing: tuple[int, ...] = ()
    share: int = 0
    shares: int = 1

    def prepared(self) -> PreparedFusion:
        """Opens the members.

        Raises:
            InputError: As `ensembling.fusion.fuse`.
        """
        return prepare_fusion(
            self.members,
            method=self.method,
            weights=self.weights,
            settings=self.settings,
            allow_empty=self.allow_empty,
        )

    def shard(self, number: int) -> Path:
        """Where a shard's fused images lie."""
        return self.folder / "shards" / f"{number:06d}"

    def is_done(self, number: int) -> bool:
        """Whether a shard is fused."""
        return (self.shard(number) / META_FILE).is_file()

    def images_of(self, number: int, images: Sequence[PredictedImage]) -> Sequence[PredictedImage]:
        """Returns a shard's images, of all."""
        return images[number * self.shard_images : (number + 1) * self.shard_images]

    def all_shards(self, images: int) -> range:
        """Numbers of all shards."""
        return range(-(-images // self.shard_images))

    def key(self, fusion: PreparedFusion) -> dict[str, Any]:
        """Returns all that changes what comes out."""
        return {
            "members": [set_fingerprint(member) for member in fusion.sets],
            "method": self.method,
            "shares": fusion.shares.tolist(),
            "settings": asdict(self.settings),
            "shard_images": self.shard_images,
            "code_version": fusion.meta.code_version,
        }


def set_fingerprint(predictions: PredictionSet) -> str:
    """Returns 16 hex digits that change when a prediction set is written again, or files come into or leave it."""
    digest = hashlib.sha256((predictions.path / META_FILE).read_bytes())
    for name in (INSTANCES_FILE, "probabilities", "labels"):
        if (path := predictions.path / name).exists():
            state = path.stat()
            digest.update(json.dumps([name, state.st_size, state.st_mtime_ns]).encode())
    return digest.hexdigest()[:_DIGITS]


def fuse_share(job: FusingJob, fusion: PreparedFusion | None = None) -> Iterator[int]:
    """Fuses the shards of a job's share, and yields after each how many images it held.

    Raises:
        InputError: As `ensembling.fusion.fuse`.
        DatasetError: A member is broken.
    """
    fusion = fusion or job.prepared()
    for number in job.missing[job.share :: job.shares]:
        images = job.images_of(number, fusion.images)
        try:
            fusion.write(job.shard(number), images)
        except InputError:
            if not job.is_done(number):  # else a process that was taken for lost was quicker
                raise
        yield len(images)


def fuse_as_asked(job: FusingJob, connection: Connection) -> None:
    """What a child of the fork server does: sends ("fused", {"images": n}) after each shard, or ("refused", ...)."""
    send: Callable[[Any], None] = connection.send
    try:
        for images in fuse_share(job):
            send(("fused", {"images": images}))
    except InputError as error:
        send(("refused", {"reason": str(error)}))
