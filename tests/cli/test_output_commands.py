"""`segsweep data submission` and `segsweep data pseudo-label` as a user types them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segdata.coco import read_coco
from segdata.errors import InputError
from segsweep.cli.data import data_app
from tests.segdata.submitted_sets import HEIGHT, IMAGES, WIDTH, crowded, label_set, random_labels


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance set, a semantic one, their images, a sample file and a template."""
    monkeypatch.chdir(tmp_path)
    crowded(tmp_path / "objects")
    label_set(tmp_path / "labels", random_labels(1), random_labels(2))
    (tmp_path / "photos").mkdir()
    for value, image in enumerate(IMAGES):
        pixels = np.full((HEIGHT, WIDTH, 3), 90 * value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / image.file_name)
    (tmp_path / "sample.csv").write_text("id,pixels\na,\nb,\n")
    (tmp_path / "short.csv").write_text("id,pixels\na,\nc,\n")
    (tmp_path / "t.txt").write_text(
        "{% for image in images %}{% for object in image.objects if object.class_name == variables.only %}\n"
        "{{ image.name }},{{ object.runs }}\n{% endfor %}{% endfor %}"
    )
    (tmp_path / "wrong.txt").write_text("\n{{ image }}")
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(data_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_format_is_written_and_told(place: Path) -> None:
    told = json.loads(
        run("submission", "objects", "--format", "coco", "--min-confidence", "0.5", "--out", "o", "--json")
    )
    assert told == {"format": "coco", "images": 2, "objects": 2, "out": "o"}
    assert len(json.loads((place / "o").read_text())) == 2
    assert run("submission", "objects", "--format", "png", "--out", "p") == "Wrote 2 images with 3 objects to p\n"
    assert run("submission", "labels", "--format", "png", "--ids", "0,7,9", "--out", "q") == "Wrote 2 images to q\n"
    assert np.unique(np.asarray(Image.open(place / "q" / "a.png"))).tolist() == [0, 7, 9]


def test_a_contest_csv_follows_the_sample(place: Path) -> None:
    run("submission", "labels", "--format", "pixels-csv", "--size", "3x2", "--order", "sample.csv", "--out", "s.csv")
    with (place / "s.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows] == ["id", "a", "b"]
    assert rows[1][1].split() == list(map(str, random_labels(2)[::2, ::2].ravel().tolist()))
    run("submission", "labels", "--format", "pixels-csv", "--columns", "name,classes", "--out", "t.csv")
    assert (place / "t.csv").read_text().startswith("name,classes\nb.png,")


def test_a_file_a_class_is_a_template_with_a_variable(place: Path) -> None:
    for name, rows in (("bag", "b.png,1 2 5 2 9 2 13 2\nb.png,9 2 13 2 17 2 21 2\n"), ("bottle", "b.png,4 1\n")):
        arguments = ("--format", "template", "--template", "t.txt", "--set", f"only={name}")
        run("submission", "objects", *arguments, "--out", f"{name}.csv")
        assert (place / f"{name}.csv").read_text() == rows


def test_pseudo_labels_are_told_with_what_was_dropped_and_what_is_in_test(place: Path) -> None:
    text = run("pseudo-label", "objects", "--images", "photos", "--out", "pseudo", "--test", "photos")
    assert "Wrote 1 images with 2 objects to pseudo" in text and "dropped 1 images" in text
    assert "warning: 1 of these images are test images (b.png)" in text
    assert len(read_coco(place / "pseudo" / "annotations.json").objects) == 2
    run("check", "pseudo")
    told = json.loads(
        run("pseudo-label", "labels", "--images", "photos", "--max-unsure", "1", "--out", "semantic", "--json")
    )
    assert (told["kept"], told["dropped"], told["in_test"]) == (2, {}, [])
    run("check", "semantic")


SUBMIT = ("submission", "objects", "--format")
LABELS = ("submission", "labels", "--format")
PSEUDO = ("--images", "photos")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SUBMIT, "cocoa"), "--format: expected one of coco, png, pixels-csv, template, but got 'cocoa'"),
        (
            (*SUBMIT, "pixels-csv"),
            "--format pixels-csv: expected a semantic prediction set with it, but got an instance",
        ),
        ((*SUBMIT, "template"), "--format template: expected --template FILE with it, but got none"),
        ((*SUBMIT, "coco", "--size", "3x3"), "--size: expected --format pixels-csv with it, but got coco"),
        ((*SUBMIT, "png", "--disjoint"), "--disjoint: expected --format coco or template with it, but got png"),
        ((*SUBMIT, "coco", "--min-confidence", "2"), "--min-confidence: expected a confidence from 0 to 1, but got 2"),
        ((*SUBMIT, "coco", "--max-detections", "0"), "--max-detections: expected at least 1 object an image"),
        ((*SUBMIT, "coco", "--ids", "1"), "--ids: expected 2 ids, one a class"),
        ((*SUBMIT, "coco", "--ids", "1,x"), "--ids: expected whole numbers or none, .* but got 'x'"),
        ((*SUBMIT, "png", "--palette"), "--palette: expected semantic predictions with it, but got instance ones"),
        ((*SUBMIT, "template", "--template", "wrong.txt"), "wrong.txt:2: expected a template that can be rendered"),
        ((*SUBMIT, "template", "--template", "gone.txt"), "gone.txt: expected a template, but got: No such file"),
        ((*SUBMIT, "template", "--template", "t.txt", "--set", "only"), "--set: expected NAME=VALUE, but got 'only'"),
        ((*LABELS, "pixels-csv", "--size", "0x5"), "--size: expected WIDTHxHEIGHT in pixels, .* but got '0x5'"),
        ((*LABELS, "pixels-csv", "--columns", "a"), "--columns: expected two names of columns, but got a"),
        ((*LABELS, "pixels-csv", "--order", "short.csv"), "short.csv:3: .* but got 'c', which none of 2 is"),
        ((*LABELS, "pixels-csv", "--order", "gone.csv"), "gone.csv: expected a CSV file that names images"),
        ((*LABELS, "coco", "--min-confidence", "0.5"), "--min-confidence: expected instance predictions with it"),
        ((*LABELS, "png", "--palette", "--ids", "0,1,256"), "--palette: expected ids below 256 with it"),
        (("submission", "photos", "--format", "coco"), "photos: expected a prediction set with meta.json"),
        (("pseudo-label", "labels", *PSEUDO), "labels: expected predictions with probabilities, but got labels only"),
        (("pseudo-label", "objects", *PSEUDO, "--unsure", "0.5"), "--unsure: expected semantic predictions with it"),
        (("pseudo-label", "objects", "--images", "gone"), "expected an image, but got nothing there"),
        (
            ("pseudo-label", "objects", *PSEUDO, "--test", "objects"),
            "objects: expected a folder of images, but got none",
        ),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(place: Path, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(place.rglob("*"))
    with pytest.raises(InputError, match=message) as raised:
        run(*arguments, "--out", "deep/out")
    assert "\n" not in str(raised.value) and sorted(place.rglob("*")) == before


@pytest.mark.parametrize("arguments", [(*SUBMIT, "coco"), (*SUBMIT, "png"), ("pseudo-label", "objects", *PSEUDO)])
def test_what_is_there_already_is_kept(place: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"photos: expected a new"):
        run(*arguments, "--out", "photos")


def test_both_commands_show_an_example_within_80_columns() -> None:
    for command in ("submission", "pseudo-label"):
        text = run(command, "--help")
        assert f"Example: segsweep data {command}" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 80
