"""`segsweep enqueue` and `stop-trial`: steering a sweep while it runs, from another terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdata.errors import InputError

if TYPE_CHECKING:
    from segsweep.run_folder import RunFolder

__all__ = ["enqueue", "stop_trial"]

Name = Annotated[str, typer.Argument(help="The sweep's name, folder or file.")]
Storage = Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")]


def enqueue(
    name: Name,
    point: Annotated[list[str], typer.Argument(metavar="KNOB=VALUE...", help="What to try; the rest is drawn.")],
    storage: Storage = Path("runs"),
) -> None:
    """Lets a sweep try a point of yours next, one of the trials of its budget.

    Example: segsweep enqueue nuclei-search lr=0.01 optimizer=sgd
    """
    from segsweep.ending import extended
    from segsweep.run_folder import find_run
    from segsweep.search import trial_records
    from segsweep.wishes import Wishes, parse_wish, wished_parameters

    folder = find_run(name, storage)
    wish, sweep, study = parse_wish(point), folder.load(), folder.study()
    Wishes(folder.wishes).add(wished_parameters(sweep.space, wish))
    values = " ".join(f"{knob}={value}" for knob, value in wish.items())
    budget = extended(sweep, study).config.budget.trials
    typer.echo(f"{folder.path.name}: {values} {when_tried(folder, len(trial_records(study)), budget)}")


def when_tried(folder: "RunFolder", trials: int, budget: int) -> str:
    """Says when a point that waits will be tried."""
    if trials >= budget:
        return f"waits, as all {budget} trials of the budget have begun: segsweep resume {folder.path} --trials +1"
    if not folder.is_driven():
        return f"waits, as the sweep does not run: segsweep resume {folder.path}"
    return f"comes next, one of the {budget} trials of the budget"


def stop_trial(
    name: Name,
    trial: Annotated[int, typer.Argument(min=0, help="Its number.")],
    storage: Storage = Path("runs"),
) -> None:
    """Ends a running trial within seconds; its best epoch so far counts.

    Example: segsweep stop-trial nuclei-search 7
    """
    from segsweep.run_folder import find_run
    from segsweep.search import trial_records

    folder = find_run(name, storage)
    records = {record.number: record for record in trial_records(folder.study())}
    running = [str(number) for number, record in records.items() if not record.ended]
    if trial not in records or records[trial].ended:
        found = f"trial {trial}, which has {records[trial].outcome}" if trial in records else f"no trial {trial}"
        raise InputError.of(
            f"expected a running trial ({', '.join(running) or 'none is'}), but got {found}",
            where=folder.path,
            cure="`segsweep best` shows how trials stand.",
        )
    folder.trial(trial).ask_to_stop()
    later = "" if folder.is_driven() else f"; the sweep does not run now: segsweep resume {folder.path}"
    typer.echo(f"{folder.path.name}: trial {trial:04d} is asked to end{later}")
