"""Weight averages of a sweep's networks as folders that predict."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError
from segdata.predictions import PredictionSet
from segsweep.data_roles import SweepRoles, read_roles
from segsweep.ensembles.averages import average_members
from segsweep.predicting import How, predict_images
from segsweep.prediction_source import Network, images_of_data
from segsweep.run_folder import RunFolder
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.fork_server import Ended, start_child
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

QUIET = Console(file=io.StringIO())


def trained(sweep: Sweep, roles: SweepRoles, trial: TrialConfig, files: TrialFiles) -> TrialFiles:
    """Trains a trial that keeps its two last epochs."""
    request = TrialRequest(
        trial, roles.describe(RunFolder(sweep.path).data), files.directory, "mIoU", "max", 7, keep_epochs=2
    )
    child = start_child("trainables.trial:train", request, files.log)
    try:
        while not isinstance(message := child.receive(120), Ended):
            assert message is not None
            child.answer("go on")
    finally:
        child.stop()
    assert message == Ended("done"), files.log.read_text()
    return files


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state_dict"])


@pytest.mark.slow
def test_two_epochs_make_a_network_that_is_neither_and_predicts(
    begun: Callable[..., Sweep], record_of: Callable[..., TrialRecord], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, "semantic", 4, 2)
    roles, trial = read_roles(sweep), TrialConfig.from_dict(record_of(0, "segformer", 4).config)
    roles.write(RunFolder(sweep.path).data)
    files = trained(sweep, roles, trial, RunFolder(sweep.path).trial(0))
    members = []
    for epoch in files.kept_epochs():
        members.append(TrialFiles(tmp_path / str(epoch)))
        members[-1].directory.mkdir()
        shutil.copyfile(files.config, members[-1].config)
        shutil.copyfile(files.epoch_weights(epoch), members[-1].best)
    made = average_members(sweep, roles, trial, members, 1, QUIET)
    told = json.loads((made.directory / "average.json").read_text())
    assert [Path(entry["path"]) for entry in told["checkpoints"]] == [member.best for member in members]
    assert told["batch_norms"] >= 1 and told["images"] == 4
    one, two, mean = (tensors(path) for path in (members[0].best, members[1].best, made.best))
    weight = next(name for name, value in one.items() if name.endswith("weight") and not torch.equal(value, two[name]))
    assert torch.allclose(mean[weight], (one[weight] + two[weight]) / 2)
    found = []
    for member in (*members, made):
        network = Network(member.config, member.best, custom_imports=(), folder=sweep.folder)
        out = predict_images(
            network, images_of_data(roles.roles["val"]), tmp_path / "out" / member.directory.name, How(), QUIET
        )
        found.append(PredictionSet.open(out.out).packed(roles.roles["val"].names[0]))
    assert not np.array_equal(found[2], found[0]) and not np.array_equal(found[2], found[1])
    before = made.best.stat().st_mtime_ns
    assert average_members(sweep, roles, trial, members, 1, QUIET) == made
    assert made.best.stat().st_mtime_ns == before
    other = {name: value for name, value in one.items() if name != weight}
    torch.save({"meta": {}, "state_dict": other | {weight: torch.zeros(3)}}, members[1].best)
    with pytest.raises(InputError, match=rf"with shape .* for {weight}, but got shape \(3,\)"):
        average_members(sweep, roles, trial, members, 1, QUIET)
    assert list(made.directory.parent.iterdir()) == [made.directory]


def test_fewer_than_two_checkpoints_are_refused(
    begun: Callable[..., Sweep], record_of: Callable[..., TrialRecord], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, "semantic", 4, 2)
    roles, trial = read_roles(sweep), TrialConfig.from_dict(record_of(0, "segformer", 4).config)
    member = TrialFiles(tmp_path / "member")
    with pytest.raises(InputError, match=r"best\.pth: expected weights to average, but got none"):
        average_members(sweep, roles, trial, [member], 1, QUIET)
    member.directory.mkdir()
    member.best.write_bytes(b"weights")
    with pytest.raises(InputError, match="expected two or more checkpoints to average, but got 1"):
        average_members(sweep, roles, trial, [member], 1, QUIET)
