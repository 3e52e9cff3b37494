"""A metric of the user's own is called with plain values, and what it does wrong is told with its file and line."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from segdata.errors import InputError, TrialError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import LabelMap
from segdata.rle import rle_encode
from segscore.own_metric import LabelMaps, OwnMetric, PackedLabels

MASK_HW = np.arange(12).reshape(3, 4) % 5 == 0
OBJECT = ObjectRecord(1, 7, 2, rle_encode(MASK_HW), (0.0, 0.0, 4.0, 3.0), 3.0, False)
TRUTH = InstanceDataset((ImageRecord(7, "a.png", 4, 3),), (Category(2, "cell"),), (OBJECT,))
FOUND = [{"image_id": 7, "category_id": 2, "score": 0.5, "bbox": [0, 0, 4, 3], "segmentation": MASK_HW.tolist()}]


def metric_of(folder: Path, text: str, task: str = "instance") -> OwnMetric:
    file = folder / "my_metric.py"
    file.write_text(text)
    return OwnMetric.read(file, "score", task, "sweep.yaml:7: metric")  # type: ignore[arg-type]


def test_objects_come_in_cocos_form_and_may_be_changed(tmp_path: Path) -> None:
    text = """
from pycocotools import mask

def score(truth, found):
    pixels = sum(int(mask.area(entry["segmentation"])) for entry in truth["annotations"])
    names = [category["name"] for category in truth["categories"]]
    assert names == ["cell"] and truth["images"] == [{"id": 7, "file_name": "a.png", "width": 4, "height": 3}]
    truth["annotations"].clear()
    return pixels + 10 * sum(entry.pop("score") for entry in found)
"""
    metric = metric_of(tmp_path, text)
    for _ in range(2):
        assert metric.of_instances(TRUTH, FOUND) == 3 + 10 * 0.5


def test_label_maps_are_read_one_at_a_time_each_time_they_are_asked_for(tmp_path: Path) -> None:
    read: list[int] = []

    def label_map(index: int) -> LabelMap:
        read.append(index)
        return np.full((2, 3), index, dtype=np.uint8)

    maps = LabelMaps(3, label_map)
    assert len(maps) == 3 and read == []
    assert [int(pixels[0, 0]) for pixels in maps] == [0, 1, 2]
    assert maps[-1][0, 0] == 2 and read == [0, 1, 2, 2]
    assert [int(pixels[0, 0]) for pixels in maps[1:]] == [1, 2]
    with pytest.raises(IndexError):
        maps[3]
    text = """
def score(truths, predictions, ignore_index):
    pairs = list(zip(truths, predictions))
    counted = [truth != ignore_index for truth, _ in pairs]
    return sum(float((truth == found)[kept].mean()) for (truth, found), kept in zip(pairs, counted)) / len(pairs)
"""
    half = LabelMaps(3, lambda index: np.array([[index] * 3, [9, 9, 9]], dtype=np.uint8))
    assert metric_of(tmp_path, text, "semantic").of_labels(maps, half, 255) == 0.5


def test_packed_labels_are_the_same_ones_small_and_may_be_changed() -> None:
    label_HW = np.zeros((1000, 1000), dtype=np.uint8)
    label_HW[200:700, 300:500] = 3
    packed = pickle.loads(pickle.dumps(PackedLabels.of(label_HW.T)))
    assert len(packed.packed) < label_HW.size / 100
    unpacked = packed.unpack()
    np.testing.assert_array_equal(unpacked, label_HW.T)
    unpacked[0, 0] = 1


@pytest.mark.parametrize(
    ("value", "score"), [("1", 1.0), ("numpy.float32(0.25)", 0.25), ("math.nan", math.nan), ("-math.inf", math.nan)]
)
def test_numbers_are_scores_unless_they_are_none(value: str, score: float, tmp_path: Path) -> None:
    text = f"import math\nimport numpy\ndef score(truth, found):\n    return {value}\n"
    found = metric_of(tmp_path, text).of_instances(TRUTH, FOUND)
    assert found == pytest.approx(score, nan_ok=True) and isinstance(found, float)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return found[3]", r"my_metric\.py:2: expected a metric that returns, but got IndexError: list index"),
        ("raise SystemExit(3)", r"my_metric\.py:2: expected a metric that returns, but got SystemExit: 3"),
        ("pass", r"my_metric\.py:1: expected score to return a number, but got None \(NoneType\)\. Return a float"),
        ("return True", r"expected score to return a number, but got True \(bool\)"),
        ("return 'high'", r"expected score to return a number, but got 'high' \(str\)"),
    ],
)
def test_what_is_no_score_is_told_with_file_and_line(body: str, told: str, tmp_path: Path) -> None:
    metric = metric_of(tmp_path, f"def score(truth, found):\n    {body}\n")
    with pytest.raises(TrialError, match=told) as error:
        metric.of_instances(TRUTH, FOUND)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def other(): ...\n", r"sweep.yaml:7: metric: expected a function score in .*Write def score\(truth, found\)"),
        ("score = 3\n", "expected a function score in .*but got 3"),
        ("def score(truth): ...\n", r"expected score to take truth, found, but got \(truth\)"),
        ("def score(a, b, c): ...\n", r"expected score to take truth, found, but got \(a, b, c\)"),
        ("import no_such\n", r"my_metric\.py:1: expected a Python file that runs, but got ModuleNotFoundError"),
        ("x = 1\ndef score(:\n", r"my_metric\.py:2: expected a Python file that runs, but got SyntaxError"),
    ],
)
def test_a_file_without_such_a_function_is_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        metric_of(tmp_path, text)


def test_it_stays_what_it_was_when_it_was_read_and_imports_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "weights_of_mine.py").write_text("FACTOR = 4\n")
    (tmp_path / "offset_of_mine.py").write_text("OFFSET = 2\n")
    text = """
from weights_of_mine import FACTOR
def score(truth, found):
    from offset_of_mine import OFFSET
    return FACTOR + OFFSET
"""
    metric = metric_of(tmp_path, text)
    metric.file.write_text("def score(truth, found):\n    return 0\n")
    again = pickle.loads(pickle.dumps(metric))
    assert again.of_instances(TRUTH, FOUND) == 6


def test_what_it_prints_leaves_standard_output_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "print('loading')\ndef score(truth, found):\n    print('DONE (t=0.01s)')\n    return 1\n"
    assert metric_of(tmp_path, text).of_instances(TRUTH, FOUND) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "DONE" in captured.err and "loading" in captured.err
