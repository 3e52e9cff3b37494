"""`segsweep predict` after a real sweep: by sweep, trial, ensemble and checkpoint; killed, resumed, scored."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from segdata.predictions import PredictionSet

pytestmark = pytest.mark.slow

IMAGES = 8


@pytest.fixture(scope="module")
def swept(shared_workplace: Any) -> Any:
    place = shared_workplace
    place.synthesize(IMAGES)
    place.write_sweep({"epochs": 1}, {"lr": {"choice": [1e-3, 2e-3]}}, budget={"trials": 2, "concurrent": 1})
    place.run("run", "sweep.yaml")
    return place


def contents(folder: Path) -> dict[str, bytes]:
    """What a set says; no two runs take equally long."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name != "timing.json"}


def test_a_sweeps_best_trial_predicts_a_role_that_can_be_scored(swept: Any) -> None:
    told = json.loads(swept.run("predict", "tiny", "--role", "test", "--out", "role", "--json").stdout)
    assert (told["images"], told["predicted_now"], told["failed"]) == (IMAGES, IMAGES, {})
    meta = PredictionSet.open(swept.folder / "role").meta
    assert meta.dataset_fingerprint and meta.config_hash and told["source"] == f"trial {meta.trial}"
    scored = swept.run("score", "role", "data/annotations.json", "--json").stdout
    by_folder = swept.run("predict", f"runs/tiny/trials/{meta.trial}", "--images", "data/images", "--out", "folder")
    assert f"trial {meta.trial}: {IMAGES} images predicted" in by_folder.stdout
    again = swept.run("score", "folder", "data/annotations.json", "--json").stdout
    assert json.loads(scored)["metrics"] == json.loads(again)["metrics"]


def test_a_second_run_has_nothing_to_do_and_other_settings_are_refused(swept: Any) -> None:
    command = ("predict", "tiny", "--images", "data/images", "--out", "twice")
    swept.run(*command)
    before = contents(swept.folder / "twice")
    assert f"{IMAGES} of them before" in swept.run(*command).stdout
    assert contents(swept.folder / "twice") == before
    refused = swept.run(*command, "--window", "48", expect=2)
    assert "twice: expected predictions made with overlap = 0.25, but got None" in refused.stderr


def test_a_killed_prediction_goes_on_and_comes_out_the_same_to_the_byte(swept: Any) -> None:
    command = ("predict", "tiny", "--images", "data/images", "--batch", "2", "--processes", "2", "--out")
    swept.run(*command, "unbroken")
    process = swept.start(*command, "broken")
    parts = swept.folder / "broken.unfinished" / "images"
    end = time.monotonic() + 120
    while len(list(parts.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert swept.leftovers() == []
    assert 3 <= len(list(parts.glob("*.json"))) <= IMAGES and not (swept.folder / "broken").exists()
    told = json.loads(swept.run(*command, "broken", "--json").stdout)
    assert told["images"] == IMAGES and told["predicted_now"] < IMAGES
    assert contents(swept.folder / "broken") == contents(swept.folder / "unbroken")
    assert not (swept.folder / "broken.unfinished").exists()


def test_a_stock_checkpoint_predicts_as_the_trial_that_it_is(swept: Any) -> None:
    trial = swept.run_folder.trial(0).directory
    swept.run("predict", str(trial), "--images", "data/images", "--out", "as-trial")
    shutil.copytree(trial, swept.folder / "elsewhere")
    files = ("--config", "elsewhere/config.py", "--checkpoint", "elsewhere/best.pth")
    swept.run("predict", *files, "--images", "data/images", "--out", "as-stock")
    one, other = contents(swept.folder / "as-trial"), contents(swept.folder / "as-stock")
    assert one["instances.json"] == other["instances.json"] and len(one["instances.json"]) > 100
    assert PredictionSet.open(swept.folder / "as-stock").meta.trial is None


def test_weights_of_another_network_are_refused_in_one_line_and_nothing_is_left(swept: Any) -> None:
    torch.save({"state_dict": {"stem.weight": torch.zeros(3)}}, swept.folder / "other.pth")
    before = sorted(path.name for path in swept.folder.iterdir())
    config = str(swept.run_folder.trial(0).config)
    refused = swept.run("predict", "--config", config, "--checkpoint", "other.pth", "--images", "data/images", expect=2)
    assert "other.pth: expected the weights of the model in" in refused.stderr
    assert (refused.stdout, len(refused.stderr.splitlines())) == ("", 1), refused.stderr
    assert sorted(path.name for path in swept.folder.iterdir()) == before


def test_an_ensemble_predicts_its_members_and_fuses_them_as_recorded(swept: Any) -> None:
    swept.run("ensemble", "tiny", "--top", "2", "--json")
    folder = swept.run_folder.ensembles / "test-top2" / "wbf-of-all"
    told = json.loads(swept.run("predict", str(folder), "--role", "test", "--out", "fused", "--json").stdout)
    assert (told["source"], told["images"]) == ("ensemble wbf-of-all", IMAGES)
    one, other = contents(swept.folder / "fused"), contents(folder / "predictions")
    assert one["instances.json"] == other["instances.json"] and one["meta.json"] == other["meta.json"]
    assert not (swept.folder / "fused.members").exists()
    again = json.loads(swept.run("predict", str(folder), "--role", "test", "--out", "fused", "--json").stdout)
    assert again["predicted_now"] == 0


def test_a_corrupt_image_is_named_the_others_are_predicted_and_it_is_made_up_for(swept: Any) -> None:
    photos = swept.folder / "photos"
    shutil.copytree(swept.folder / "data" / "images", photos)
    victim = sorted(photos.iterdir())[2]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    command = ("predict", "tiny", "--images", "photos", "--out", "some", "--window", "48")
    broken = swept.run(*command, expect=1)
    assert f"{IMAGES - 1} images predicted" in broken.stdout
    assert f"left out: photos/{victim.name}: expected an image, but it can't be decoded" in broken.stderr
    assert f"expected to predict {IMAGES} images, but 1 failed" in broken.stderr
    assert len(PredictionSet.open(swept.folder / "some").meta.images) == IMAGES - 1
    victim.write_bytes(whole)
    mended = json.loads(swept.run(*command, "--json").stdout)
    assert (mended["images"], mended["predicted_now"], mended["failed"]) == (IMAGES, 1, {})


def test_a_cluster_predicts_the_same(swept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from segsweep.ray_session import SETTINGS

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it when it starts a head, which then asks for a token
    monkeypatch.setitem(swept.environment, "RAY_AUTH_MODE", "token")
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        command = ("predict", "tiny", "--images", "data/images", "--processes", "2", "--out")
        swept.run(*command, "cluster", "--address", context.address_info["gcs_address"])
    finally:
        ray.shutdown()
    swept.run(*command, "local")
    assert contents(swept.folder / "cluster") == contents(swept.folder / "local")
