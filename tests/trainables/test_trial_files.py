"""A trial's history after what can happen to its file."""

from pathlib import Path

import pytest

from trainables.trial_files import EpochScores, TrialFiles

ROWS = tuple(EpochScores(epoch, {"mIoU": epoch / 10}) for epoch in (1, 2, 3))


def test_epochs_come_back_as_they_were_written(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path)
    assert files.read_history() == ()
    for row in (ROWS[1], ROWS[0], ROWS[2], EpochScores(2, {"mIoU": 0.5})):
        files.append_history(row)
    assert files.read_history() == (ROWS[0], EpochScores(2, {"mIoU": 0.5}), ROWS[2])
    assert files.history.read_text().count("\n") == 4 and "\n\n" not in files.history.read_text()


@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_line_that_was_cut_short_does_not_take_the_next_one_along(tmp_path: Path, kept: int) -> None:
    files = TrialFiles(tmp_path)
    for row in ROWS[:2]:
        files.append_history(row)
    whole = files.history.read_bytes()
    second = whole.index(b"\n") + 1
    files.history.write_bytes(whole[: second + kept] if kept > 0 else whole[:kept])  # -1: all of it but its end
    files.append_history(ROWS[2])
    lost = {2} if kept > 0 else set()
    assert [row.epoch for row in files.read_history()] == [epoch for epoch in (1, 2, 3) if epoch not in lost]
