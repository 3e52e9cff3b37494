"""The journal file: Optuna's own, written in batches, read beside others, and refused by line where it is damaged."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from segdata.errors import InputError, SegsweepError
from segsweep.search.journal import SweepJournal, at_once
from segsweep.search.study import mend_journal, open_study, read_study
from segsweep.search_config import SamplerConfig

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

METRIC = "segm_mAP"
Open = Callable[..., "Search"]


def stock(journal: Path) -> optuna.Study:
    """The study as any program opens it by Optuna's public names, optuna-dashboard too."""
    return optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(journal))))


def a_sweep(search: Open) -> "Search":
    """One trial of each outcome."""
    one = search(budget=9)
    one.searcher.suggest("completed")
    one.finish("completed", [0.1, 0.3, 0.2])
    one.searcher.suggest("stopped")
    one.searcher.on_trial_complete("stopped", {"epoch": 1, METRIC: 0.05, "done": True})
    one.searcher.suggest("crashed")
    one.crash("crashed", "out of memory")
    one.searcher.suggest("failed")
    one.searcher.on_trial_complete("failed", error=True)
    one.searcher.suggest("running")
    one.report("running", 1, 0.25)
    return one


def lines_of(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def test_stock_optuna_sees_params_states_scores_and_constraints(tmp_path: Path, search: Open) -> None:
    one = a_sweep(search)
    trials = stock(tmp_path / "study.journal").trials
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.state for trial in trials] == states
    assert [trial.params["lr"] for trial in trials] == [record.sample["lr"] for record in one.records()]
    assert [trial.intermediate_values for trial in trials[:2]] == [{1: 0.1, 2: 0.3, 3: 0.2}, {1: 0.05}]
    assert trials[0].value == 0.3
    assert [trial.constraints for trial in trials[:3]] == [{"crash": 0.0}, {"crash": 0.0}, {"crash": 1.0}]
    assert stock(tmp_path / "study.journal").direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_suggestion_is_on_disk_whole_or_not_at_all(tmp_path: Path, search: Open) -> None:
    one = search()
    before = lines_of(tmp_path / "study.journal")
    with at_once(one.study):
        trial = one.study.ask()
        trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        assert one.study.trials[0].state == TrialState.RUNNING  # here
        assert lines_of(tmp_path / "study.journal") == before
    after = lines_of(tmp_path / "study.journal")
    assert len(after) > len(before) + 1
    assert stock(tmp_path / "study.journal").trials[0].params == trial.params


def test_an_error_leaves_on_disk_what_this_process_believes(tmp_path: Path, search: Open) -> None:
    one = search()
    with pytest.raises(RuntimeError, match="enough"), at_once(one.study):
        one.study.set_user_attr("end", "early")
        raise RuntimeError("enough")
    assert stock(tmp_path / "study.journal").user_attrs == one.study.user_attrs == {"end": "early"}


def test_notes_that_others_write_meanwhile_hurt_nobody(tmp_path: Path, search: Open) -> None:
    """As optuna-dashboard does: between two trials, and while one is being asked for."""
    one = search(budget=9)
    other = stock(tmp_path / "study.journal")
    one.searcher.suggest("a")
    other.set_user_attr("note", "first")
    one.finish("a", [0.1, 0.2, 0.3])
    with at_once(one.study):
        one.study.set_user_attr("end", "soon")
        other.set_user_attr("note", "second")
        asked = one.study.ask()
        other.set_user_attr("more", "third")
    one.study.tell(asked, 0.5)
    for name in "bcd":
        one.searcher.suggest(name)
        one.finish(name, [0.1, 0.2, 0.3])
    expected = {"note": "second", "more": "third", "end": "soon"}
    for study in (one.study, other, read_study(tmp_path / "study.journal"), stock(tmp_path / "study.journal")):
        assert study.user_attrs == expected
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 5
        assert [trial.value for trial in study.trials] == [0.3, 0.5, 0.3, 0.3, 0.3]


@pytest.mark.parametrize("left", range(1, 9))
def test_a_kill_that_leaves_some_entries_of_a_suggestion_loses_nothing(tmp_path: Path, search: Open, left: int) -> None:
    journal = tmp_path / "study.journal"
    one = search(budget=3)
    one.searcher.suggest("a")
    one.finish("a", [0.1, 0.2, 0.3])
    before = lines_of(journal)
    expected = one.searcher.suggest("b")["trial"]
    batch = lines_of(journal)[len(before) :]
    entries = b"".join(batch[:left])
    journal.write_bytes(b"".join(before) + entries + batch[left][:20] if left < len(batch) else b"".join(before))
    mend_journal(journal)
    two = search(budget=3)
    assert two.searcher.suggest("b")["trial"] == expected
    assert len(two.records()) == 2 and two.records()[1].place == 1


def test_a_line_that_is_no_entry_is_named(tmp_path: Path, search: Open) -> None:
    a_sweep(search)
    journal = tmp_path / "study.journal"
    lines = lines_of(journal)
    for damaged in (b"\x00\xff\x00\n", b'{"op_code": 5, "wor\n', b'{"level": "info"}\n', b"[1, 2]\n", b"\n"):
        journal.write_bytes(b"".join([*lines[:6], damaged, *lines[7:]]))
        for use in (read_study, lambda path: open_study(path, "max", SamplerConfig.model_validate("tpe"), 7)):
            with pytest.raises(InputError, match=r"study.journal:7: expected an entry .*, but got .*Put the file back"):
                use(journal)


def test_the_journal_of_another_study_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    optuna.create_study(study_name="chess", storage=storage)
    before = journal.read_bytes()
    with pytest.raises(InputError, match=r"study.journal: expected the journal of a sweep, but got .* study: chess"):
        open_study(journal, "max", SamplerConfig.model_validate("tpe"), 7)
    assert journal.read_bytes() == before


def test_a_reader_waits_for_the_rest_of_a_line_that_is_being_written(tmp_path: Path, search: Open) -> None:
    search()
    journal = tmp_path / "study.journal"
    reader = read_study(journal)
    entry = json.dumps({"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"note": "here"}}).encode()
    with journal.open("ab") as stream:
        stream.write(entry[:20])
        stream.flush()
        assert reader.user_attrs == {}
        stream.write(entry[20:] + b"\n")
    assert reader.user_attrs == {"note": "here"}


def test_a_journal_that_is_read_makes_no_lock(tmp_path: Path) -> None:
    journal = SweepJournal(tmp_path / "study.journal")
    assert list(journal.read_logs(0)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["study.journal"]


def test_names_that_come_in_each_trial_are_in_memory_once(tmp_path: Path, search: Open) -> None:
    one = search(budget=3)
    for name in "ab":
        one.searcher.suggest(name)
        one.finish(name, [0.1])
    for study in (one.study, read_study(tmp_path / "study.journal")):
        first, second = study.get_trials(deepcopy=False)
        groups = [sorted(trial.user_attrs["config"]) for trial in (first, second)]
        assert len(groups[0]) > 5 and all(a is b for a, b in zip(*groups, strict=True))
        assert all(a is b for a, b in zip(first.params, second.params, strict=True))


@contextmanager
def room_for(journal: Path, more_bytes: int) -> Iterator[None]:
    """Lets the system refuse whatever makes a file longer than the journal by more than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("more_bytes", [0, 30, 300])
def test_a_disk_that_is_full_leaves_the_journal_whole_and_ends_the_launch(
    tmp_path: Path, search: Open, more_bytes: int
) -> None:
    journal = tmp_path / "study.journal"
    one = search(budget=9)
    one.searcher.suggest("first")
    one.report("first", 1, 0.25)
    before = journal.read_bytes()
    full = r"study\.journal: expected a disk that takes the study's entries, but got: File too large.*segsweep resume "
    with room_for(journal, more_bytes), pytest.raises(SegsweepError, match=full):
        one.searcher.suggest("second")  # two dozen entries, more than there is room for
    assert journal.read_bytes() == before
    with pytest.raises(SegsweepError, match="File too large"):  # there is room again, but memory is ahead of the disk
        one.report("first", 2, 0.5)
    assert journal.read_bytes() == before

    resumed = search(budget=9)
    assert [record.scores for record in resumed.records()] == [{1: 0.25}]
    resumed.searcher.suggest("first again")
    resumed.report("first again", 2, 0.5)
    assert resumed.records()[0].scores == {1: 0.25, 2: 0.5}
