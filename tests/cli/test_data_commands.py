"""`segsweep data ...` as a user types it."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segdata.coco import read_coco
from segdata.errors import InputError
from segdata.labelmaps import read_labels
from segdata.splits import read_split
from segsweep.cli.data import data_app

COMMANDS = ("import-masks", "import-labels", "to-labelmaps", "split", "check", "synthesize")


def run(*arguments, code=0):
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, (SystemExit, InputError)):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments):
    """Runs a command that must raise InputError, and returns the message."""
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def litter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "litter"
    run("synthesize", "litter", folder, "--images", 12, "--size", 64)
    return folder


def test_every_command_shows_an_example():
    for command in COMMANDS:
        text = run(command, "--help")
        assert f"Example: segsweep data {command}" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 80


def test_synthesize_reports_what_it_wrote(tmp_path):
    result = json.loads(run("synthesize", "particles", tmp_path / "p", "--images", 2, "--json"))
    dataset = read_coco(tmp_path / "p" / "annotations.json")
    assert result == {"images": 2, "objects": len(dataset.objects), "out": str(tmp_path / "p")}


def test_masks_are_imported_and_remarks_shown(tmp_path):
    for name, value in (("m1", 255), ("m2", 0)):
        (tmp_path / "raw" / "a" / "masks").mkdir(parents=True, exist_ok=True)
        array = np.zeros((8, 8), dtype=np.uint8)
        array[:4] = value
        Image.fromarray(array).save(tmp_path / "raw" / "a" / "masks" / f"{name}.png")
    Image.new("RGBA", (8, 8)).save(tmp_path / "raw" / "a" / "a.png")
    text = run("import-masks", tmp_path / "raw", tmp_path / "out", "--class", "nucleus", "--scale", 0.5)
    assert "Wrote 1 images with 1 objects" in text
    assert "m2.png: empty, left out" in text
    assert read_coco(tmp_path / "out" / "annotations.json").class_names == ("nucleus",)
    assert "got a folder with files in it" in refused("import-masks", tmp_path / "raw", tmp_path / "out")


def test_label_maps_are_imported(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        Image.new("L", (8, 8), 3).save(tmp_path / kind / "a.png")
    arguments = ("--images", tmp_path / "images", "--labels", tmp_path / "labels", "--json")
    result = json.loads(run("import-labels", tmp_path / "out", *arguments))
    assert result == {"images": 1, "objects": 1, "remarks": [], "out": str(tmp_path / "out")}


def test_coco_becomes_label_maps_that_can_be_read(litter, tmp_path):
    result = json.loads(
        run("to-labelmaps", litter / "annotations.json", tmp_path / "labels", "--images", litter / "images", "--json")
    )
    assert result["classes"] == ["background", "bag", "bottle", "paper", "battery"]
    assert len(read_labels(litter / "images", tmp_path / "labels").images) == result["images"] == 12


def test_label_maps_are_not_drawn_for_images_of_another_size(litter, tmp_path):
    (tmp_path / "images").mkdir()
    for path in (litter / "images").iterdir():
        Image.new("RGB", (65, 64)).save(tmp_path / "images" / path.name)
    message = refused("to-labelmaps", litter / "annotations.json", tmp_path / "l", "--images", tmp_path / "images")
    assert "expected 64x64 pixels as annotated, but got 65x64" in message
    assert not (tmp_path / "l").exists()


def test_a_split_is_written_with_coco_files_for_each_role(litter, tmp_path):
    out = tmp_path / "splits" / "split.json"
    text = run("split", litter, "--out", out, "--val", 0.25, "--test", 0.25, "--write-coco")
    assert text.split()[:10] == ["fold", "train", "val", "test", "select", "1", "6", "3", "3", "0"]
    split = read_split(out)
    for name, expected in (("train", split.folds[0].train), ("val", split.folds[0].val), ("test", split.test)):
        images = read_coco(out.parent / f"{name}.json").images
        assert tuple(image.file_name for image in images) == expected
    assert not (out.parent / "select.json").exists()
    assert "split.json: expected a new file" in refused("split", litter, "--out", out)


def test_folds_are_written_and_the_same_for_a_seed(litter, tmp_path):
    first = json.loads(run("split", litter, "--out", tmp_path / "a.json", "--folds", 3, "--write-coco", "--json"))
    assert [len(fold["val"]) for fold in first["folds"]] == [4, 4, 4]
    assert sorted(path.name for path in tmp_path.glob("fold*.json")) == [
        f"fold{number}-{role}.json" for number in (1, 2, 3) for role in ("train", "val")
    ]
    again = json.loads(run("split", litter, "--out", tmp_path / "b.json", "--folds", 3, "--json"))
    assert again["folds"] == first["folds"]


def test_semantic_and_instance_splits_carry_their_own_fingerprint(litter, tmp_path):
    found = set()
    for task in ("instance", "semantic"):
        run("split", litter, "--out", tmp_path / f"{task}.json", "--task", task)
        found.add(read_split(tmp_path / f"{task}.json").dataset_fingerprint)
    coco = litter / "annotations.json"
    run("split", coco, "--out", tmp_path / "coco.json", "--images", litter / "images")
    found.add(read_split(tmp_path / "coco.json").dataset_fingerprint)
    assert len(found) == 2  # the folder's objects and its annotation file are one data set


def test_a_clean_data_set_passes_the_check(litter):
    assert run("check", litter).strip() == "0 errors, 0 warnings"
    assert json.loads(run("check", litter, "--json")) == {"ok": True, "errors": 0, "warnings": 0, "defects": []}


def test_a_defect_is_shown_and_the_exit_code_tells(litter, tmp_path):
    raw = json.loads((litter / "annotations.json").read_text())
    raw["annotations"][0]["category_id"] = 99
    (tmp_path / "bad.json").write_text(json.dumps(raw))
    arguments = ("check", "--annotations", tmp_path / "bad.json", "--images", litter / "images")
    text = run(*arguments, code=1)
    assert "unknown-id" in text and "1 errors, 0 warnings" in text
    assert max(map(len, text.splitlines())) <= 80
    (defect,) = json.loads(run(*arguments, "--json", code=1))["defects"]
    assert (defect["kind"], defect["severity"], defect["annotation_id"]) == ("unknown-id", "error", 1)
    assert "... and 1 more" in run(*arguments, "--rows", 0, code=1)


def test_two_data_sets_that_share_pictures_fail_the_check(litter, tmp_path):
    run("synthesize", "litter", tmp_path / "other", "--images", 2, "--size", 64)
    text = run("check", litter, tmp_path / "other", code=1)
    assert text.count("leaked-image") == 3  # two rows and the count
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import-masks", "{tmp}/no", "{tmp}/out"), "no: expected a folder, but got nothing there"),
        (("import-labels", "{tmp}/out", "--images", "{tmp}/no", "--labels", "{tmp}"), "expected a folder of images"),
        (("to-labelmaps", "{litter}/images", "{tmp}/out"), "expected a COCO annotation file"),
        (("to-labelmaps", "{litter}/labels/classes.json", "{tmp}/out"), "expected COCO annotations"),
        (("split", "{tmp}", "--out", "{tmp}/s.json"), "but got an empty folder"),
        (("split", "{litter}", "--out", "{tmp}/s.json", "--folds", "3", "--val", "0.2"), "--val: expected either"),
        (("split", "{litter}", "--out", "{tmp}/s.json", "--folds", "13"), "13 folds, but got 12"),
        (("split", "{litter}", "--out", "{tmp}/s.json", "--task", "semantic", "--write-coco"), "got label maps"),
        (
            ("split", "{litter}/annotations.json", "--out", "{tmp}/s.json", "--task", "semantic"),
            "a dataset folder with",
        ),
        (("check",), "expected a dataset folder, --annotations or --labels, but got none"),
        (("check", "{litter}", "--images", "{litter}/images"), "but got both"),
        (("check", "--labels", "{litter}/labels"), "one --images for each"),
        (("synthesize", "cats", "{tmp}/out"), "expected particles or litter, but got 'cats'"),
    ],
)
def test_wrong_input_is_refused_with_one_line_and_nothing_written(litter, tmp_path, arguments, message):
    found = refused(*(argument.format(tmp=tmp_path, litter=litter) for argument in arguments))
    assert message in found
    assert "\n" not in found
    assert list(tmp_path.iterdir()) == []


def test_real_photos_are_checked_in_one_call(real_data):
    data = real_data / "trashbags"
    parts = [a for s in ("train", "valid") for a in ("--annotations", data / f"{s}.json", "--images", data / s)]
    result = json.loads(run("check", *parts, "--json", code=1))
    assert (result["errors"], result["warnings"]) == (3, 9)
    assert {defect["dataset"] for defect in result["defects"]} == {str(data / "train.json"), str(data / "valid.json")}
