"""Starts and resumes sweeps: checks, Ray, MLflow, then the trials that the study lacks.

A launch and a resume are the same thing: whatever the study says is unfinished comes first, under its own number and
folder. Imports ray and mlflow; the heavy packages stay in the trials' processes.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Literal

from rich.console import Console

from segdata.errors import InputError, TrialSiteError
from segsweep.checkpoints import CheckpointKeeper, store_of
from segsweep.clusters.fleet import Fleet, checked_fleet
from segsweep.clusters.node_facts import gpu_memory_in_reach
from segsweep.clusters.waiting import WaitingCallback
from segsweep.ending import Extension, budget_of, extended, over, record_end, record_extension
from segsweep.image_sums import with_sums
from segsweep.initial_weights import keep_copies
from segsweep.launch_checks import Checked, check_sweep
from segsweep.launch_resources import launch_resources
from segsweep.leaderboard import rank
from segsweep.pareto import numbers_on_front
from segsweep.progress import ProgressObserver
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources, cluster_nodes, this_machine
from segsweep.run_folder import Origin, RunFolder
from segsweep.search.budget import End, Spent
from segsweep.search.generations import PopulationSearcher
from segsweep.search.proposals import enqueue_baseline, enqueue_wish
from segsweep.search.searcher import StudySearcher, SweepObserver
from segsweep.search.study import Study, TrialRecord, trial_records
from segsweep.starting_points import prior_points
from segsweep.sweep_file import Sweep
from segsweep.tracking import TrackingObserver
from segsweep.tuning import fit, scheduler_of, trial_context
from segsweep.wishes import Wishes
from segtrack.recorder import SweepRecorder

__all__ = ["SweepResult", "resume", "start"]

PARETO_FRONT = "segsweep.pareto_front"  # MLflow tag of a trial
STORE_PATIENCE_S = 60.0  # for an MLflow server that is away when the sweep is over


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a launch leaves: all trials, and why it ended."""

    records: tuple[TrialRecord, ...]
    end: End
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether all trials of the budget have ended."""
        return self.end == "finished"


def start(sweep: Sweep, console: Console, address: str | None = None) -> SweepResult:
    """Starts a new sweep and runs it to the end of its budget.

    Raises:
        InputError: Its name is taken, or something about it is wrong; nothing was written then.
    """
    folder = RunFolder(sweep.path)
    with stopped_by_sigterm(), folder.locked():
        if folder.exists:
            refuse_taken_name(sweep, folder)
        return launch(sweep, folder, console, address)


def resume(
    sweep: Sweep, console: Console, address: str | None = None, extension: Extension | None = None
) -> SweepResult:
    """Goes on with a sweep from wherever its study stands; a finished one only has its MLflow runs completed.

    Args:
        sweep: As it was started.
        console: Where progress goes.
        address: Of a Ray cluster; None = here.
        extension: What is added to its budget, for good.

    Raises:
        InputError: It is running, or its data or store is not what it was.
    """
    folder = RunFolder(sweep.path)
    with stopped_by_sigterm(), folder.locked():
        study = folder.study(writable=True)
        sweep = extended(sweep, study, extension)
        spent = over(sweep, study)
        if spent is None:
            return launch(sweep, folder, console, address)
        console.print(f"{sweep.config.name} has finished: {spent.reason}", highlight=False)
        records = trial_records(study)
        recorder = open_recorder(sweep, folder.read_origin(), {})
        tracking = TrackingObserver(recorder, folder.trial, keeper_of(sweep, folder, records).keeps)
        tracking.synchronize(records)
        end_run(tracking, sweep, records, spent)
        return SweepResult(records, spent.end, spent.reason)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM do what Ctrl-C does, for as long as the block lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt(number: int, frame: object) -> None:
    """Acts like Ctrl-C, also where that is ignored: a script's `&` starts its processes so."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def refuse_taken_name(sweep: Sweep, folder: RunFolder) -> None:
    """Raises InputError that says how far the sweep of this name is."""
    name = sweep.config.name
    study = folder.study()
    finished = over(extended(sweep, study), study) is not None
    raise InputError.of(
        f"expected a new name, but {name!r} is a sweep that has {'' if finished else 'not '}finished",
        where=folder.path,
        cure=f"Choose another name, or see its trials by `segsweep best {folder.path}`; "
        f"for more of them: `segsweep resume {folder.path} --trials +10`."
        if finished
        else f"Go on with `segsweep resume {folder.path}`, or choose another name.",
    )


def launch(sweep: Sweep, folder: RunFolder, console: Console, address: str | None) -> SweepResult:
    """Checks everything, starts Ray and opens the store side by side, then writes the folder and runs."""
    console.print(f"checking data and space of {sweep.config.name}", highlight=False)
    checked = check_sweep(sweep, folder, console)
    check_store(sweep, checked.origin)
    with ExitStack() as stack:
        fleet = None
        if address is not None:
            stack.enter_context(ray_session(address, console))
            fleet = checked_fleet(sweep, checked.roles, checked.local, console)
        nodes = this_machine() if address is None else cluster_nodes()
        gpus_gb = gpu_memory_in_reach() if fleet is None else fleet.checked.gpus_gb
        resources = launch_resources(sweep, nodes, gpus_gb)
        pool = stack.enter_context(ThreadPoolExecutor(1))
        opening: Future[SweepRecorder] = pool.submit(open_recorder, sweep, checked.origin, run_tags(sweep, checked))
        if address is None:
            stack.enter_context(ray_session(None, console))
        recorder = opening.result()
        data = with_sums(sweep, checked.roles, checked.data, folder.data, console, anew=not folder.exists)
        checked = replace(checked, data=data)
        if not folder.exists:
            checked.roles.write(folder.data)
            begin = checked.points
            begin += prior_points(sweep, checked.fitted, begin, resources.gpu, console, here=address is None)
            folder.create(sweep, checked.origin, begin)
        return run_trials(sweep, folder, checked, recorder, resources, console, fleet)


def check_store(sweep: Sweep, origin: Origin) -> None:
    """Raises InputError if checkpoints can't be written where the sweep file says."""
    store = store_of(sweep.config, origin)
    if store is None:
        return
    try:
        store.try_out()
    except TrialSiteError as error:
        raise InputError(str(error)) from error


def open_recorder(sweep: Sweep, origin: Origin, tags: Mapping[str, str]) -> SweepRecorder:
    """Opens the store; `tags` are for the sweep's run if there is none yet."""
    return SweepRecorder(sweep.tracking_uri, sweep.project, sweep.config.name, origin.id, tags)


def run_tags(sweep: Sweep, checked: Checked) -> dict[str, str]:
    """Returns what the sweep's own run says about it."""
    tags = {
        "segsweep.version": version("segsweep"),
        "segsweep.task": sweep.config.task,
        "segsweep.metric": sweep.config.metric,
        "segsweep.mode": sweep.config.mode,
        "segsweep.seed": str(sweep.config.search.seed),
        "segsweep.fingerprint": checked.origin.fingerprint,
    }
    if len(sweep.config.objectives) > 1:
        tags["segsweep.objectives"] = ", ".join(f"{name} {mode}" for name, mode in sweep.config.objectives)
    if sweep.config.constraints:
        tags["segsweep.constraints"] = ", ".join(sweep.config.constraints)
    return tags | {f"segsweep.fingerprint.{name}": role.fingerprint for name, role in checked.roles.roles.items()}


def keeper_of(sweep: Sweep, folder: RunFolder, before: Sequence[TrialRecord]) -> CheckpointKeeper:
    """Returns the observer that decides which weights stay on disk."""
    config = sweep.config
    store = store_of(config, folder.read_origin())
    return CheckpointKeeper(folder, config.storage.keep_checkpoints, config.objectives, before, store)


def run_trials(
    sweep: Sweep,
    folder: RunFolder,
    checked: Checked,
    recorder: SweepRecorder,
    resources: TrialResources,
    console: Console,
    fleet: Fleet | None,
) -> SweepResult:
    """Runs what the study lacks, and records it; `fleet` are the nodes of a cluster, None = this machine."""
    config = sweep.config
    study = folder.study(writable=True)
    record_extension(study, folder.config().budget, config.budget)
    enqueue_baseline(study, sweep.space, checked.fitted)
    for point in folder.read_points():
        enqueue_wish(study, point, point.id.partition("-")[0])
    before = trial_records(study)
    show_plan(sweep, sum(record.ended for record in before), resources, console)
    keeper = keeper_of(sweep, folder, before)
    tracking = TrackingObserver(recorder, folder.trial, keeper.keeps)
    tracking.write(recorder.start_sweep, "the start of the sweep")
    tracking.synchronize(before)
    deadline_unix_s = None if config.budget.hours is None else time.time() + 3600 * config.budget.hours
    local = keep_copies(folder, checked.local)
    site = None if fleet is None else fleet.site(folder.origin)
    context = trial_context(sweep, checked.data, resources, deadline_unix_s, local, site)
    further = config.objectives[1:]
    with (
        ProgressObserver(console, config.metric, config.mode, config.budget.trials, before, further) as progress,
        nullcontext() if fleet is None else fleet.late_nodes(resources, console),
    ):
        observers: tuple[SweepObserver, ...] = (keeper, tracking, progress)  # who asks the keeper comes after it
        for attempt in range(config.max_failures + 1):
            searcher = searcher_of(sweep, folder, study, observers, resources, deadline_unix_s)
            last = attempt == config.max_failures
            waiting = WaitingCallback(no_line if fleet is None else progress.waits_for, searcher.trial_placed)
            if not searcher.left or fit(searcher, context, resources, folder, last_attempt=last, callbacks=[waiting]):
                break
        if (spent := searcher.spent()) is not None:
            searcher.end_unfinished(f"the sweep ended: {spent.reason}")
    records = trial_records(study)
    ended = over(sweep, study) or cut_short(sweep, records, deadline_unix_s)
    record_end(study, ended)
    end_run(tracking, sweep, records, ended)
    return SweepResult(records, ended.end, ended.reason)


def no_line(line: str) -> None:
    """Says nothing: on one machine trials that wait are those beyond its places."""


def searcher_of(
    sweep: Sweep,
    folder: RunFolder,
    study: Study,
    observers: Sequence[SweepObserver],
    resources: TrialResources,
    deadline_unix_s: float | None,
) -> StudySearcher:
    """Returns a searcher that goes on from where the study stands."""
    config = sweep.config
    population = config.search.scheduler.pbt
    kind = StudySearcher if population is None else partial(PopulationSearcher, population=population)
    return kind(
        study,
        sweep.space,
        metric=config.metric,
        mode=config.mode,
        budget=budget_of(sweep),
        files_of=folder.trial,
        scheduler=scheduler_of(sweep, trial_records(study)),
        observers=observers,
        deadline_unix_s=deadline_unix_s,
        grid=config.search.sampler.grid is not None,
        seed=config.search.seed,
        wishes=Wishes(folder.wishes),
        devices=resources.devices,
        devices_by_model={name: one.devices for name, one in resources.models.items()},
        further=config.objectives[1:],
        limits=config.limits,
    )


def cut_short(sweep: Sweep, records: tuple[TrialRecord, ...], deadline_unix_s: float | None) -> Spent:
    """Tells why a launch ended before its sweep was over."""
    if deadline_unix_s is None or time.time() < deadline_unix_s:
        return Spent("interrupted", "interrupted")
    ended, budget = sum(record.ended for record in records), sweep.config.budget
    return Spent(
        "out-of-time", f"the {budget.hours:g} h of the budget are over after {ended} of {budget.trials} trials"
    )


def show_plan(sweep: Sweep, ended: int, resources: TrialResources, console: Console) -> None:
    """Prints what is about to run, and where."""
    models = "".join(f"; {name} with {one.told}" for name, one in resources.models.items())
    console.print(
        f"{sweep.config.name}: {sweep.config.budget.trials} trials ({ended} have ended), "
        f"{resources.concurrent} at a time with {resources.told} each{models}",
        f"folder: {sweep.path}",
        f"mlflow: {sweep.tracking_uri}",
        sep="\n",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def end_run(tracking: TrackingObserver, sweep: Sweep, records: tuple[TrialRecord, ...], ended: Spent) -> None:
    """Writes what MLflow has missed, and closes the sweep's own run with its best score and why the launch ended."""
    tracking.catch_up_at_last(0.0 if ended.end == "interrupted" else STORE_PATIENCE_S)
    best = rank(records, sweep.config.mode)[:1]
    summary = {f"best_{sweep.config.metric}": record.best_score for record in best}
    summary["trials"] = float(len(records))
    if len(sweep.config.objectives) > 1:
        on_front = numbers_on_front(records, sweep.config.objectives)
        front_tags = {record.number: str(record.number in on_front).lower() for record in records if record.ended}
        tracking.write(lambda: tracking.recorder.tag_trials(PARETO_FRONT, front_tags), "who is on the Pareto front")
    status: Literal["KILLED", "FINISHED"] = "KILLED" if ended.end == "interrupted" else "FINISHED"
    tags = {"segsweep.end": ended.end, "segsweep.end_reason": ended.reason}
    tracking.write(
        lambda: tracking.recorder.end_sweep(status, summary, [RunFolder(sweep.path).sweep_file], tags),
        "the end of the sweep",
    )
