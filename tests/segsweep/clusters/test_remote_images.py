"""Images at a URL are on the driver only: nodes are asked whether they reach them, not whether they hold them."""

from dataclasses import replace
from pathlib import Path

import pytest

from segdata.file_sums import FileSum, FolderSums
from segdata.prediction_parts import ImageFile
from segdata.predictions import PredictedImage
from segdata.synthetic import synthesize
from segsweep.clusters.needs import Files, Needs, problem_of
from segsweep.clusters.sweep_needs import sweep_needs
from segsweep.data_roles import read_roles
from segsweep.predicting_on_ray import needs_of
from segsweep.sweep_file import SweepConfig, resolve_sweep
from trainables.prediction_job import PredictionJob

FILE = ImageFile(PredictedImage(id=1, file_name="a.png", width=8, height=8), 4)


def test_of_a_role_at_a_url_no_files_are_demanded_on_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "driver"))
    folder = synthesize("litter", tmp_path / "given", images=2, size=64)
    val = {kind: f"file://{folder}/{kind}" for kind in ("images", "labels")}
    values = {
        "name": "x",
        "task": "semantic",
        "data": {"train": {"images": "images", "labels": "labels"}, "val": val},
        "budget": {"trials": 1},
        "fixed": {"model": "segformer", "init": "none"},
    }
    sweep = resolve_sweep(SweepConfig.model_validate(values), folder)
    needs = sweep_needs(sweep, read_roles(sweep), {})
    assert [(files.what, files.folder) for files in needs.files] == [
        ("the images of train", folder / "images"),
        ("the label maps of train", folder / "labels"),
    ]
    assert set(needs.remote) == set(val.values())
    (tmp_path / "driver").rename(tmp_path / "not on the node")
    assert problem_of(needs) is None
    name = needs.remote[val["images"]]
    (folder / "images" / name).unlink()
    lacking = Needs(remote={val["images"]: name})
    assert str(problem_of(lacking)).startswith(f"expected {val['images']}/{name} to be readable, but got: ")


def test_a_protocol_that_a_node_lacks_is_named() -> None:
    problem = problem_of(Needs(remote={"gs://bucket/images": "a.png"}))
    assert str(problem).startswith("expected a protocol whose package is installed (")
    assert "gcsfs" in str(problem) and str(problem).endswith("but got gs://bucket/images")


@pytest.mark.parametrize("remote", [False, True])
def test_a_prediction_demands_its_images_unless_nodes_fetch_them(remote: bool, tmp_path: Path) -> None:
    for name in ("config.py", "best.pth"):
        (tmp_path / name).write_text("1")
    images, sums = tmp_path / "images", FolderSums(tmp_path / "images", "s3://bucket/x", (FileSum("a.png", 4, "0"),))
    parts = tmp_path / "parts"
    job = PredictionJob(tmp_path / "config.py", tmp_path / "best.pth", images, (FILE,), frozenset({"a.png"}), parts)
    needs = needs_of(replace(job, sums=sums if remote else None))
    demanded = [files for files in needs.files if files.what == "the images"]
    assert demanded == ([] if remote else [Files("the images", images, {"a.png": 4})])
    assert needs.remote == ({"s3://bucket/x": "a.png"} if remote else {})
    assert [list(files.sizes) for files in needs.files if files.what == "the model"] == [["config.py"], ["best.pth"]]
