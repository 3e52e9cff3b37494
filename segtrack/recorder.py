"""Writing a sweep to MLflow so that it can be written again: every call finds what is already there.

The recorder is a projection of the study and the trial directories: a trial has one run, an epoch one value a metric,
however often a sweep is resumed. One batch a trial event, since per-key calls cost three times as much.
"""

import functools
import json
import logging
import math
import os
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segdata.errors import InputError, SegsweepError
from segtrack.store import artifact_location

__all__ = ["RunStatus", "SweepRecorder", "TrackingLostError", "entry_name"]

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Kind = Literal["sweep", "trial", "fold", "ensemble"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

VALUE_LIMIT = 500  # characters of a parameter or tag that every MLflow store takes
NAME_LIMIT = 250
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100
KIND, NUMBER, SWEEP, SWEEP_ID = "segsweep.kind", "segsweep.trial", "segsweep.sweep", "segsweep.sweep_id"
PARENT = "mlflow.parentRunId"
FOLD = "segsweep.fold"
ENSEMBLE = "segsweep.ensemble"
MUTATIONS = "segsweep.mutations"
TRAINING_PAGES = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow shows its pages for agents
SETTINGS = {
    # A server that is away must not hold a sweep up for the four minutes that are MLflow's default; and one that took
    # a run without saying so would get a second one. What was missed is written later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where `--json` writes
}
CHATTY = ("mlflow.store.db.utils", "alembic")  # tell of every table that they create


class TrackingLostError(SegsweepError):
    """The store did not take what was to be written; it can be written again."""


def loses_tracking(write: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turns what the client raises, or the disk below a store's files, into `TrackingLostError`."""

    @functools.wraps(write)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return write(*args, **kwargs)
        except (MlflowException, OSError) as error:
            raise TrackingLostError(first_line(error)) from error

    return guarded


class SweepRecorder:
    """One sweep's runs in an MLflow store.

    Args:
        uri: The store, resolved (`segtrack.store.resolve_uri`).
        project: The experiment's name; it is created if there is none.
        sweep: The sweep's name, which its runs show.
        sweep_id: Tells the sweep from others of the same name; its run is found by it, or created.
        tags: Put on the sweep's run when that is created (fingerprint, code version).

    Raises:
        InputError: The store does not answer.
    """

    def __init__(self, uri: str, project: str, sweep: str, sweep_id: str, tags: Mapping[str, str]) -> None:
        self.sweep, self.sweep_id, self.tags = sweep, sweep_id, tags
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        for logger in CHATTY:
            logging.getLogger(logger).setLevel(logging.WARNING)
        try:
            self.client = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment(uri, project)
        except Exception as error:  # SQLAlchemy's and a dozen others come through as they are
            raise InputError.of(
                f"expected an MLflow store that answers, but got {type(error).__name__}: {first_line(error)}",
                where=f"tracking.uri {uri}",
                cure="Start the server, or leave the key out for a local store.",
            ) from error
        self._parent: str | None = None
        self._runs: dict[int, Run] = {}
        self._asked_for: set[int] = set()
        self._epochs: dict[int, set[int]] = {}

    @property
    def parent(self) -> str:
        """The id of the sweep's own run, found or created when it is first asked for."""
        if self._parent is None:
            found = self._search(f"tags.`{KIND}` = 'sweep' and tags.`{SWEEP_ID}` = '{self.sweep_id}'")
            parent = found[0] if found else self._create(self.sweep, "sweep", self.tags)
            self._parent = str(parent.info.run_id)
            runs = self._search(f"tags.`{PARENT}` = '{self._parent}' and tags.`{KIND}` = 'trial'")
            self._runs = {int(run.data.tags[NUMBER]): run for run in runs}
        return self._parent

    def answers(self) -> bool:
        """Tells whether the store is there."""
        try:
            self.client.get_experiment(self.experiment)
        except (MlflowException, OSError):
            return False
        return True

    @loses_tracking
    def start_sweep(self) -> None:
        """Marks the sweep's run as running: a new launch or a resume."""
        self.client.update_run(self.parent, status="RUNNING")

    @loses_tracking
    def start_trial(self, number: int, parameters: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Makes sure that the trial has a run with its parameters; one from before a resume goes on."""
        parent = self.parent
        if number not in self._runs:
            own = {NUMBER: str(number), PARENT: parent}
            found = self._find("trial", own) if number in self._asked_for else []
            self._asked_for.add(number)  # a store that is lost may have made it without saying so
            self._runs[number] = found[0] if found else self._create(f"trial {number:04d}", "trial", {**own, **tags})
            self._epochs[number] = set()
        known = self._runs[number].data.params
        params = [param for param in as_params(parameters) if param.key not in known]
        if params:
            self._log(number, params=params)
            known.update({param.key: param.value for param in params})

    @loses_tracking
    def record_epoch(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """Writes one epoch's scores, unless that epoch is already there. NaN (an absent class) is left out."""
        known = self._known_epochs(number)
        if epoch in known:
            return
        del self._epochs[number]  # a store that is lost may have taken it without saying so: it is asked again then
        # "epoch" comes last: it marks the epoch as written whole.
        self._log(number, metrics=as_metrics({**scores, "epoch": float(epoch)}, epoch))
        self._epochs[number] = known | {epoch}

    @loses_tracking
    def record_mutations(self, number: int, mutations: Sequence[Mapping[str, Any]]) -> None:
        """Writes the values that changed while a trial trained: metrics `pbt/KNOB` at the epochs from which they held,
        `pbt/from` for whose state it went on from, and all of it as a tag. What is there already stays.

        Args:
            number: The trial.
            mutations: For each `epoch`, `donor` (a trial's number or None) and `values` (knob -> number).
        """
        run, metrics = self._runs[number].info.run_id, []
        known = {entry.step for entry in self.client.get_metric_history(run, "pbt/epoch")}
        for mutation in mutations:
            if mutation["epoch"] not in known:
                values = {f"pbt/{name}": float(value) for name, value in mutation["values"].items()}
                if mutation["donor"] is not None:
                    values["pbt/from"] = float(mutation["donor"])
                values["pbt/epoch"] = float(mutation["epoch"])  # last: it marks the mutation as written whole
                metrics += as_metrics(values, mutation["epoch"])
        if metrics:
            self.client.log_batch(run, tags=[RunTag(MUTATIONS, newest_that_fit(mutations))])
            self._log(number, metrics=metrics)

    @loses_tracking
    def end_trial(
        self, number: int, status: RunStatus, tags: Mapping[str, str], artifacts: Sequence[Path] = ()
    ) -> None:
        """Ends the trial's run with its outcome as tags and its files as artifacts; a run that ended stays so."""
        run = self._runs[number].info.run_id
        if self.client.get_run(run).info.status not in ("RUNNING", "SCHEDULED"):
            return
        for artifact in artifacts:
            if artifact.is_file():
                self.client.log_artifact(run, str(artifact))
        self.client.log_batch(run, tags=as_tags(tags))
        self.client.set_terminated(run, status)

    @loses_tracking
    def tag_trials(self, name: str, values: Mapping[int, str]) -> None:
        """Sets a tag of trials' runs, number -> value; a run that has it is left alone."""
        assert self.parent  # asking for it finds the runs
        for number, value in values.items():
            run = self._runs.get(number)
            if run is not None and run.data.tags.get(name) != value:
                self.client.set_tag(run.info.run_id, name, value)
                run.data.tags[name] = value

    @loses_tracking
    def end_sweep(
        self,
        status: RunStatus,
        summary: Mapping[str, float],
        artifacts: Sequence[Path] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Writes the sweep's summary and tags on its own run and ends it; a resumed sweep opens it again."""
        self.client.log_batch(self.parent, metrics=as_metrics(summary, 0), tags=as_tags(tags or {}))
        for artifact in artifacts:
            self.client.log_artifact(self.parent, str(artifact))
        self.client.set_terminated(self.parent, status)

    @loses_tracking
    def record_ensemble(
        self,
        name: str,
        folder: str,
        parameters: Mapping[str, object],
        scores: Mapping[str, float],
        artifacts: Sequence[Path],
    ) -> str:
        """Writes an ensemble as a child run, once; returns the run's id.

        One that was broken off goes on. An ensemble of the same folder with other parameters or scores gets a run of
        its own.

        Args:
            name: Of the run.
            folder: Where the ensemble lies below the sweep's ensembles; tells it from others.
            parameters: Method, members, settings.
            scores: On the images that it is scored on.
            artifacts: Files to add.
        """
        tags = {ENSEMBLE: folder, PARENT: self.parent}
        params, metrics = as_params(parameters), as_metrics(scores, 0)
        texts, numbers = {one.key: one.value for one in params}, {one.key: one.value for one in metrics}
        written = [
            run
            for run in self._find("ensemble", tags)
            if run.data.params.items() <= texts.items() and run.data.metrics.items() <= numbers.items()
        ]
        for run in written:
            if run.info.status == "FINISHED":
                return str(run.info.run_id)
        begun = written[0] if written else self._create(name, "ensemble", tags)
        number = str(begun.info.run_id)
        if (begun.data.params, begun.data.metrics) != (texts, numbers):
            self.client.log_batch(number, metrics=metrics, params=params)
        for artifact in artifacts:
            self.client.log_artifact(number, str(artifact))
        self.client.set_terminated(number, "FINISHED")
        return number

    @loses_tracking
    def record_fold(
        self,
        number: int,
        fold: int,
        folds: int,
        parameters: Mapping[str, object],
        epochs: Mapping[int, Mapping[str, float]],
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Writes the network that held out one of `folds` parts of the data as a child run, once.

        One that was broken off goes on.

        Args:
            number: The trial whose configuration it has.
            fold: Which part, from 0.
            folds: How many parts there are.
            parameters: The configuration.
            epochs: Epoch -> scores on the part held out.
            artifacts: Files to add.
        """
        tags = {FOLD: f"{fold} of {folds}", NUMBER: str(number), PARENT: self.parent}
        found = self._find("fold", tags)
        if any(run.info.status == "FINISHED" for run in found):
            return
        begun = found[0] if found else self._create(f"fold {fold} of trial {number:04d}", "fold", tags)
        run = str(begun.info.run_id)
        known = {int(entry.step) for entry in self.client.get_metric_history(run, "epoch")} if found else set()
        for epoch, scores in epochs.items():
            if epoch in known:
                continue
            self.client.log_batch(run, metrics=as_metrics({**scores, "epoch": float(epoch)}, epoch))
        params = as_params(parameters)
        for start in range(0, len(params), PARAMS_A_BATCH):
            self.client.log_batch(run, params=params[start : start + PARAMS_A_BATCH])
        for artifact in artifacts:
            self.client.log_artifact(run, str(artifact))
        self.client.set_terminated(run, "FINISHED")

    def _experiment(self, uri: str, project: str) -> str:
        found = self.client.get_experiment_by_name(project)
        if found is not None:
            return str(found.experiment_id)
        location = artifact_location(uri, project)
        return str(self.client.create_experiment(project, artifact_location=location, tags=TRAINING_PAGES))

    def _known_epochs(self, number: int) -> set[int]:
        if number not in self._epochs:
            history = self.client.get_metric_history(self._runs[number].info.run_id, "epoch")
            self._epochs[number] = {int(entry.step) for entry in history}
        return self._epochs[number]

    def _log(self, number: int, *, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> None:
        """Writes to a trial's run in batches that every store takes."""
        run = self._runs[number].info.run_id
        for start in range(0, len(metrics), METRICS_A_BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + METRICS_A_BATCH])
        for start in range(0, len(params), PARAMS_A_BATCH):
            self.client.log_batch(run, params=params[start : start + PARAMS_A_BATCH])

    def _create(self, name: str, kind: Kind, tags: Mapping[str, str]) -> Run:
        own = {KIND: kind, SWEEP: self.sweep, SWEEP_ID: self.sweep_id}
        return self.client.create_run(self.experiment, run_name=name, tags={**own, **tags})

    def _find(self, kind: Kind, tags: Mapping[str, str]) -> list[Run]:
        wanted = {KIND: kind, **tags}
        return self._search(" and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items()))

    def _search(self, query: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment], query, run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs


def newest_that_fit(items: Sequence[Mapping[str, Any]]) -> str:
    """Returns the last of some records as a JSON list, as many as a tag takes."""
    for start in range(len(items)):
        text = json.dumps(list(items[start:]))
        if len(text) <= VALUE_LIMIT:
            return text
    return "[]"


def as_metrics(values: Mapping[str, float], step: int) -> list[Metric]:
    """Returns finite values as metrics of one step."""
    now_ms = int(time.time() * 1000)
    return [Metric(entry_name(name), value, now_ms, step) for name, value in values.items() if math.isfinite(value)]


def as_tags(tags: Mapping[str, str]) -> list[RunTag]:
    """Returns tags, cut to the length that stores take."""
    return [RunTag(name, value[:VALUE_LIMIT]) for name, value in tags.items()]


def as_params(values: Mapping[str, object]) -> list[Param]:
    """Returns values as parameters."""
    return [Param(entry_name(name), str(value)[:VALUE_LIMIT]) for name, value in values.items()]


def entry_name(name: str) -> str:
    """Returns a name that MLflow takes: letters, digits and `_-. /`, written as a plain relative path.

    Anything else becomes `_`: a class "bag (new)" is `bag _new_`, an override of `rcnn[*].x` is `rcnn___.x`.
    """
    plain = "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    return posixpath.join(*parts)[:NAME_LIMIT].rstrip("/") if parts else "_"


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
