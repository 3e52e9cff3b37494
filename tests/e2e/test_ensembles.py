"""`segsweep ensemble` after a real sweep: folds, views, epochs, averages, another tool, limits, wrong input."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from ensembling.ensemble_file import read_ensemble
from segdata.coco import read_coco
from segdata.instances import InstanceDataset, rle_of
from segdata.predictions import PredictionSet
from segdata.rle import rle_bbox

pytestmark = pytest.mark.slow

IMAGES = 12


@pytest.fixture(scope="module")
def swept(shared_workplace: Any) -> Any:
    place = shared_workplace
    place.synthesize(IMAGES)
    place.run("data", "split", "data", "--out", "split.json", "--val", "0.25", "--test", "0.25")
    place.write_sweep(
        {"epochs": 4, "validation_interval": 1},
        {"lr": {"choice": [1e-3, 2e-3]}},
        data={"dataset": "data", "split": "split.json"},
        budget={"trials": 2, "concurrent": 1},
        storage={"keep_epochs": 2},
    )
    place.run("run", "sweep.yaml")
    return place


def results_of(truth: InstanceDataset) -> list[dict[str, Any]]:
    """A tool that finds what is there."""
    sizes = {image.id: (image.height, image.width) for image in truth.images}
    masks = [(one, rle_of(one, *sizes[one.image_id])) for one in truth.objects]
    return [
        {
            "image_id": one.image_id,
            "category_id": one.category_id,
            "score": 0.9,
            "bbox": list(rle_bbox(rle)),
            "segmentation": rle.to_coco(),
        }
        for one, rle in masks
    ]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_folds_views_and_another_tool_are_chosen_from_out_of_fold(swept: Any) -> None:
    folds = ("ensemble", "tiny", "--top", "2", "--folds", "2", "--tta", "hflip", "--select", "greedy", "--json")
    result = json.loads(swept.run(*folds).stdout)
    assert (result["role"], result["chosen_on"]) == ("test", "out-of-fold")
    names = [row["name"] for row in result["rows"]]
    assert sorted(names[:2]) == ["0000", "0001"] and sorted(names[2:4]) == ["0000 folds", "0001 folds"]
    assert names[4:] == ["wbf of views", "wbf chosen"]
    chosen = result["rows"][5]["selection"]
    assert chosen["score"] >= chosen["best_single"]["score"]
    record = read_ensemble(Path(result["rows"][5]["predictions"]).parent)
    by_name: dict[str, list[float]] = {}
    for member in record.members:
        by_name.setdefault(member.name, []).append(member.weight)
    assert all(len(weights) == 2 and weights[0] == weights[1] for weights in by_name.values())
    assert sum(map(sum, by_name.values())) == pytest.approx(1)
    trained = {path: path.stat().st_mtime_ns for path in swept.run_folder.folds.rglob("best.pth")}
    assert len(trained) == 4

    truth = read_coco(swept.folder / "data" / "annotations.json")
    split = json.loads((swept.folder / "split.json").read_text())
    pool = [*split["folds"][0]["train"], *split["folds"][0]["val"]]
    preds = swept.folder / "preds"
    preds.mkdir()
    for role, images in (("test", split["test"]), ("out-of-fold", pool)):
        (preds / f"{role}.json").write_text(json.dumps(results_of(truth.subset(tuple(images)))))
    beside = json.loads(swept.run(*folds, "--add", "oracle=preds").stdout)
    assert {path: path.stat().st_mtime_ns for path in swept.run_folder.folds.rglob("best.pth")} == trained
    scores = {row["name"]: row["scores"]["segm_mAP"] for row in beside["rows"]}
    assert scores["oracle"] == 1 and scores["wbf chosen"] == 1
    file = Path(beside["rows"][-1]["predictions"]).with_name("ensemble.json")
    refused = swept.run("predict", "--ensemble", str(file), "--role", "test", "--out", "new", expect=2)
    assert "expected members that are networks, but got oracle, predictions of another tool" in refused.stderr


def test_epochs_and_averages_are_candidates_and_limits_hold(swept: Any) -> None:
    more = ("ensemble", "tiny", "--top", "2", "--epochs", "--averages", "--most-models", "1", "--select", "greedy")
    result = json.loads(swept.run(*more, "--json").stdout)
    names = [row["name"] for row in result["rows"]]
    assert {"0000 epoch 3", "0001 epoch 4", "0000 epochs averaged"} <= set(names)
    chosen = result["rows"][-1]
    assert (chosen["name"], chosen["networks"]) == ("wbf chosen", 1)
    folder = Path(chosen["predictions"]).parent
    swept.run("predict", "--ensemble", str(folder / "ensemble.json"), "--role", "test", "--out", "again")
    one, other = (PredictionSet.open(path) for path in (swept.folder / "again", folder / "predictions"))
    assert (one.path / "instances.json").read_bytes() == (other.path / "instances.json").read_bytes()
    shown = swept.run(*more)
    assert max(len(line) for line in shown.stdout.splitlines() if not line.startswith(("predictions", "label"))) <= 80
    too_dear = swept.run("ensemble", "tiny", "--top", "2", "--most-ms", "0.001", expect=2)
    assert "expected a candidate with milliseconds an image <= 0.001, but got none; the cheapest is" in too_dear.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tta", "tilt"), "--tta: expected plain, or words of hflip"),
        (("--tta", "hflip,hflip"), "--tta: expected each view beside the plain one once"),
        (("--folds", "1"), "--folds: expected two folds or more, or 0 for none, but got 1"),
        (("--folds", "2", "--epochs"), "--epochs: expected folds alone"),
        (("--select", "best"), "--select: expected 'all' or 'greedy', but got best"),
        (("--add", "nowhere"), "--add: expected NAME=FOLDER, but got 'nowhere'"),
        (("--add", "tool=nowhere"), "expected train.json or val.json or test.json, but got none of them"),
        (("--stride", "0"), "--stride: expected greater than or equal to 1, but got 0"),
        (("--method", "soft-vote"), "--method: expected a fusion method of the task instance"),
        (("--on", "select"), "--on: expected one of the sweep's roles (train, val, test), but got 'select'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(swept: Any, arguments: tuple[str, ...], message: str) -> None:
    before = listing(swept.folder)
    refused = swept.run("ensemble", "tiny", *arguments, "--top", "2", expect=2)
    assert message in refused.stderr and len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert listing(swept.folder) == before


@pytest.mark.long
def test_a_cluster_trains_folds_which_then_are_there_for_this_machine(
    swept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from segsweep.ray_session import SETTINGS

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # Ray sets it when it starts a head, which then asks for a token
    monkeypatch.setitem(swept.environment, "RAY_AUTH_MODE", "token")
    command = ("ensemble", "tiny", "--top", "1", "--folds", "3", "--select", "greedy", "--json")
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        there = swept.run(*command, "--processes", "2", "--address", context.address_info["gcs_address"])
    finally:
        ray.shutdown()
    trained = [fold for fold in range(3) if f"training fold {fold} of trial" in there.stderr]
    assert trained == [0, 1, 2] and len(list((swept.run_folder.folds / "k3").rglob("best.pth"))) == 3
    here = swept.run(*command)
    assert "training fold" not in here.stderr
    assert json.loads(here.stdout)["rows"] == json.loads(there.stdout)["rows"]


def test_an_ensemble_outlives_its_mlflow_store(swept: Any) -> None:
    store, text = swept.folder / "mlflow.db", "this is no database, but a text that is long enough to look at"
    command = ("ensemble", "tiny", "--top", "2", "--select", "all", "--method", "nms", "--json")
    kept = store.rename(store.with_name("kept.db"))
    store.write_text(text)
    lost = swept.run(*command)
    said = [line for line in lost.stderr.splitlines() if "MLflow" in line]
    assert len(said) == 1 and "Traceback" not in lost.stderr
    assert "ensemble nms of all is missing in MLflow until the same command is run again: tracking.uri" in said[0]
    row = json.loads(lost.stdout)["rows"][-1]
    assert row["name"] == "nms of all" and len(read_ensemble(Path(row["predictions"]).parent).members) == 2
    kept.rename(store)
    for _ in range(2):
        assert "MLflow" not in swept.run(*command).stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`segsweep.ensemble` LIKE '%nms-of-all'")
    assert [run.data.metrics["segm_mAP"] for run in runs] == [row["scores"]["segm_mAP"]]


@pytest.fixture(scope="module")
def labelled(swept: Any) -> Any:
    """A semantic sweep beside it."""
    swept.run("data", "synthesize", "litter", "litter", "--images", "10", "--size", "64")
    swept.run("data", "split", "litter", "--out", "litter.json", "--val", "0.2", "--test", "0.2")
    sweep = {
        "name": "litter",
        "task": "semantic",
        "data": {"dataset": "litter", "split": "litter.json"},
        "space": {"lr": {"choice": [2e-3]}},
        "fixed": {"model": "segformer", "backbone": "mit-b0", "head_width": 0.125, "epochs": 1, "batch_size": 4},
        "budget": {"trials": 1},
        "ensemble": {"top": 1, "folds": 2, "tta": ["hflip"], "methods": ["hard-vote"], "stride": 2},
    }
    (swept.folder / "litter.yaml").write_text(yaml.safe_dump(sweep))
    swept.run("run", "litter.yaml")
    return swept


@pytest.mark.long
def test_label_maps_of_another_tool_are_voted_with_folds_and_views(labelled: Any) -> None:
    split = json.loads((labelled.folder / "litter.json").read_text())
    pool = [*split["folds"][0]["train"], *split["folds"][0]["val"]]
    for role, images in (("test", split["test"]), ("out-of-fold", pool)):
        (labelled.folder / "maps" / role).mkdir(parents=True)
        for name in images:
            label = f"{Path(name).stem}.png"
            shutil.copy(labelled.folder / "litter" / "labels" / label, labelled.folder / "maps" / role / label)
    result = json.loads(labelled.run("ensemble", "litter", "--add", "truth=maps", "--json").stdout)
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [
        "0000",
        "truth",
        "0000 folds",
        *(f"hard-vote {of}" for of in ("of views", "of all", "chosen")),
    ]
    assert (rows["truth"]["scores"]["mIoU"], rows["hard-vote chosen"]["scores"]["mIoU"]) == (1.0, 1.0)
    assert [member["name"] for member in rows["hard-vote chosen"]["selection"]["members"]] == ["truth"]
    member = PredictionSet.open(Path(rows["0000"]["predictions"]))
    assert (member.meta.codec, member.meta.stride) == ("prob8", 2)
    refused = labelled.run("ensemble", "litter", "--add", "truth=maps", "--method", "soft-vote", expect=2)
    assert "--method: expected prob8 for soft-vote, but got labels of truth" in refused.stderr
