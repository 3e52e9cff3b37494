"""Which trials' weights stay while a sweep goes on; the end of a trial costs the same however many there were."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from segsweep.checkpoints import CheckpointKeeper
from segsweep.objectives import Objective
from segsweep.progress import ProgressObserver
from segsweep.run_folder import RunFolder
from segsweep.search.study import TrialRecord

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

SCORE = Objective("segm_mAP", "max")


def record(number: int, score: float, outcome: Any = "completed") -> TrialRecord:
    return TrialRecord(
        number=number,
        origin="sampler",
        sample={},
        config={},
        outcome=outcome,
        reason="",
        scores={1: score},
        best_epoch=1,
        best_score=score,
        planned_epochs=1,
        duration_s=1.0,
    )


def with_weights(folder: RunFolder, *numbers: int) -> None:
    for number in numbers:
        folder.trial(number).directory.mkdir(parents=True)
        folder.trial(number).best.write_bytes(b"weights")


def kept(folder: RunFolder, trials: int) -> set[int]:
    return {number for number in range(trials) if folder.trial(number).best.is_file()}


def test_the_best_two_stay_whenever_a_trial_ends(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with_weights(folder, *range(6))
    keeper = CheckpointKeeper(folder, 2, [SCORE])
    found = []
    for number, score in enumerate([0.3, 0.5, 0.4, 0.1, 0.5, 0.6]):
        keeper.trial_ended(record(number, score))
        found.append(kept(folder, number + 1))
    assert found == [{0}, {0, 1}, {1, 2}, {1, 2}, {1, 4}, {1, 5}]  # of two with 0.5 the earlier one
    assert [keeper.keeps(number) for number in range(6)] == [False, True, False, False, False, True]


def test_fewer_is_better_where_the_score_is_minimized(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with_weights(folder, 0, 1)
    keeper = CheckpointKeeper(folder, 1, [Objective("loss", "min")])
    keeper.trial_ended(record(0, 0.3))
    keeper.trial_ended(record(1, 0.2))
    assert kept(folder, 2) == {1}


def test_a_running_trial_takes_no_place_from_one_that_has_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with_weights(folder, 0, 1)
    keeper = CheckpointKeeper(folder, 1, [SCORE], [record(0, 0.9, "running")])  # it may still break a limit
    keeper.trial_ended(record(1, 0.5))
    assert kept(folder, 2) == {0, 1}


def test_what_an_earlier_launch_left_goes_with_the_next_trial_that_ends(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with_weights(folder, 0, 1, 2)
    keeper = CheckpointKeeper(folder, 1, [SCORE], [record(0, 0.5), record(1, 0.7)])
    assert kept(folder, 3) == {0, 1, 2} and keeper.keeps(1)
    keeper.trial_ended(record(2, 0.6))
    assert kept(folder, 3) == {1}


def test_the_end_of_a_trial_touches_as_many_files_after_300_trials_as_after_10(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[Path] = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (touched.append(path), unlink(path, **options))[1])
    folder = RunFolder(tmp_path)
    keeper = CheckpointKeeper(folder, 3, [SCORE])
    counts = []
    for number in range(300):
        keeper.trial_ended(record(number, number / 300))  # each the best so far: one falls out
        counts.append(len(touched))
        touched.clear()
    assert set(counts[10:]) == {2} and len(keeper.best) == 3 and not keeper.outranked


@pytest.mark.parametrize("further", [(), (Objective("latency_ms", "min"),)], ids=["one", "two"])
def test_no_observer_of_the_driver_looks_through_the_study(
    search: Callable[..., "Search"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, further: tuple[Objective, ...]
) -> None:
    one = search(budget=40, sampler="random", further=further)
    values = {"latency_ms": 5.0} if further else {}
    objectives = [SCORE, *further]
    keeper = CheckpointKeeper(RunFolder(tmp_path), 3, objectives)
    progress = ProgressObserver(Console(file=io.StringIO(), width=120), "segm_mAP", "max", 40, further=further)
    one.searcher.observers = (keeper, progress)
    one.searcher.suggest("first")
    one.finish("first", [0.1, 0.2, 0.3], **values)
    looks = []
    with monkeypatch.context() as patch:
        patch.setattr(one.study, "get_trials", lambda *arguments, **options: looks.append(options))
        for number in range(20):
            one.searcher.suggest(str(number))
            one.finish(str(number), [0.1, 0.2, 0.4 + number / 100], **values)
            progress.summary()
    assert looks == []
    assert {trial.number for trial in keeper.best} == {18, 19, 20}
    assert progress.best is not None and progress.best.number == 20
    assert len(progress.front.points) == 1
