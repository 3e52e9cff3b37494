"""Predicting images into a prediction set: what is missing, shared out to processes, put together at the end.

Work that was broken off goes on by the same call: every image that is predicted lies in a file of its own beside the
set to come. No network runs in this process. Imports trainables' fork server, and ray where a cluster is named.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from segdata.errors import InputError, TrialError
from segdata.prediction_disk import WORTH_TELLING, bytes_needed, gigabytes
from segdata.prediction_parts import PredictionParts, refuse_other_settings, settings_of
from segdata.predictions import PredictionSet
from segdata.views import PLAIN, SMALLEST_WINDOW_PX
from segsweep.prediction_source import ImagesSource, Network
from trainables.description import Task
from trainables.fork_server import Child, Ended, start_child
from trainables.prediction_job import PredictionJob, WindowChoice, windows_of

__all__ = ["How", "Predicted", "digest_of", "network_settings", "predict_images"]

PREDICT = "trainables.predict:predict_as_asked"
LARGEST_OVERLAP = 0.9
LARGEST_STRIDE = 64


@dataclass(frozen=True, slots=True)
class How:
    """How images are predicted; only `windows` and `stride` change what comes out.

    Attributes:
        windows: None = every image as a whole, unless a view has windows of its own.
        batch: Most images, or windows of one, that pass through a network together.
        processes: That share the images.
        threads: Of all processes together.
        address: Of a Ray cluster whose nodes share the file system; None = processes on this machine.
        stride: Image pixels that a stored class probability stands for, per side; 1 for instances.
    """

    windows: WindowChoice | None = None
    batch: int = 1
    processes: int = 1
    threads: int = 1
    address: str | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        """Refuses values out of range.

        Raises:
            InputError: Naming the option.
        """
        if not 1 <= self.stride <= LARGEST_STRIDE:
            raise InputError.of(
                f"expected a stride from 1 to {LARGEST_STRIDE}, but got {self.stride}",
                where="--stride",
                cure="4 keeps a sixteenth of the pixels.",
            )
        if self.windows is None:
            return
        if self.windows.side_px < SMALLEST_WINDOW_PX:
            raise InputError.of(
                f"expected windows of at least {SMALLEST_WINDOW_PX} px, but got {self.windows.side_px}",
                where="--window",
                cure="Windows as large as the training images suit best.",
            )
        if not 0 <= self.windows.overlap <= LARGEST_OVERLAP:
            raise InputError.of(
                f"expected an overlap from 0 to {LARGEST_OVERLAP}, but got {self.windows.overlap:g}",
                where="--overlap",
                cure="Choose one at least as large as the objects, as a share of the window.",
            )
        if self.windows.scale is not None and not 0 < self.windows.scale <= 16:
            raise InputError.of(
                f"expected a scale above 0 and up to 16, but got {self.windows.scale:g}",
                where="--scale",
                cure="Leave it out for the scale of training.",
            )


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction set, how many of its images were predicted this time, and what failed, with reasons."""

    out: Path
    images: int
    fresh: int
    failed: dict[str, str]


def predict_images(
    network: Network,
    images: ImagesSource,
    out: Path,
    how: How,
    console: Console,
    title: str = "predicting",
    *,
    task: Task | None = None,
    sets: int = 1,
) -> Predicted:
    """Predicts images through the network's view into the set `out`, going on with what is there.

    Args:
        task: That the network must have; None = whichever.
        sets: Prediction sets of these images that are to come on this disk, this one among them: they must have room.

    Raises:
        InputError: `out` is something else, or was predicted with other settings, or by another process right now; the
            network is of another task; or the disk has too little room.
        TrialError: A process failed, or no image could be predicted.
    """
    settings = network_settings(network, images, how.windows, how.stride)
    parts = PredictionParts.beside(out)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        refuse_other_settings(settings_of(out), settings, out)
        if is_complete(out, images):
            if parts.folder.is_dir():  # a kill came between the last two steps
                parts.remove()
            return Predicted(out, len(images.files), 0, {})
    parts.start(settings)
    with locked(parts.folder):
        if (out / "meta.json").is_file():
            parts.adopt(PredictionSet.open(out), images.files)
        parts.forget_failures()
        missing = [file.image.file_name for file in images.files if not parts.has(file)]
        if missing:
            job = replace(job_of(network, images, how, parts, frozenset(missing)), task=task, sets=sets)
            try:
                run_shares(shares_of(job, how, len(missing)), how, f"{title} {out.name}", console)
            except InputError:
                parts.remove_if_empty()
                raise
        failed = images.unreadable | parts.failures(images.files)
        if len(failed) >= len(images.files) + len(images.unreadable):
            parts.remove()
            raise TrialError.of(
                f"expected images to predict, but none of {len(failed)} can be read: {next(iter(failed.values()))}",
                where=images.folder,
                cure="Replace them.",
            )
        parts.finish(images.files, out, images.fingerprint, failed)
        parts.remove()
    done = len(images.files) + len(images.unreadable) - len(failed)
    return Predicted(out, done, sum(name not in failed for name in missing), failed)


def is_complete(out: Path, images: ImagesSource) -> bool:
    """Tells whether a finished set holds exactly these images, unchanged."""
    meta = PredictionSet.open(out).meta
    wanted = tuple(file.image for file in images.files)
    return not images.unreadable and meta.images == wanted and meta.dataset_fingerprint == images.fingerprint


def network_settings(
    network: Network, images: ImagesSource, windows: WindowChoice | None, stride: int = 1
) -> dict[str, Any]:
    """Returns all that changes what comes out, the images themselves aside: they are told apart one by one.

    A plain view and a stride of 1 are not named, as in sets from before there were others.
    """
    windows = windows_of(network.view, windows)
    return {
        "weights": network.fingerprint(),
        "window": None if windows is None else windows.side_px,
        "overlap": None if windows is None else windows.overlap,
        "scale": None if windows is None else windows.scale,
        "classes": None if images.classes is None else list(images.classes),
        "category_ids": list(images.category_ids),
        **({} if network.view == PLAIN else {"view": str(network.view)}),
        **({} if stride == 1 else {"stride": stride}),
    }


def digest_of(settings: Mapping[str, Any]) -> str:
    """Returns 12 hex digits that tell settings apart, for names of folders."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def job_of(
    network: Network, images: ImagesSource, how: How, parts: PredictionParts, missing: frozenset[str]
) -> PredictionJob:
    """Returns the whole job."""
    return PredictionJob(
        config=network.config.absolute(),
        checkpoint=network.checkpoint.absolute(),
        images=images.folder.absolute(),
        files=images.files,
        missing=missing,
        parts=parts.folder.absolute(),
        classes=images.classes,
        category_ids=images.category_ids,
        trial=network.trial,
        config_hash=network.config_hash,
        fingerprint=images.fingerprint,
        windows=how.windows,
        view=network.view,
        stride=how.stride,
        batch=how.batch,
        custom_imports=tuple(network.custom_imports),
        folder=network.folder,
        sums=images.sums,
    )


def shares_of(job: PredictionJob, how: How, missing: int) -> list[PredictionJob]:
    """Returns a job a process, no more of them than images are missing.

    The threads of a process do not depend on how many are left, since a sum's last digit depends on them.
    """
    count = min(how.processes, missing)
    threads = max(1, how.threads // how.processes)
    return [replace(job, share=share, shares=count, threads=threads) for share in range(count)]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for one command; the lock goes with the process, however it ends.

    Raises:
        InputError: Another command holds it.
    """
    with (folder / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError.of(
                "expected a prediction that no other process works on, but got one that runs",
                where=folder,
                cure="Wait for it, or name another folder by --out.",
            ) from error
        yield


def run_shares(jobs: Sequence[PredictionJob], how: How, title: str, console: Console) -> None:
    """Runs the shares of a job to their end; a terminal shows how far they are.

    Raises:
        InputError: Config or checkpoint are no such files, or no cluster answers.
        TrialError: One failed; the others are ended. What they predicted is kept.
    """
    with progress_bar(title, len(jobs[0].missing), console) as move:
        show = telling_of_disk(move, jobs[0], title, console)
        if how.address is None:
            run_children(jobs, title, show)
        else:
            from segsweep.predicting_on_ray import run_tasks

            run_tasks(jobs, how.address, title, show, console)


def telling_of_disk(
    show: Callable[[int], None], job: PredictionJob, title: str, console: Console
) -> Callable[[int], None]:
    """Returns `show` that also says, once a process knows the model, what disk is needed if it is much."""
    waiting = True

    def tell_and_show(done: int) -> None:
        nonlocal waiting
        parts = PredictionParts(job.parts)
        if waiting and parts.knows_model:
            waiting = False
            to_come = [file.image for file in job.files if file.image.file_name in job.missing]
            needed = job.sets * bytes_needed(parts.read_meta(), to_come)
            if needed >= WORTH_TELLING:
                room = f"up to {gigabytes(needed)} of disk for class probabilities, before compression"
                console.print(f"{title}: {room}", soft_wrap=True)
        show(done)

    return tell_and_show


@contextmanager
def progress_bar(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows a bar for as long as the work lasts, and gives what moves it; nothing where no terminal is."""
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda done: progress.update(bar, completed=done)


def run_children(jobs: Sequence[PredictionJob], title: str, show: Callable[[int], None]) -> None:
    """Runs each share in a child of the fork server on this machine."""
    children = [start_child(PREDICT, job, log_of(job)) for job in jobs]
    running, done = dict(enumerate(children)), dict.fromkeys(range(len(children)), 0)
    try:
        while running:
            wait([one for child in running.values() for one in (child.connection, child.process.sentinel)])
            for number, child in list(running.items()):
                if receive(child, title, done, number):
                    running.pop(number)
            show(sum(done.values()))
    finally:
        for child in children:
            child.stop()


def receive(child: Child, title: str, done: dict[int, int], number: int) -> bool:
    """Takes a child's next message, if there is one; tells whether it has ended.

    Raises:
        InputError: Config or checkpoint are no such files.
        TrialError: It failed.
    """
    message = child.receive(0)
    if isinstance(message, Ended):
        refuse_failure(message, title)
        return True
    if message is not None and message[0] == "refused":
        raise InputError(message[1]["reason"])
    if message is not None:
        done[number] = message[1]["done"]
    return False


def refuse_failure(ended: Ended, title: str) -> None:
    """Raises TrialError for a share that did not come to its end."""
    if ended.kind != "done":
        raise TrialError(f"{title}: {ended.reason}. What is predicted is kept: the same command goes on from there.")


def log_of(job: PredictionJob) -> Path:
    """Returns the file that a share's output goes to."""
    return job.parts / f"predict-{job.share}.log"
