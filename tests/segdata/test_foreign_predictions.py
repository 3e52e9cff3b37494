"""What other tools predicted, as prediction sets; and what is wrong with it, named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segdata.errors import DatasetError
from segdata.foreign_predictions import import_predictions
from segdata.predictions import PredictedImage, PredictionSet
from segdata.rle import rle_decode, rle_encode

IMAGES = (
    PredictedImage(id=4, file_name="a.jpg", width=6, height=4),
    PredictedImage(id=9, file_name="b.jpg", width=6, height=4),
)
SQUARE_HW = np.zeros((4, 6), dtype=np.bool_)
SQUARE_HW[1:3, 1:3] = True
RUNS = [5, 2, 2, 2, 13]  # of the square, column by column
Import = Callable[[Path], PredictionSet]


def result(**others: Any) -> dict[str, Any]:
    return {"image_id": 9, "category_id": 7, "score": 0.75, "segmentation": rle_encode(SQUARE_HW).to_coco()} | others


@pytest.fixture
def objects(tmp_path: Path) -> Callable[..., PredictionSet]:
    """Writes results and imports them."""

    def run(*results: Any, text: str | None = None) -> PredictionSet:
        (tmp_path / "theirs.json").write_text(json.dumps(results) if text is None else text)
        return PredictionSet.open(
            import_predictions(
                tmp_path / "theirs.json",
                IMAGES,
                classes=("bag", "can"),
                category_ids=(3, 7),
                fingerprint="f00d",
                folder=tmp_path / "sets",
            )
        )

    return run


@pytest.fixture
def labels(tmp_path: Path) -> Callable[[], PredictionSet]:
    """Imports the folder `theirs`."""
    (tmp_path / "theirs").mkdir()

    def run() -> PredictionSet:
        made = import_predictions(
            tmp_path / "theirs",
            IMAGES,
            classes=("background", "bag"),
            category_ids=(),
            fingerprint="f00d",
            folder=tmp_path / "sets",
        )
        return PredictionSet.open(made)

    return run


@pytest.mark.parametrize(
    "segmentation",
    [
        rle_encode(SQUARE_HW).to_coco(),
        {"size": [4, 6], "counts": RUNS},
        [[1, 1, 3, 1, 3, 3, 1, 3]],
    ],
    ids=["compressed", "uncompressed", "polygon"],
)
def test_masks_come_in_three_forms_and_a_box_that_is_missing_is_the_masks(
    segmentation: Any, objects: Callable[..., PredictionSet]
) -> None:
    found = objects(result(segmentation=segmentation)).instances("b.jpg")
    assert np.array_equal(rle_decode(found.rles[0]), SQUARE_HW)
    assert found.boxes_xyxy.tolist() == [[1, 1, 3, 3]] and found.classes.tolist() == [1]
    assert found.confidences.tolist() == [0.75]


def test_a_box_that_is_given_is_kept_and_an_image_without_results_is_empty(
    objects: Callable[..., PredictionSet],
) -> None:
    found = objects(result(bbox=[0.5, 1, 3, 2]))
    assert found.instances("b.jpg").boxes_xyxy.tolist() == [[0.5, 1, 3.5, 3]]
    assert len(found.instances("a.jpg")) == 0
    assert found.meta.images == IMAGES and found.meta.dataset_fingerprint == "f00d" and found.meta.trial is None


def test_the_same_predictions_are_imported_once_and_others_beside_them(
    objects: Callable[..., PredictionSet], tmp_path: Path
) -> None:
    first = objects(result())
    assert first.path.name.startswith("theirs-")
    written = (first.path / "meta.json").stat().st_mtime_ns
    assert objects(result()).path == first.path and (first.path / "meta.json").stat().st_mtime_ns == written
    assert objects(result(score=0.5)).path != first.path
    assert import_predictions(
        first.path, IMAGES, classes=("x",), category_ids=(1,), fingerprint="", folder=tmp_path
    ) == (first.path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"image_id": 5}, r"theirs\.json, \[1\]\.image_id: expected one of the truth's, 4, 9, but got 5"),
        ({"category_id": 1}, r"\[1\]\.category_id: expected one of the truth's, 3, 7, but got 1"),
        ({"score": 1.5}, r"\[1\]\.score: expected a confidence from 0 to 1, but got 1\.5"),
        ({"score": float("nan")}, r"\[1\]\.score: expected a confidence from 0 to 1, but got nan"),
        ({"score": None}, r"\[1\]\.score: expected a confidence from 0 to 1, but got None"),
        ({"segmentation": None}, r"\[1\]\.segmentation: expected a mask, as RLE or polygons, but got a result without"),
        ({"segmentation": {"size": [6, 4], "counts": RUNS}}, r"\.size: expected \[height, width\] = \[4, 6\], but got"),
        ({"segmentation": {"size": [4, 6], "counts": [5, 2]}}, "expected run lengths that add up to 4x6 = 24 pixels"),
        (
            {"bbox": [0, 0, 1e39, 2]},
            r"\[1\]\.bbox: expected .* in pixels of the 6x4 image, but got \[0\.0, 0\.0, 1e\+39",
        ),
        ({"bbox": [float("inf"), 0, 1, 2]}, r"\[1\]\.bbox: expected a finite number, but got inf"),
        ({"bbox": [0, 0, 10**400, 2]}, r"\[1\]\.bbox: expected a finite number, but got 1000"),
        ({"segmentation": [[0, 0, 1, 0, 10**400, 1]]}, r"\[1\]\.segmentation\[0\]: expected numbers, but got int too"),
        (
            {"segmentation": {"size": [4, 6], "counts": [10**400]}},
            r"= 24 pixels, but got one of 1000",
        ),
        ({"bbox": [0, 0, -1, 2]}, r"\[1\]\.bbox: expected .* width and height from 0 on, but got \[0\.0, 0\.0, -1\.0"),
    ],
)
def test_a_wrong_result_is_named_by_its_place_and_key(
    wrong: dict[str, Any], told: str, objects: Callable[..., PredictionSet], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=told):
        objects(result(), result(**wrong))
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{]", r"theirs\.json, line 1: expected JSON"),
        ('{"annotations": []}', "expected a list of COCO results, one an object, but got the keys annotations"),
        ("[" * 100_000, r"theirs\.json: expected JSON, but got: maximum recursion depth"),
        (f"[{'1' * 5000}]", r"theirs\.json: expected JSON, but got: Exceeds the limit"),
        ("[]", r"expected a list of COCO results, one an object, but got \[\]"),
        ("[3]", r"\[0\]: expected a result with image_id, category_id, score and segmentation, but got 3"),
    ],
)
def test_what_are_no_results_is_refused(text: str, told: str, objects: Callable[..., PredictionSet]) -> None:
    with pytest.raises(DatasetError, match=told):
        objects(text=text)


def test_label_maps_grey_or_with_a_palette_are_taken_by_stem(
    labels: Callable[[], PredictionSet], tmp_path: Path
) -> None:
    one_HW = SQUARE_HW.astype(np.uint8)
    Image.fromarray(one_HW).save(tmp_path / "theirs" / "a.png")
    coloured = Image.fromarray(one_HW, mode="P")
    coloured.putpalette([0, 0, 0, 255, 0, 0])
    coloured.save(tmp_path / "theirs" / "b.png")
    (tmp_path / "theirs" / "other.png").write_bytes(b"not asked for")
    found = labels()
    assert found.meta.codec == "labels" and found.meta.images == IMAGES
    assert all(np.array_equal(found.labels(image.file_name), one_HW) for image in IMAGES)


def test_label_maps_that_are_wrong_are_named(labels: Callable[[], PredictionSet], tmp_path: Path) -> None:
    one_HW = SQUARE_HW.astype(np.uint8)
    Image.fromarray(one_HW).save(tmp_path / "theirs" / "a.png")
    with pytest.raises(
        DatasetError, match=r"theirs: expected a label map for each of 2 images, but 1 .* such as b\.png"
    ):
        labels()
    for wrong, told in (
        (one_HW.T, r"b\.png: expected 6x4 pixels as in b\.jpg, but got 4x6"),
        (one_HW * 255, r"b\.png: expected pixels from 0 to 1, the places of background, bag, but got 255"),
        (np.stack([one_HW] * 3, axis=-1), r"b\.png: expected an 8-bit label map with one channel, but got mode RGB"),
    ):
        Image.fromarray(np.ascontiguousarray(wrong)).save(tmp_path / "theirs" / "b.png")
        with pytest.raises(DatasetError, match=told):
            labels()
    assert not (tmp_path / "sets").exists()


def test_a_file_for_semantic_data_and_a_folder_for_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text("[]")
    known = {"fingerprint": "f00d", "folder": tmp_path / "sets"}
    with pytest.raises(DatasetError, match="expected a folder of label maps .*, but got a file"):
        import_predictions(tmp_path / "file.json", IMAGES, classes=("a", "b"), category_ids=(), **known)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="expected a JSON file of COCO results, but got a folder"):
        import_predictions(tmp_path, IMAGES, classes=("a",), category_ids=(1,), **known)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="expected a JSON file of COCO results, but got nothing"):
        import_predictions(tmp_path / "gone", IMAGES, classes=("a",), category_ids=(1,), **known)  # type: ignore[arg-type]
