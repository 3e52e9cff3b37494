"""Submissions: COCO results, label images, a CSV of pixels, and files by templates."""

import csv
import errno
import json
import re
from pathlib import Path

import albumentations
import numpy as np
import pytest
from PIL import Image

from segdata.errors import DatasetError, InputError
from segdata.labelmaps import write_label_map
from segdata.predictions import PredictionSet
from segdata.rle import rle_decode, rle_encode, rle_runs
from segdata.submission_formats import (
    voc_palette,
    write_coco_results,
    write_label_pngs,
    write_number_pngs,
    write_pixel_csv,
)
from segdata.submission_order import read_order
from segdata.submission_template import write_by_template
from segdata.submissions import ObjectChoice, Submission, chosen
from tests.segdata.submitted_sets import (
    HEIGHT,
    IMAGES,
    WIDTH,
    crowded,
    instance_set,
    label_set,
    objects,
    probability_set,
    random_labels,
    with_confidence,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "outputs.md"


def template_of_docs(first_line: str) -> str:
    """The block of the documentation that starts with a line."""
    found = re.search(rf"```\n({re.escape(first_line)}\n.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_runs_are_columns_from_top_to_bottom_and_empty_ones_are_left_out() -> None:
    mask_HW = np.array([[0, 1, 1], [0, 1, 0]])
    assert rle_runs(rle_encode(mask_HW)).tolist() == [[2, 3]]
    assert rle_runs(rle_encode(np.zeros((2, 3)))).tolist() == []
    assert rle_runs(rle_encode(np.ones((2, 3)))).tolist() == [[0, 6]]


def test_coco_results_hold_what_was_chosen(tmp_path: Path) -> None:
    found = crowded(tmp_path / "set")
    submission = Submission(found, choice=ObjectChoice(min_confidence=0.5))
    assert write_coco_results(submission, tmp_path / "out.json") == 2
    results = json.loads((tmp_path / "out.json").read_text())
    assert [(r["image_id"], r["category_id"], r["score"]) for r in results] == [(7, 5, 0.5), (7, 5, 0.75)]
    assert results[0]["bbox"] == [0, 0, 4, 2] and results[0]["segmentation"]["size"] == [HEIGHT, WIDTH]


def test_coco_results_of_everything_are_those_of_the_set(tmp_path: Path) -> None:
    found = crowded(tmp_path / "set")
    write_coco_results(Submission(found), tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads((found.path / "instances.json").read_text())


def test_no_object_at_all_is_an_empty_list(tmp_path: Path) -> None:
    assert write_coco_results(Submission(instance_set(tmp_path / "set", objects(), objects())), tmp_path / "o") == 0
    assert json.loads((tmp_path / "o").read_text()) == []


def test_the_surest_objects_stay_in_the_order_of_the_set() -> None:
    found = objects(*((0, confidence, slice(0, 1), slice(0, 1)) for confidence in (0.25, 0.75, 0.5, 0.75)))
    assert chosen(found, ObjectChoice(max_detections=2)).confidences.tolist() == [0.75, 0.75]
    assert chosen(found, ObjectChoice(max_detections=3)).confidences.tolist() == [0.75, 0.5, 0.75]


def test_disjoint_objects_lose_their_pixels_to_surer_ones_and_go_when_none_is_left(tmp_path: Path) -> None:
    covered = objects(
        (0, 0.5, slice(0, 2), slice(0, 4)), (0, 0.75, slice(0, 2), slice(2, 6)), (1, 0.25, slice(0, 1), slice(1, 3))
    )
    found = chosen(covered, ObjectChoice(disjoint=True))
    assert found.confidences.tolist() == [0.5, 0.75]
    assert found.boxes_xyxy.tolist() == [[0, 0, 2, 2], [2, 0, 6, 2]]
    assert np.sum([rle_decode(rle) for rle in found.rles], axis=0).tolist() == [[1] * 6, [1] * 6, [0] * 6, [0] * 6]
    assert found.rles[1] is covered.rles[1]


def test_a_class_of_a_semantic_set_is_one_result_with_its_mean_probability(tmp_path: Path) -> None:
    prob_CHW = np.zeros((3, HEIGHT, WIDTH))
    prob_CHW[0], prob_CHW[2, :, :2] = 0.2, (0.4, 0.8)  # of bottle: 0.4 in the first column, 0.8 in the second
    found = probability_set(tmp_path / "set", prob_CHW, prob_CHW)
    write_coco_results(Submission(found, ids=[None, 4, 8]), tmp_path / "out.json")
    results = json.loads((tmp_path / "out.json").read_text())
    assert [(r["image_id"], r["category_id"], r["bbox"]) for r in results] == [(i, 8, [0, 0, 2, 4]) for i in (7, 3)]
    assert results[0]["score"] == pytest.approx(0.6, abs=1e-6)


def test_label_images_hold_the_ids(tmp_path: Path) -> None:
    labels = [random_labels(seed) for seed in (1, 2)]
    found = label_set(tmp_path / "set", *labels)
    write_label_pngs(Submission(found), tmp_path / "plain")
    write_label_pngs(Submission(found, ids=[0, 7, 255]), tmp_path / "colour", palette=True)
    write_label_pngs(Submission(found, ids=[0, 7, 256]), tmp_path / "wide")
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == ["a.png", "b.png"]
    with Image.open(tmp_path / "plain" / "b.png") as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), labels[0])
    with Image.open(tmp_path / "colour" / "a.png") as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), np.array([0, 7, 255])[labels[1]])
        assert image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    with Image.open(tmp_path / "wide" / "a.png") as image:
        assert image.mode == "I;16" and np.array_equal(np.asarray(image), np.array([0, 7, 256])[labels[1]])


def test_the_palette_is_that_of_voc() -> None:
    # The void colour of VOC's index 255, and the last class, tv monitor.
    assert voc_palette()[3 * 255 :] == [224, 224, 192] and voc_palette()[60:63] == [0, 64, 128]


def test_object_images_number_the_objects_the_surest_on_top(tmp_path: Path) -> None:
    assert write_number_pngs(Submission(crowded(tmp_path / "set")), tmp_path / "out") == 3
    with Image.open(tmp_path / "out" / "b.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == [[1, 1, 2, 2, 2, 2]] * 2 + [[0] * 6, [3, 0, 0, 0, 0, 0]]
    assert rows_of(tmp_path / "out" / "objects.csv") == [
        ["image", "number", "class", "category_id", "confidence", "pixels"],
        ["b.png", "1", "bag", "5", "0.5", "4"],
        ["b.png", "2", "bag", "5", "0.75", "8"],
        ["b.png", "3", "bottle", "9", "0.25", "1"],
    ]


@pytest.mark.parametrize("size", [(3, 2), (4, 3), (12, 8), (5, 7)])
def test_pixels_are_resized_as_the_contests_resized_them(tmp_path: Path, size: tuple[int, int]) -> None:
    labels = [random_labels(seed) for seed in (1, 2)]
    write_pixel_csv(Submission(label_set(tmp_path / "set", *labels)), tmp_path / "out.csv", size=size)
    header, *rows = rows_of(tmp_path / "out.csv")
    assert header == ["image_id", "PredictionString"] and [row[0] for row in rows] == ["b.png", "a.jpg"]
    width, height = size
    theirs = albumentations.Resize(height=height, width=width)
    for (_, pixels), label_HW in zip(rows, labels, strict=True):
        nearest = [
            label_HW[y * HEIGHT // height, x * WIDTH // width].item() for y in range(height) for x in range(width)
        ]
        assert list(map(int, pixels.split(" "))) == nearest
        assert theirs(image=np.zeros((HEIGHT, WIDTH, 3), np.uint8), mask=label_HW)["mask"].ravel().tolist() == nearest


def test_an_order_file_decides_rows_names_and_header(tmp_path: Path) -> None:
    labels = [random_labels(seed) for seed in (1, 2)]
    found = label_set(tmp_path / "set", *labels)
    (tmp_path / "sample.csv").write_text("Id,Pixels\nbatch_1/a.png,0\nb,0 0\n")
    order = read_order(tmp_path / "sample.csv", found.meta.images)
    write_pixel_csv(Submission(found, ids=[0, 10, 20], order=order), tmp_path / "out.csv")
    expected = [" ".join(map(str, (10 * labels[place]).ravel().tolist())) for place in (1, 0)]
    rows = [["Id", "Pixels"], ["batch_1/a.png", expected[0]], ["b", expected[1]]]
    assert rows_of(tmp_path / "out.csv") == rows


def test_an_order_file_of_one_column_is_blamed_itself(tmp_path: Path) -> None:
    found = label_set(tmp_path / "set", random_labels(1), random_labels(2))
    (tmp_path / "sample.csv").write_text("Id\na\nb\n")
    submission = Submission(found, order=read_order(tmp_path / "sample.csv", found.meta.images))
    with pytest.raises(
        InputError, match=r"sample\.csv:1: expected two names of columns, but got Id\. Name two by --col"
    ):
        write_pixel_csv(submission, tmp_path / "out.csv")
    with pytest.raises(InputError, match="^--columns: expected two names of columns, but got a"):
        write_pixel_csv(submission, tmp_path / "out.csv", columns=["a"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.jpg\nb.png\nc.png\n", r"sample.csv:4: .* but got 'c.png', which none of 2 is"),
        ("a.jpg\n", r"sample.csv: expected a row for each of 2 predicted images, but got none for 1 of them \(b.png\)"),
        ("a.jpg\nb.png\na\n", r"sample.csv:4: expected each image once, but got 'a', which line 2 names"),
        ('"a', "expected a CSV file that names images, but got: unexpected end of data"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "sample.csv").write_text(f"id,pixels\n{rows}")
    with pytest.raises(InputError, match=message):
        read_order(tmp_path / "sample.csv", IMAGES)


def test_a_name_that_two_images_may_have_is_refused(tmp_path: Path) -> None:
    twins = (IMAGES[0], IMAGES[0].model_copy(update={"file_name": "x/b.png", "id": 8}))
    (tmp_path / "sample.csv").write_text("id\nb.png\nb\n")
    with pytest.raises(InputError, match=r"sample.csv:3: .* but got 'b', which 2 images may be"):
        read_order(tmp_path / "sample.csv", twins)


def test_the_file_of_the_data_science_bowl_is_a_template(tmp_path: Path) -> None:
    (tmp_path / "dsb.txt").write_text(template_of_docs("ImageId,EncodedPixels"))
    write_by_template(Submission(crowded(tmp_path / "set")), tmp_path / "dsb.txt", tmp_path / "out.csv")
    # Two of four rows are 1 2 of each column: columns start at 1, 5, 9 ...
    assert (tmp_path / "out.csv").read_text() == (
        "ImageId,EncodedPixels\nb,1 2 5 2 9 2 13 2\nb,9 2 13 2 17 2 21 2\nb,4 1\na,\n"
    )


def test_a_file_a_class_is_a_template_too(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text(template_of_docs("image,confidence,x,y,width,height"))
    found, template, out = crowded(tmp_path / "set"), tmp_path / "class.txt", tmp_path / "bag.csv"
    write_by_template(Submission(found), template, out, variables={"class": "bag"})
    rows = ["image,confidence,x,y,width,height", "b.png,0.5000,0.0,0.0,4.0,2.0", "b.png,0.7500,2.0,0.0,4.0,2.0"]
    assert out.read_text() == "\n".join(rows) + "\n"


def test_a_template_sees_labels_variables_and_may_go_through_the_images_twice(tmp_path: Path) -> None:
    labels = [random_labels(seed) for seed in (1, 2)]
    found = label_set(tmp_path / "set", *labels)
    (tmp_path / "t").write_text(
        "{{ images | length }} {{ variables.word }} {{ classes | join('/') }}\n"
        "{% for image in images %}{{ loop.index }}of{{ loop.length }} {% endfor %}\n"
        "{% for image in images %}{% for row in image.labels %}{{ row | join('') }}{% endfor %} {% endfor %}"
    )
    write_by_template(Submission(found), tmp_path / "t", tmp_path / "out", variables={"word": "hi"})
    pixels = ["".join(map(str, label_HW.ravel().tolist())) for label_HW in labels]
    assert (tmp_path / "out").read_text() == f"2 hi background/bag/bottle\n1of2 2of2 {pixels[0]} {pixels[1]} "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{% for image in images %}", r"t:2: expected a Jinja template, but got: Unexpected end of template"),
        ("a\nb\n{{ image.name }}", "t:3: expected a template that .* but got UndefinedError: 'image' is undefined"),
        ("{% for i in images %}\n{{ i.nam }}{% endfor %}", "t:2: .* has no attribute 'nam'"),
        ("{{ 1 / 0 }}", "t:1: .* but got ZeroDivisionError: division by zero"),
        ("{{ images.__class__.__mro__ }}", "t:1: .* but got SecurityError: access to attribute '__class__'"),
        ("{% for i in images %}{{ i._submission }}{% endfor %}", "t:1: .* access to attribute '_submission'"),
        ("{% for i in images %}{{ i.labels }}{% endfor %}", "t:1: .* image.labels are those of semantic sets"),
        ("{% include 'x' %}", "t:1: .* but got TypeError: no loader for this environment specified"),
    ],
)
def test_a_wrong_template_is_told_with_its_line_and_nothing_is_left(tmp_path: Path, text: str, message: str) -> None:
    found = crowded(tmp_path / "set")
    (tmp_path / "t").write_text(text)
    with pytest.raises(InputError, match=message):
        write_by_template(Submission(found), tmp_path / "t", tmp_path / "deep" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "t"]


def test_a_full_disk_is_not_blamed_on_the_template(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("{% for image in images %}{{ image.name }}\n{% endfor %}")

    def full(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    submission = Submission(crowded(tmp_path / "set"))
    with pytest.raises(InputError, match="out: expected a place to write to, but got: No space left on device"):
        write_by_template(submission, template, tmp_path / "out", on_image=full)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "template"]


def test_images_are_rendered_one_at_a_time(tmp_path: Path) -> None:
    """What is rendered is written before the next image is read, so memory is flat."""
    found = crowded(tmp_path / "set")
    (tmp_path / "t").write_text("{% for image in images %}{{ image.objects | length }}\n{% endfor %}")
    read: list[str] = []

    class Watched(Submission):
        def objects(self, image):  # type: ignore[no-untyped-def]
            read.append(f"{image.name} after {done}")
            return super().objects(image)

    done: list[int] = []
    write_by_template(Watched(found), tmp_path / "t", tmp_path / "out", on_image=lambda n, _: done.append(n))
    assert read == ["b.png after []", "a.jpg after [1]"] and (tmp_path / "out").read_text() == "3\n0\n"


def test_a_broken_set_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    found = label_set(tmp_path / "set", random_labels(1), random_labels(2))
    write_label_map(np.full((HEIGHT, WIDTH), 3, np.uint8), found.path / "labels" / "a.png")
    for write in (write_label_pngs, write_pixel_csv, write_coco_results):
        with pytest.raises(DatasetError, match=r"expected classes from 0 to 2, but got 3 in a\.jpg"):
            write(Submission(PredictionSet.open(found.path)), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


@pytest.mark.parametrize("confidence", [float("nan"), 1.5, -0.1])
def test_confidences_that_are_none_are_refused_and_leave_nothing(tmp_path: Path, confidence: float) -> None:
    found = with_confidence(crowded(tmp_path / "set"), confidence)
    for write in (write_coco_results, write_number_pngs):
        with pytest.raises(DatasetError, match=r"set: expected confidences from 0 to 1 in b\.png, but got .* object 0"):
            write(Submission(found), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1], "--ids: expected 3 ids, one a class"),
        ([0, 1, 70000], "--ids: expected ids from 0 to 65535, but got 70000"),
        ([0, None, 2], "--ids: expected an id for each of 3 classes, but got none for 'bag'"),
    ],
)
def test_ids_that_do_not_fit_are_refused(tmp_path: Path, ids: list[int | None], message: str) -> None:
    found = label_set(tmp_path / "set", random_labels(1), random_labels(2))
    with pytest.raises(InputError, match=message):
        write_label_pngs(Submission(found, ids=ids), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_of_one_stem_are_refused_for_pngs(tmp_path: Path) -> None:
    found = instance_set(tmp_path / "set", objects(), objects())
    meta = found.meta.model_copy(update={"images": (IMAGES[0], IMAGES[1].model_copy(update={"file_name": "b.jpg"}))})
    with pytest.raises(InputError, match=r"names differ before the ending, but got b\.png and b\.jpg"):
        write_number_pngs(Submission(PredictionSet(found.path, meta)), tmp_path / "out")
