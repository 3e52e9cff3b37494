"""Faults of a cluster, one after the other, on a sweep of real tiny training over three hosts.

Nothing may be lost or double.
Each test has the sweep go on with more trials, waits for an event (an epoch on disk), does harm, waits for the driver's
end and asks the same of the whole sweep (`checks.check`). They stand in the order in which they run.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.cluster.checks import check, history_epochs, resumed_epochs, trial_processes
from tests.cluster.cluster import TINY, Cluster, Driver
from tests.cluster.lab import PATIENCE_S, STORAGE, Host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(4 * PATIENCE_S)]

SWEEP = "lab"
GPU_HOST = "lab-2"
JOB = "lab-job"
MORE = 2  # trials of each leg


@pytest.fixture(scope="module")
def struck() -> Counter[int]:
    """Trial -> how often a fault met it."""
    return Counter()


@pytest.fixture(scope="module")
def sweep(cluster: Cluster) -> Cluster:
    """The cluster, with a sweep that has run undisturbed."""
    cluster.write_sweep(SWEEP)
    ends_well(cluster.drive("run", f"{SWEEP}.yaml"))
    return cluster


@pytest.fixture(autouse=True)
def no_driver_left(cluster: Cluster) -> Iterator[None]:
    """Ends what a failed test left, so that the next one can begin."""
    yield
    with contextlib.suppress(LookupError):
        cluster.driver_process().kill()


def test_a_sweep_runs_over_the_cluster(sweep: Cluster) -> None:
    records = check(sweep, SWEEP)
    assert [record.outcome for record in records] == ["completed", "completed"]


def test_trials_that_ask_for_a_gpu_run_where_one_is(sweep: Cluster) -> None:
    sweep.write_sweep("gpu", resources={"cpu": 0.5, "gpu": 0.5}, fixed=TINY | {"epochs": 1})
    driver, seen = sweep.drive("run", "gpu.yaml"), set[tuple[int, str]]()

    def ended() -> bool:
        seen.update((number, host.name) for number, host, _ in sweep.trainers())
        return driver.process.poll() is not None

    sweep.lab.wait_until(ended, "the end of the sweep")
    ends_well(driver)
    assert seen == {(0, GPU_HOST), (1, GPU_HOST)}
    check(sweep, "gpu")


def test_a_driver_that_is_a_job_goes_on_when_who_submitted_it_has_gone(sweep: Cluster) -> None:
    before = len(sweep.records(SWEEP))
    sweep.submit(JOB, "resume", f"{STORAGE}/runs/{SWEEP}", "--trials", f"+{MORE}")
    sweep.lab.wait_until(lambda: len(sweep.records(SWEEP)) > before, "a trial of the job")
    sweep.lab.wait_until(lambda: all(record.ended for record in sweep.records(SWEEP)), "the end of its trials")
    sweep.lab.wait_until(lambda: "running" not in sweep.job_status(JOB).lower(), "the end of the job")
    assert f"Job '{JOB}' succeeded" in sweep.job_status(JOB)
    assert [record.outcome for record in check(sweep, SWEEP)][before:] == ["completed"] * MORE


def test_a_worker_node_is_killed_in_the_middle_of_an_epoch(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    number, host, _ = after_an_epoch(sweep, driver, lambda host: host is not sweep.head)
    assert sweep.lab.kill_ray(host)
    struck[number] += 1
    ends_well(driver)
    records = check(sweep, SWEEP, struck)
    assert records[number].outcome == "completed"
    assert went_on(sweep, number)
    sweep.wait_for_nodes(len(sweep.lab.hosts))  # the head starts it anew over SSH


def test_a_trial_process_is_killed(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    number, _, process = after_an_epoch(sweep, driver)
    process.kill()
    struck[number] += 1
    ends_well(driver)
    assert check(sweep, SWEEP, struck)[number].outcome == "completed"
    assert went_on(sweep, number)


def test_the_driver_is_killed_and_the_sweep_resumed(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    number, _, _ = after_an_epoch(sweep, driver)
    running = [record.number for record in sweep.records(SWEEP) if not record.ended]
    sweep.driver_process().kill()
    struck.update(running)
    assert driver.wait() != 0
    sweep.lab.wait_until(lambda: not trial_processes(sweep), "the end of its trials")
    assert any(not record.ended for record in sweep.records(SWEEP))
    ends_well(sweep.drive("resume", SWEEP))
    assert check(sweep, SWEEP, struck)[number].outcome == "completed"
    assert went_on(sweep, number)


def test_mlflow_is_away_for_a_while(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    after_an_epoch(sweep, driver)
    sweep.stop_mlflow()
    before = epochs_on_disk(sweep)
    wait(sweep, driver, lambda: epochs_on_disk(sweep) > before, "an epoch without MLflow")
    sweep.start_mlflow()
    ends_well(driver)
    check(sweep, SWEEP, struck)


def test_a_network_is_cut_and_restored(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    number, host, _ = after_an_epoch(sweep, driver, lambda host: host is not sweep.head)
    sweep.lab.cut(host)
    struck[number] += 1
    try:
        wait(sweep, driver, lambda: trains_elsewhere(sweep, number, host), "the trial on another host")
    finally:
        sweep.lab.restore(host)
    ends_well(driver)
    assert check(sweep, SWEEP, struck)[number].outcome == "completed"
    assert went_on(sweep, number)
    sweep.wait_for_nodes(len(sweep.lab.hosts))


def test_the_head_is_lost_and_the_sweep_resumed_on_a_new_one(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    number, _, _ = after_an_epoch(sweep, driver)
    lost, others = sweep.head, [host for host in sweep.lab.hosts if host is not sweep.head]
    struck.update(record.number for record in sweep.records(SWEEP) if not record.ended)
    sweep.lab.down(lost)
    assert driver.wait() != 0
    sweep.bring_up(others[0], others[1:])
    sweep.lab.wait_until(lambda: not trial_processes(sweep), "the end of its trials")
    ends_well(sweep.drive("resume", SWEEP))
    assert check(sweep, SWEEP, struck)[number].outcome == "completed"
    assert went_on(sweep, number)


def test_the_storage_fills_up_and_is_freed(sweep: Cluster, struck: Counter[int]) -> None:
    driver = go_on(sweep)
    number, _, _ = after_an_epoch(sweep, driver)
    struck.update(record.number for record in sweep.records(SWEEP) if not record.ended)
    sweep.lab.fill()
    try:
        driver.wait()
    finally:
        sweep.lab.free()
    assert tells_of_full_disk(driver.told())  # the launch has ended, or goes on in the room of a trial that failed
    ends_well(sweep.drive("resume", SWEEP))
    record = check(sweep, SWEEP, struck)[number]
    assert record.outcome == "completed" or tells_of_full_disk(record.reason)


def tells_of_full_disk(text: str) -> bool:
    """Tells whether a text says that, in the system's words or in a trial's."""
    return "No space left on device" in text or "expected room on the disk" in text


def go_on(sweep: Cluster) -> Driver:
    """Starts a driver that has the sweep go on with more trials."""
    return sweep.drive("resume", SWEEP, "--trials", f"+{MORE}")


def ends_well(driver: Driver) -> None:
    """Waits for the driver; what it prints on standard output is JSON and nothing else."""
    assert driver.wait() == 0, driver.told()
    assert json.loads(driver.out.read_text())


def wait(sweep: Cluster, driver: Driver, condition: Callable[[], object], what: str) -> None:
    """Waits for something to happen while the driver runs."""

    def happened() -> object:
        assert driver.process.poll() is None, f"ended before {what}: {driver.told()}"
        return condition()

    sweep.lab.wait_until(happened, what)


def after_an_epoch(
    sweep: Cluster, driver: Driver, suits: Callable[[Host], bool] = lambda host: True
) -> tuple[int, Host, psutil.Process]:
    """Waits until a trial has finished an epoch and is in the next one; returns it, and where and by what it trains.

    The checkpoint of an epoch is written after its line in the history.
    """
    found: list[tuple[int, Host, psutil.Process]] = []

    def look() -> bool:
        for number, host, process in sweep.trainers():
            has_checkpoint = sweep.run_folder(SWEEP).trial(number).last.is_file()
            epochs = len(history_epochs(sweep, SWEEP, number))
            if suits(host) and has_checkpoint and epochs < TINY["epochs"] - 1:  # type: ignore[operator]
                found.append((number, host, process))
        return bool(found)

    wait(sweep, driver, look, "an epoch")
    return found[0]


def went_on(sweep: Cluster, number: int) -> bool:
    """Tells whether a trial went on from a checkpoint, not from its beginning."""
    return any(epoch >= 1 for epoch in resumed_epochs(sweep, SWEEP, number))


def trains_elsewhere(sweep: Cluster, number: int, host: Host) -> bool:
    """Tells whether a trial trains on another host than that one."""
    return any(one == number and place is not host for one, place, _ in sweep.trainers())


def epochs_on_disk(sweep: Cluster) -> int:
    """Returns how many lines all histories have."""
    return sum(len(history_epochs(sweep, SWEEP, record.number)) for record in sweep.records(SWEEP))
