"""What `segsweep predict` finds by a name or a folder, and what it says when it finds nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from segdata.errors import InputError
from segsweep.predicting import How, shares_of
from segsweep.prediction_source import find_source, images_of_folder, images_of_role, stock_source
from segsweep.run_folder import Origin, RunFolder
from segsweep.sweep_file import load_sweep
from trainables.prediction_job import PredictionJob, WindowChoice

SWEEP = """\
name: first
task: instance
data:
  train: {annotations: data/train.json, images: data}
  val: {annotations: data/train.json, images: data}
budget: {trials: 3}
space: {lr: {float: [1e-5, 1e-1], log: true}}
fixed: {model: mask-rcnn}
custom_imports: [mine]
"""


@pytest.fixture
def run(tmp_path: Path, search: Callable[..., Any]) -> RunFolder:
    """A sweep of three trials, of which the best, number 1, has lost its weights."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.json").write_text('{"images": [], "categories": [], "annotations": []}')
    (tmp_path / "first.yaml").write_text(SWEEP)
    sweep = load_sweep(tmp_path / "first.yaml")
    folder = RunFolder(sweep.path)
    folder.path.mkdir(parents=True)
    folder.create(sweep, Origin.new(sweep, "f00d"))
    launched = search(budget=3)
    for number, score in enumerate((0.3, 0.9, 0.5)):
        launched.searcher.suggest(str(number))
        launched.finish(str(number), [score] * 3)
        directory = folder.trial(number).directory
        directory.mkdir(parents=True)
        (directory / "config.py").write_text("model = dict()\n")
        if number != 1:
            (directory / "best.pth").write_bytes(b"weights")
    shutil.copyfile(tmp_path / "study.journal", folder.journal)
    return folder


def test_a_sweep_stands_for_its_best_trial_with_weights(run: RunFolder, tmp_path: Path) -> None:
    source = find_source("first", run.path.parent, None)
    (network,) = source.networks
    assert (source.name, network.trial, source.run) == ("trial 0002", "0002", run)
    assert network.checkpoint == run.trial(2).best and network.config == run.trial(2).config
    assert (network.custom_imports, network.folder) == (("mine",), tmp_path)
    assert network.config_hash is not None and len(network.config_hash) > 8
    assert find_source(str(run.path), tmp_path, 0).networks[0].trial == "0000"
    assert find_source(str(run.trial(0).directory), tmp_path, None).networks[0].trial == "0000"


def test_a_trial_that_was_moved_out_of_its_sweep_is_enough(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(run.trial(0).directory, tmp_path / "mine")
    source = find_source(str(tmp_path / "mine"), tmp_path, None)
    assert (source.run, source.networks[0].trial, source.networks[0].config_hash) == (None, "mine", None)


def test_folds_epochs_and_averages_import_what_their_sweep_does(run: RunFolder, tmp_path: Path) -> None:
    for place in ("folds/k5/0001/fold-0", "trials/0000/epochs/0002", "ensembles/averages/f00d"):
        shutil.copytree(run.trial(2).directory, run.path / place)
        network = find_source(str(run.path / place), tmp_path, None).networks[0]
        assert (network.custom_imports, network.folder, network.config_hash) == (("mine",), tmp_path, None)


def test_no_such_trial_and_no_weights_say_which_trials_have_some(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a trial of the sweep, but got 7; trials with weights: 0, 2"):
        find_source("first", run.path.parent, 7)
    with pytest.raises(InputError, match="expected trial 1 with weights, but got none; trials with weights: 0, 2"):
        find_source("first", run.path.parent, 1)
    with pytest.raises(InputError, match="got none; trials with weights: 0000, 0002"):
        find_source(str(run.trial(1).directory), tmp_path, None)
    with pytest.raises(InputError, match="expected a trial of the sweep, but got 9"):
        find_source(str(run.trials / "0009"), tmp_path, None)
    for number in (0, 2):
        run.trial(number).best.unlink()
    with pytest.raises(InputError, match="expected a trial with weights, but got none; trials with weights: none"):
        find_source("first", run.path.parent, None)
    with pytest.raises(InputError, match="expected the name of a sweep, but got 'frist'; known: first"):
        find_source("frist", run.path.parent, None)


def ensemble(run: RunFolder, trials: tuple[str, ...]) -> Path:
    members = tuple(
        EnsembleMember(path=run.ensembles / "members" / f"{trial}-test-f00d", trial=trial, weight=index + 1)
        for index, trial in enumerate(trials)
    )
    record = EnsembleRecord(
        task="instance", members=members, method="wbf", dataset_fingerprint="f00d", code_version="t"
    )
    return write_ensemble(record, run.ensembles / "test-top2" / "wbf").parent


def test_an_ensemble_stands_for_its_members_trials(run: RunFolder, tmp_path: Path) -> None:
    folder = ensemble(run, ("0002", "0000"))
    source = find_source(str(folder), tmp_path, None)
    assert [network.trial for network in source.networks] == ["0002", "0000"]
    assert source.ensemble is not None and [member.weight for member in source.ensemble.members] == [1, 2]
    assert source.run == run
    assert find_source(str(folder / "ensemble.json"), tmp_path, None).networks == source.networks


def test_an_ensemble_refuses_other_weights_than_those_that_it_was_made_of(run: RunFolder, tmp_path: Path) -> None:
    made_of = find_source(str(run.trial(2).directory), tmp_path, None).networks[0].fingerprint()
    for weights in (made_of, "0" * 16):
        path = run.trial(2).directory
        member = EnsembleMember(path=path, name="0002 hflip", view="hflip", trial="0002", weights=weights)
        record = EnsembleRecord(
            task="instance", members=(member,), method="wbf", dataset_fingerprint="f00d", code_version="t"
        )
        folder = write_ensemble(record, run.ensembles / "test-top1" / weights).parent
        if weights == made_of:
            (network,) = find_source(str(folder), tmp_path, None).networks
            assert (str(network.view), network.trial) == ("hflip", "0002")
        else:
            with pytest.raises(InputError, match=f"expected the weights 0{{16}} of 0002 hflip, but got {made_of}"):
                find_source(str(folder), tmp_path, None)


def test_an_ensemble_that_lost_a_member_says_so(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="expected a trial with weights, but got none; trials with weights: 0000, 0002"
    ):
        find_source(str(ensemble(run, ("0002", "0001"))), tmp_path, None)
    with pytest.raises(InputError, match="expected the trial 0008 of a member, but got no such folder"):
        find_source(str(ensemble(run, ("0008",))), tmp_path, None)
    with pytest.raises(InputError, match="expected --trial with a sweep, but got it with an ensemble"):
        find_source(str(ensemble(run, ("0002",))), tmp_path, 2)


def test_a_stock_network_needs_both_files(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("")
    with pytest.raises(InputError, match=r"--checkpoint .*best\.pth: expected a file, but got none"):
        stock_source(tmp_path / "config.py", tmp_path / "best.pth")


def test_images_of_a_folder_are_numbered_by_name_and_broken_ones_named(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "c.png").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image")
    found = images_of_folder(tmp_path)
    assert [(file.image.id, file.image.file_name) for file in found.files] == [(1, "a.jpg"), (2, "b.png")]
    assert (found.files[0].image.width, found.files[0].image.height, found.classes) == (6, 4, None)
    assert list(found.unreadable) == ["c.png"] and len(found.fingerprint) == 16
    Image.fromarray(np.zeros((5, 6, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    assert images_of_folder(tmp_path).fingerprint != found.fingerprint


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected images \(.png, .jpg.*\), but got none"):
        images_of_folder(tmp_path)
    with pytest.raises(InputError, match="expected a folder of images, but got nothing there"):
        images_of_folder(tmp_path / "gone")


def test_a_role_needs_a_sweep(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("")
    stock = stock_source(tmp_path / "config.py", tmp_path / "config.py")
    with pytest.raises(InputError, match="--role test: expected a sweep's trial or ensemble"):
        images_of_role(stock, "test")


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (WindowChoice(31), "--window: expected windows of at least 32 px, but got 31"),
        (WindowChoice(512, 0.95), "--overlap: expected an overlap from 0 to 0.9, but got 0.95"),
        (WindowChoice(512, -0.1), "--overlap: expected an overlap from 0 to 0.9, but got -0.1"),
        (WindowChoice(512, float("nan")), "--overlap: expected an overlap from 0 to 0.9, but got nan"),
        (WindowChoice(512, 0.2, 0.0), "--scale: expected a scale above 0 and up to 16, but got 0"),
    ],
)
def test_windows_out_of_range_are_refused(windows: WindowChoice, message: str) -> None:
    with pytest.raises(InputError, match=message):
        How(windows=windows)


def test_a_process_has_as_many_threads_however_few_images_are_left(tmp_path: Path) -> None:
    job = PredictionJob(tmp_path, tmp_path, tmp_path, (), frozenset(), tmp_path)
    how = How(processes=4, threads=8)
    for missing in (1, 3, 9):
        shares = shares_of(job, how, missing)
        assert [(share.share, share.threads) for share in shares] == [(n, 2) for n in range(min(missing, 4))]
        assert {share.shares for share in shares} == {len(shares)}
