"""Epochs of a trial as folders like a trial's."""

import os
from pathlib import Path

from segsweep.ensembles.epochs import epoch_members
from trainables.trial_files import TrialFiles


def test_each_epoch_that_is_kept_gets_config_and_weights_at_no_cost(tmp_path: Path) -> None:
    trial = TrialFiles(tmp_path / "0001")
    trial.epochs.mkdir(parents=True)
    trial.config.write_text("model = 1\n")
    for epoch in (24, 6):
        trial.epoch_weights(epoch).write_bytes(b"epoch %d" % epoch)
    members = epoch_members(trial)
    assert [member.directory.name for member in members] == ["0006", "0024"]
    assert [member.best.read_bytes() for member in members] == [b"epoch 6", b"epoch 24"]
    assert all(os.path.samefile(member.config, trial.config) for member in members)
    assert os.path.samefile(members[1].best, trial.epoch_weights(24))
    assert epoch_members(trial) == members
    trial.drop_epochs()
    assert epoch_members(trial) == () and trial.config.is_file()
