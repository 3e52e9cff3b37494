"""Writing a sweep to MLflow so that it can be written again: every call finds what is already there.

The recorder is a projection of the study and the trial directories: a trial has one run, an epoch one value a metric,
however often a sweep is resumed. One batch a trial event, since per-key calls cost three times as much.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segdata.errors import InputError, SegsweepError
from segtrack.store import artifact_location

__all__ = ["RunStatus", "SweepRecorder", "TrackingLost"]

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Kind = Literal["sweep", "trial", "ensemble"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PARAM_LIMIT = 500  # characters that every MLflow store takes
KIND, NUMBER, SWEEP = "segsweep.kind", "segsweep.trial", "segsweep.sweep"
PARENT = "mlflow.parentRunId"


class TrackingLost(SegsweepError):
    """The store did not take what was to be written; it can be written again."""


def loses_tracking(write: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turns what the client raises into `TrackingLost`."""

    @functools.wraps(write)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return write(*args, **kwargs)
        except MlflowException as error:
            raise TrackingLost(str(error).splitlines()[0]) from error

    return guarded


class SweepRecorder:
    """One sweep's runs in an MLflow store.

    Args:
        uri: The store, resolved (`segtrack.store.resolve_uri`).
        project: The experiment's name.
        sweep: The sweep's name; its parent run is found by it or created.
        tags: Put on the parent run (fingerprint, code version).

    Raises:
        InputError: The store does not answer.
    """

    def __init__(self, uri: str, project: str, sweep: str, tags: Mapping[str, str]) -> None:
        self.sweep = sweep
        try:
            self.client = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment(uri, project)
            self.parent = self._parent(tags)
        except MlflowException as error:
            raise InputError.of(
                f"expected an MLflow store that answers, but got {str(error).splitlines()[0]}",
                where=f"tracking.uri {uri}",
                cure="Start the server, or leave the key out for a local store.",
            ) from error
        self._runs = self._known_trials()
        self._epochs: dict[int, set[int]] = {}

    @loses_tracking
    def start_sweep(self) -> None:
        """Marks the sweep's run as running: a new launch or a resume."""
        self.client.update_run(self.parent, status="RUNNING")

    @loses_tracking
    def start_trial(self, number: int, parameters: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Makes sure that the trial has a run; one from before a resume goes on."""
        if number in self._runs:
            return
        run = self._create(f"trial {number:04d}", "trial", {NUMBER: str(number), PARENT: self.parent, **tags})
        self._runs[number] = run
        params = [Param(name, str(value)[:PARAM_LIMIT]) for name, value in parameters.items()]
        self.client.log_batch(run, params=params)

    @loses_tracking
    def record_epoch(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """Writes one epoch's scores, unless that epoch is already there. NaN (an absent class) is left out."""
        known = self._known_epochs(number)
        if epoch in known:
            return
        now_ms = int(time.time() * 1000)
        found = {name: value for name, value in scores.items() if not math.isnan(value)}
        metrics = [Metric(metric_name(name), value, now_ms, epoch) for name, value in found.items()]
        metrics.append(Metric("epoch", epoch, now_ms, epoch))
        self.client.log_batch(self._runs[number], metrics=metrics)
        known.add(epoch)

    @loses_tracking
    def end_trial(
        self, number: int, status: RunStatus, tags: Mapping[str, str], artifacts: Sequence[Path] = ()
    ) -> None:
        """Ends the trial's run with its outcome as tags and its files as artifacts; a run that ended stays so."""
        run = self._runs[number]
        if self.client.get_run(run).info.status not in ("RUNNING", "SCHEDULED"):
            return
        for artifact in artifacts:
            if artifact.is_file():
                self.client.log_artifact(run, str(artifact))
        self.client.log_batch(run, tags=[RunTag(name, value[:PARAM_LIMIT]) for name, value in tags.items()])
        self.client.set_terminated(run, status)

    @loses_tracking
    def end_sweep(self, status: RunStatus, summary: Mapping[str, float], artifacts: Sequence[Path] = ()) -> None:
        """Writes the sweep's summary on the parent run and ends it; a resumed sweep opens it again."""
        now_ms = int(time.time() * 1000)
        found = {name: value for name, value in summary.items() if not math.isnan(value)}
        self.client.log_batch(self.parent, metrics=[Metric(metric_name(n), v, now_ms, 0) for n, v in found.items()])
        for artifact in artifacts:
            self.client.log_artifact(self.parent, str(artifact))
        self.client.set_terminated(self.parent, status)

    @loses_tracking
    def record_ensemble(
        self, name: str, parameters: Mapping[str, object], scores: Mapping[str, float], artifacts: Sequence[Path]
    ) -> str:
        """Writes an ensemble as a child run; returns the run's id."""
        run = self._create(name, "ensemble", {PARENT: self.parent})
        now_ms = int(time.time() * 1000)
        found = {key: value for key, value in scores.items() if not math.isnan(value)}
        self.client.log_batch(
            run,
            metrics=[Metric(metric_name(key), value, now_ms, 0) for key, value in found.items()],
            params=[Param(key, str(value)[:PARAM_LIMIT]) for key, value in parameters.items()],
        )
        for artifact in artifacts:
            self.client.log_artifact(run, str(artifact))
        self.client.set_terminated(run, "FINISHED")
        return run

    def _experiment(self, uri: str, project: str) -> str:
        found = self.client.get_experiment_by_name(project)
        if found is not None:
            return str(found.experiment_id)
        return str(self.client.create_experiment(project, artifact_location=artifact_location(uri, project)))

    def _parent(self, tags: Mapping[str, str]) -> str:
        """Finds the sweep's run of an earlier launch, or creates it."""
        found = self._search(f"tags.`{KIND}` = 'sweep' and tags.`{SWEEP}` = '{self.sweep}'")
        if not found:
            return self._create(self.sweep, "sweep", tags)
        return str(found[0].info.run_id)

    def _known_trials(self) -> dict[int, str]:
        runs = self._search(f"tags.`{PARENT}` = '{self.parent}' and tags.`{KIND}` = 'trial'")
        return {int(run.data.tags[NUMBER]): run.info.run_id for run in runs}

    def _known_epochs(self, number: int) -> set[int]:
        if number not in self._epochs:
            history = self.client.get_metric_history(self._runs[number], "epoch")
            self._epochs[number] = {int(entry.step) for entry in history}
        return self._epochs[number]

    def _create(self, name: str, kind: Kind, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(
            self.experiment, run_name=name, tags={KIND: kind, SWEEP: self.sweep, **tags}
        )
        return str(run.info.run_id)

    def _search(self, query: str) -> list:  # type: ignore[type-arg]
        runs, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment], query, run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs


def metric_name(name: str) -> str:
    """Returns a name that MLflow takes: letters, digits and `_-. /`; anything else becomes `_`."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)
