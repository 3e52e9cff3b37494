"""What a trial is told about the data: files by role, classes and statistics, as frozen values.

Imports segdata only. The driver writes these files once a sweep; every trial reads them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segdata.statistics import ObjectStatistics, PixelStatistics

__all__ = ["DataDescription", "RoleFiles", "Task"]

Task = Literal["instance", "semantic"]


@dataclass(frozen=True, slots=True)
class RoleFiles:
    """The files of one role (train, val, select or test).

    Instance data names a COCO file whose `file_name`s are relative to `images`; semantic data names a folder of label
    maps and a text file with one image stem a line (all images of a role share one `suffix`).
    """

    images: Path
    annotations: Path | None = None
    labels: Path | None = None
    stems: Path | None = None
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class DataDescription:
    """The data of a sweep as a trial sees it.

    `statistics` are those of the train role; `classes` are in the order of the network's outputs. `sums` lists images
    and label maps with their SHA-256 where each node is to read a copy of its own.
    """

    task: Task
    classes: tuple[str, ...]
    train: RoleFiles
    val: RoleFiles
    statistics: ObjectStatistics | PixelStatistics
    fingerprint: str
    sums: Path | None = None
