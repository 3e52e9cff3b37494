"""Reading what earlier sweeps found from an MLflow store, for a new sweep to begin with. Imports mlflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from segdata.errors import InputError
from segtrack.recorder import KIND, NUMBER, PARENT, SWEEP, entry_name, first_line
from segtrack.store import SQLITE

__all__ = ["RecordedSweep", "RecordedTrial", "read_sweep"]

MOST_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class RecordedTrial:
    """A trial as MLflow has it: `parameters` in MLflow's names and texts, `score` that of its best epoch."""

    number: int
    parameters: Mapping[str, str]
    score: float


@dataclass(frozen=True, slots=True)
class RecordedSweep:
    """A sweep's trials that have a score, best first; `mode` is "max" or "min", the direction of its metric."""

    name: str
    metric: str
    mode: str
    trials: tuple[RecordedTrial, ...]


def read_sweep(uri: str, project: str, name: str) -> RecordedSweep:
    """Reads the newest sweep of that name.

    Args:
        uri: The store, resolved.
        project: The experiment's name.
        name: The sweep's.

    Raises:
        InputError: The store does not answer, or has no such sweep.
    """
    refuse_missing_file(uri)
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(project)
        sweeps = [] if experiment is None else search(client, experiment.experiment_id, f"tags.`{KIND}` = 'sweep'")
        named = [run for run in sweeps if run.data.tags[SWEEP] == name]
        if not named:
            known = ", ".join(sorted({run.data.tags[SWEEP] for run in sweeps})) or "none"
            raise InputError.of(
                f"expected a sweep that MLflow has in the project {project}, but got {name!r}; known: {known}",
                where=f"warm_start, store {uri}",
                cure="Name one of these, or set project.",
            )
        parent = max(named, key=lambda run: run.info.start_time)
        metric, mode = parent.data.tags["segsweep.metric"], parent.data.tags.get("segsweep.mode", "max")  # as once all
        runs = search(client, parent.info.experiment_id, f"tags.`{PARENT}` = '{parent.info.run_id}'")
        trials = [trial_of(client, run, metric, mode) for run in runs if run.data.tags.get(KIND) == "trial"]
    except InputError:
        raise
    except Exception as error:  # SQLAlchemy's and a dozen others come through as they are
        raise InputError.of(
            f"expected an MLflow store that answers, but got {type(error).__name__}: {first_line(error)}",
            where=f"warm_start, store {uri}",
            cure="Check tracking.uri.",
        ) from error
    scored = [trial for trial in trials if trial is not None]
    scored.sort(key=lambda trial: (-trial.score if mode == "max" else trial.score, trial.number))
    return RecordedSweep(name, metric, mode, tuple(scored))


def refuse_missing_file(uri: str) -> None:
    """Raises InputError for a database that is not there, which MLflow would make."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise InputError.of(
            "expected an MLflow store with earlier sweeps, but got no such file",
            where=f"warm_start, store {uri}",
            cure="Check tracking.uri.",
        )


def search(client: MlflowClient, experiment: str, query: str) -> list[Run]:
    """Returns runs, the newest first."""
    return list(client.search_runs([experiment], query, max_results=MOST_RUNS))


def trial_of(client: MlflowClient, run: Run, metric: str, mode: str) -> RecordedTrial | None:
    """Returns a trial with its best score; None if it has none, or was over a limit."""
    name = entry_name(metric)
    if name not in run.data.metrics or run.data.tags.get("segsweep.outcome") == "over-limit":
        return None
    scores = [entry.value for entry in client.get_metric_history(run.info.run_id, name)]
    return RecordedTrial(
        int(run.data.tags[NUMBER]), dict(run.data.params), max(scores) if mode == "max" else min(scores)
    )
