"""Weight averages as members: the mean of several checkpoints of one architecture predicts at the cost of one network.

    RUN/ensembles/averages/HASH/    config.py, best.pth and average.json: what it is the mean of

Averaged are epochs of a trial, folds of a configuration, or trials of one architecture. No network runs in this
process. Imports trainables' fork server.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search_spaces.trial_config import TrialConfig
from segdata.atomic import new_folder
from segdata.errors import InputError, TrialError
from segsweep.data_roles import SweepRoles
from segsweep.run_folder import RunFolder
from segsweep.sweep_file import Sweep
from trainables.fork_server import Ended, start_child
from trainables.requests import AverageRequest
from trainables.trial_files import TrialFiles

__all__ = ["AVERAGE_FILE", "average_members"]

AVERAGE = "trainables.averaging:average"
AVERAGE_FILE = "average.json"
DIGITS = 12
MOST_WORKERS = 4


def average_members(
    sweep: Sweep, roles: SweepRoles, trial: TrialConfig, members: Sequence[TrialFiles], threads: int, console: Console
) -> TrialFiles:
    """Returns a folder like a trial's whose weights are the mean of the members'; it is made once.

    Batch norms are measured on the images that the sweep trains on.

    Args:
        sweep: The sweep that all of it belongs to.
        roles: Its data.
        trial: The configuration of the first member, by which the average is built and fed.
        members: Two or more folders like a trial's, of one architecture.
        threads: Computing threads.
        console: Shows what goes on.

    Raises:
        InputError: There are fewer than two, one has no weights, or they are of different architectures; names the
            first tensor that differs.
        TrialError: The process failed.
    """
    refuse_too_few(members)
    run = RunFolder(sweep.path)
    checkpoints = {member.best: sha256_of(member.best) for member in members}
    known = (sorted(checkpoints.values()), sha256_of(members[0].config), roles.roles["train"].fingerprint, trial.hash())
    name = hashlib.sha256(repr(known).encode()).hexdigest()[:DIGITS]
    out = TrialFiles(run.ensembles / "averages" / name)
    if (out.directory / AVERAGE_FILE).is_file():
        return out
    with new_folder(out.directory) as fresh, console.status(f"averaging {len(members)} checkpoints"):
        files = TrialFiles(fresh)
        shutil.copyfile(members[0].config, files.config)
        request = AverageRequest(
            trial=trial,
            data=roles.describe(run.data),
            checkpoints=[path.absolute() for path in checkpoints],
            out=files.best,
            seed=sweep.config.search.seed,
            threads=threads,
            loader_workers=min(MOST_WORKERS, max(0, threads - 2)),
            custom_imports=sweep.config.custom_imports,
            folder=sweep.folder,
        )
        told = run_average(request, run.ensembles / "averages" / f"{name}.log")
        record = {
            "checkpoints": [{"path": str(path), "sha256": digest} for path, digest in checkpoints.items()],
            **told,
        }
        (fresh / AVERAGE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return out


def refuse_too_few(members: Sequence[TrialFiles]) -> None:
    """Raises InputError if there is nothing to average."""
    for member in members:
        if not member.best.is_file():
            raise InputError.of(
                "expected weights to average, but got none", where=member.best, cure="Leave this member out."
            )
    if len({member.best for member in members}) < 2:
        raise InputError.of(
            f"expected two or more checkpoints to average, but got {len(members)}",
            where=members[0].best if members else "average",
            cure="Name more, such as a trial's epochs (storage.keep_epochs).",
        )


def run_average(request: AverageRequest, log: Path) -> dict[str, int]:
    """Runs the child to its end; returns what it measured."""
    child = start_child(AVERAGE, request, log)
    told: dict[str, int] = {}
    try:
        while not isinstance(message := child.receive(None), Ended):
            if message is not None and message[0] == "refused":
                log.unlink(missing_ok=True)
                raise InputError(message[1]["reason"])
            told = told if message is None else message[1]
    finally:
        child.stop()
    if message.kind != "done":
        raise TrialError.of(f"expected a weight average, but got: {message.reason}", where=log, cure="Leave it out.")
    log.unlink()
    return told


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
