"""Fusing many images: in shards that processes, here or on a cluster, fuse side by side, put together at the end.

What comes out is to the byte what `ensembling.fusion.fuse` writes. Work that was broken off goes on by the same call.
Imports ensembling and trainables' fork server, and ray where a cluster is named.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from rich.console import Console

from ensembling.fusion import PreparedFusion
from ensembling.settings import FusionSettings
from segdata.atomic import refuse_existing, write_text
from segdata.errors import InputError, SegsweepError
from segdata.predictions import PredictionSet, PredictionWriter
from segsweep.ensembles.fusing_job import FusingJob, fuse_share
from segsweep.predicting import locked, progress_bar
from trainables.fork_server import Child, Ended, start_child

__all__ = ["SHARD_IMAGES", "fuse_sharded"]

SHARD_IMAGES = 100
KEY_FILE = "fusing.json"
JOB = "segsweep.ensembles.fusing_job:fuse_as_asked"
SAMPLED = 8  # images that are fused to learn what one takes on the disk
TOLD_BYTES = 1e9


def fuse_sharded(
    members: Sequence[Path],
    out: Path,
    *,
    method: str,
    weights: Sequence[float] | None = None,
    settings: FusionSettings | None = None,
    allow_empty: bool = False,
    processes: int = 1,
    address: str | None = None,
    console: Console | None = None,
    shard_images: int = SHARD_IMAGES,
) -> Path:
    """Fuses prediction sets of the same images into a new one, as `ensembling.fusion.fuse` does.

    Up to `shard_images` images are fused here and now. More are fused shard by shard into `NAME.fusing` beside `out`;
    a call that finds it there, with the same members, weights and settings, goes on with the shards that are missing.
    Processes are started for whole shards only.

    Args:
        members: Prediction sets, as in `fuse`.
        out: The prediction set to write; must not exist or be empty.
        method: As in `fuse`.
        weights: As in `fuse`.
        settings: As in `fuse`.
        allow_empty: As in `fuse`.
        processes: How many share the work; 1 = this one.
        address: Of a Ray cluster whose nodes see members and `out` under the same paths; each process is a task there.
        console: Shows progress and disk need; None = nobody is told.
        shard_images: Images a shard.

    Returns:
        `out`.

    Raises:
        InputError: As `fuse`; or the result has no room on the disk, or another command fuses into `out` right now.
        DatasetError: A member is broken.
        SegsweepError: A process ended; what is fused is kept.
    """
    refuse_existing(out)
    used = FusionSettings() if settings is None else settings
    paths = tuple(member.absolute() for member in members)
    folder = out.absolute().with_name(f"{out.name}.fusing")
    given = None if weights is None else tuple(weights)
    job = FusingJob(paths, method, given, used, allow_empty, folder, shard_images)
    fusion = job.prepared()
    if len(fusion.images) <= shard_images:
        return fusion.write(out, fusion.images)
    shown = console or Console(quiet=True)
    make_folder(folder)
    with locked(folder):
        done_before = start_parts(job, fusion)
        try:
            finish_shards(job, fusion, processes, address, shown, f"fusing {out.name}")
        except InputError:
            if not done_before:
                shutil.rmtree(folder)
            raise
        assemble(job, fusion, out)
        shutil.rmtree(folder)
    return out


def make_folder(folder: Path) -> None:
    """Makes the folder of the parts, unless it is there.

    Raises:
        InputError: Something else is there, or it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = not (folder / KEY_FILE).is_file() and any(path.name != "lock" for path in folder.iterdir())
    except OSError as error:
        raise InputError.of(
            f"expected a place to write to, but got: {error.strerror}", where=folder, cure="Name another."
        ) from error
    if others:
        raise InputError.of(
            "expected a fusion that was broken off, or nothing, but got a folder of other files",
            where=folder,
            cure="Remove it, or name another place for the fused predictions.",
        )


def start_parts(job: FusingJob, fusion: PreparedFusion) -> bool:
    """Keeps the shards that are there if members and settings are the same, and tells whether there are some."""
    file, key = job.folder / KEY_FILE, json.dumps(job.key(fusion), indent=2, sort_keys=True) + "\n"
    if not file.is_file() or file.read_text(encoding="utf-8") != key:
        shutil.rmtree(job.folder / "shards", ignore_errors=True)
        write_text(file, key)
    (job.folder / "shards").mkdir(exist_ok=True)
    for broken_off in job.folder.glob("shards/.*"):
        shutil.rmtree(broken_off)
    return any((job.folder / "shards").iterdir())


def finish_shards(
    job: FusingJob, fusion: PreparedFusion, processes: int, address: str | None, console: Console, title: str
) -> None:
    """Fuses the shards that are missing."""
    missing = tuple(number for number in job.all_shards(len(fusion.images)) if not job.is_done(number))
    if not missing:
        return
    refuse_full_disk(job, fusion, missing, console)
    shares = min(processes, len(missing))
    jobs = [replace(job, missing=missing, share=share, shares=shares) for share in range(shares)]
    images = sum(len(job.images_of(number, fusion.images)) for number in missing)
    with progress_bar(title, images, console) as show:
        if address is not None:
            from segsweep.ensembles.fusing_on_ray import fuse_tasks

            fuse_tasks(jobs, address, title, show, console)
        elif shares == 1:
            done = 0
            for count in fuse_share(jobs[0], fusion):
                done += count
                show(done)
        else:
            fuse_children(jobs, title, show)


def fuse_children(jobs: Sequence[FusingJob], title: str, show: Callable[[int], None]) -> None:
    """Runs each share in a child of the fork server on this machine.

    Raises:
        InputError: A member is not what it should be.
        SegsweepError: A child ended; the others are ended too.
    """
    children = [start_child(JOB, job, job.folder / f"fuse-{job.share}.log") for job in jobs]
    running, done = dict(enumerate(children)), 0
    try:
        while running:
            wait([one for child in running.values() for one in (child.connection, child.process.sentinel)])
            for number, child in list(running.items()):
                count = receive(child, title)
                if count is None:
                    running.pop(number)
                done += count or 0
            show(done)
    finally:
        for child in children:
            child.stop()


def receive(child: Child, title: str) -> int | None:
    """Takes a child's next message, if there is one; returns how many images it fused, None if it has ended.

    Raises:
        InputError: A member is not what it should be.
        SegsweepError: The child failed.
    """
    message = child.receive(0)
    if isinstance(message, Ended):
        if message.kind != "done":
            raise SegsweepError(
                f"{title}: {message.reason}. What is fused is kept: the same command goes on from there."
            )
        return None
    if message is not None and message[0] == "refused":
        raise InputError(message[1]["reason"])
    return 0 if message is None else int(message[1]["images"])


def assemble(job: FusingJob, fusion: PreparedFusion, out: Path) -> None:
    """Puts the shards together, in the order of the images."""
    with PredictionWriter(out, fusion.meta) as writer:
        for number in job.all_shards(len(fusion.images)):
            writer.add_set(PredictionSet.open(job.shard(number)))


def refuse_full_disk(job: FusingJob, fusion: PreparedFusion, missing: Sequence[int], console: Console) -> None:
    """Fuses a few images to learn what one takes, and tells the need of the whole if it is over 1 GB.

    Raises:
        InputError: There is less room.
    """
    need = needed_bytes(job, fusion, missing)
    free = shutil.disk_usage(job.folder).free
    told = f"about {need / 1e9:.2f} GB"
    if need > free:
        raise InputError.of(
            f"expected room for {told} of fused predictions, but got {free / 1e9:.2f} GB",
            where=job.folder.parent,
            cure="Make room, name another place, or store labels only (fusion setting output=labels).",
        )
    if need > TOLD_BYTES:
        console.print(f"the fused predictions take {told} of the disk; {free / 1e9:.2f} GB are free")


def needed_bytes(job: FusingJob, fusion: PreparedFusion, missing: Sequence[int]) -> float:
    """Returns what the missing shards and the set will take, by the bytes a pixel of a few images."""
    images = fusion.images
    places = sorted({math.floor(len(images) * (place + 0.5) / SAMPLED) for place in range(SAMPLED)})
    sample = [images[place] for place in places]
    with tempfile.TemporaryDirectory(dir=job.folder, prefix="sample-") as folder:
        written = fusion.write(Path(folder) / "set", sample)
        size = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    a_pixel = size / sum(image.width * image.height for image in sample)
    pixels = [image.width * image.height for number in missing for image in job.images_of(number, images)]
    need = a_pixel * sum(pixels)
    if fusion.meta.codec == "coco-rle":  # the results of all shards are copied into one file; others get a second name
        need += a_pixel * sum(image.width * image.height for image in images)
    return need
