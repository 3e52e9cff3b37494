"""Prediction sets: what is written comes back, what was not predicted is never counted as empty."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdata.coco import rle_encode
from segdata.errors import DatasetError, InputError
from segdata.predictions import (
    ImageInstances,
    PredictedImage,
    PredictionMeta,
    PredictionSet,
    PredictionWriter,
)
from segdata.probabilities import pack, unpack

A = PredictedImage(id=3, file_name="a.png", width=6, height=4)
B = PredictedImage(id=8, file_name="b.png", width=6, height=4)


def changed_set(folder, name, text):
    """A set whose file `name` another program wrote over."""
    with PredictionWriter(folder, meta()) as writer:
        writer.add_instances(A, instances(0, 1))
    (folder / name).write_text(text)
    return PredictionSet.open(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"spans": {}}', "[" * 100_000])
def test_a_broken_index_is_named(tmp_path, text):
    found = changed_set(tmp_path / "set", "instances_index.json", text)
    with pytest.raises(
        DatasetError, match=r"instances_index\.json: expected bytes and spans of instances\.json, but got"
    ):
        found.instances("a.png")


@pytest.mark.parametrize("spans", ['{"3": 1}', '{"3": [1]}', '{"3": ["a", 2]}', "[3]"])
def test_broken_spans_are_named(tmp_path, spans):
    found = changed_set(tmp_path / "set", "instances_index.json", "")
    size = (found.path / "instances.json").stat().st_size
    (found.path / "instances_index.json").write_text(f'{{"bytes": {size}, "spans": {spans}}}')
    with pytest.raises(
        DatasetError, match=r"instances_index\.json: expected bytes and spans of instances\.json, but got"
    ):
        found.instances("a.png")


def test_results_that_the_index_can_not_find_are_named(tmp_path):
    found = changed_set(tmp_path / "set", "instances_index.json", "")
    size = (found.path / "instances.json").stat().st_size
    for span in ([5, 9], [-1, 4]):
        (found.path / "instances_index.json").write_text(json.dumps({"bytes": size, "spans": {"3": span}}))
        with pytest.raises(DatasetError, match=r"instances\.json: expected COCO results of image 3 in bytes"):
            PredictionSet.open(found.path).instances("a.png")


@pytest.mark.parametrize("image_id", [[3], {}, None, "3"])
def test_results_of_an_image_id_that_is_none_are_refused(tmp_path, image_id):
    found = changed_set(tmp_path / "set", "instances.json", json.dumps([{"image_id": image_id}]))
    with pytest.raises(DatasetError, match=r"instances\.json: expected results for the images of meta\.json, but got"):
        found.instances("a.png")


def meta(codec="coco-rle", **changes):
    instance = codec == "coco-rle"
    fields = {
        "task": "instance" if instance else "semantic",
        "classes": ("cat", "dog"),
        "category_ids": (3, 7) if instance else (),
        "dataset_fingerprint": "0" * 16,
        "code_version": "0.1.0",
        "codec": codec,
    }
    return PredictionMeta(**(fields | changes))


def instances(*columns):
    """One object a column index, a full-height column of the 6x4 image, of class column % 2."""
    rles = []
    for column in columns:
        mask_HW = np.zeros((4, 6), dtype=bool)
        mask_HW[:, column] = True
        rles.append(rle_encode(mask_HW))
    boxes = [[column + 0.1, 0, column + 0.7, 4] for column in columns]
    confidences = [1 / (3 + column) for column in columns]
    return ImageInstances.of(boxes, confidences, [column % 2 for column in columns], tuple(rles))


def add_some(writer, image):
    """Something that depends on the image's id; of instances nothing if that is even."""
    prob_CHW = np.random.default_rng(image.id).random((2, 4, 6)).astype(np.float32)
    if writer.codec == "coco-rle":
        writer.add_instances(image, instances(*range(image.id % 2 * 3)))
    elif writer.codec == "prob8":
        writer.add_probabilities(image, prob_CHW)
    else:
        writer.add_labels(image, prob_CHW.argmax(axis=0))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.confidences, expected.confidences)
    np.testing.assert_array_equal(found.classes, expected.classes)
    assert found.rles == expected.rles


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_instances_come_back_exactly_image_by_image(tmp_path_factory, columns):
    path = tmp_path_factory.mktemp("set") / "predictions"
    images = [PredictedImage(id=10 + i, file_name=f"{i}.png", width=6, height=4) for i in range(len(columns))]
    with PredictionWriter(path, meta()) as writer:
        for image, chosen in zip(images, columns, strict=True):
            writer.add_instances(image, instances(*chosen))
    opened = PredictionSet.open(path)
    assert opened.meta == meta(images=tuple(images))
    (path / "instances_index.json").unlink()
    reparsed = PredictionSet.open(path)
    for image, chosen in zip(images, columns, strict=True):
        assert_same(opened.instances(image.file_name), instances(*chosen))
        assert_same(reparsed.instances(image.file_name), instances(*chosen))


def test_a_set_put_together_of_parts_is_that_written_at_once(tmp_path):
    images = [PredictedImage(id=9 - i, file_name=f"{i}.png", width=6, height=4) for i in range(5)]
    for codec in ("coco-rle", "prob8", "labels"):
        for name, listed in (("whole", images), ("p1", images[:1]), ("p2", images[1:4]), ("p3", images[4:])):
            with PredictionWriter(tmp_path / codec / name, meta(codec)) as writer:
                for image in listed:
                    add_some(writer, image)
        with PredictionWriter(tmp_path / codec / "joined", meta(codec)) as writer:
            for name in ("p1", "p2", "p3"):
                writer.add_set(PredictionSet.open(tmp_path / codec / name))
        one, other = (
            {p.name: p.read_bytes() for p in (tmp_path / codec / n).rglob("*.*")} for n in ("whole", "joined")
        )
        assert one == other
    with pytest.raises(ValueError, match="expected a part of this set, but got another classes$"):  # noqa: SIM117
        with PredictionWriter(tmp_path / "other", meta("prob8", classes=("x", "y"))) as writer:
            writer.add_set(PredictionSet.open(tmp_path / "prob8" / "p1"))


def test_results_are_coco_results_as_other_programs_read_them(tmp_path):
    with PredictionWriter(tmp_path / "p", meta()) as writer:
        writer.add_instances(A, instances(1))
    (result,) = json.loads((tmp_path / "p" / "instances.json").read_text())
    assert (result["image_id"], result["category_id"]) == (3, 7)
    assert result["bbox"] == pytest.approx([1.1, 0, 0.6, 4])
    assert result["segmentation"] == {"size": [4, 6], "counts": instances(1).rles[0].counts}


def test_results_written_by_another_program_after_ours_are_read_anew(tmp_path):
    with PredictionWriter(tmp_path / "p", meta()) as writer:
        writer.add_instances(A, instances(1, 2))
    path = tmp_path / "p" / "instances.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    assert_same(PredictionSet.open(tmp_path / "p").instances("a.png"), instances(1))


def test_an_image_predicted_empty_is_empty_and_one_not_predicted_is_an_error(tmp_path):
    with PredictionWriter(tmp_path / "p", meta()) as writer:
        writer.add_instances(A, instances())
    opened = PredictionSet.open(tmp_path / "p")
    assert len(opened.instances("a.png")) == 0
    assert opened.instances("a.png").boxes_xyxy.shape == (0, 4)
    with pytest.raises(DatasetError, match="expected a prediction for 'b.png', but got none among 1 images"):
        opened.instances("b.png")


def test_an_exception_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"), PredictionWriter(tmp_path / "x" / "p", meta()) as writer:
        writer.add_instances(A, instances(1))
        raise RuntimeError("out of memory")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_at_the_path_before_the_set_is_complete(tmp_path):
    with PredictionWriter(tmp_path / "p", meta("labels")) as writer:
        writer.add_labels(A, np.zeros((4, 6), dtype=np.int64))
        assert not (tmp_path / "p").exists()
    assert PredictionSet.open(tmp_path / "p").labels("a.png").sum() == 0


def test_an_existing_set_is_not_overwritten(tmp_path):
    for attempt in range(2):
        if attempt == 0:
            with PredictionWriter(tmp_path / "p", meta()):
                pass
        else:
            with (
                pytest.raises(InputError, match="expected a new or empty folder"),
                PredictionWriter(tmp_path / "p", meta()),
            ):
                pass
    assert PredictionSet.open(tmp_path / "p").meta.images == ()


def bad(**changes):
    good = instances(1)
    fields = {name: getattr(good, name) for name in ("boxes_xyxy", "confidences", "classes", "rles")}
    return ImageInstances.of(**(fields | changes))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (bad(classes=[2]), "expected classes from 0 to 1"),
        (bad(confidences=[1.5]), "expected confidences from 0 to 1"),
        (bad(confidences=[np.nan]), "expected confidences from 0 to 1"),
        (bad(boxes_xyxy=[[3, 0, 1, 4]]), "expected finite boxes"),
        (bad(rles=(rle_encode(np.ones((5, 5))),)), "expected masks of 6x4, but got 5x5"),
    ],
)
def test_broken_instances_are_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message), PredictionWriter(tmp_path / "p", meta()) as writer:
        writer.add_instances(A, wrong)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="for 1 masks"):
        bad(confidences=[0.5, 0.5])


def test_an_image_added_twice_is_refused(tmp_path):
    with (
        pytest.raises(DatasetError, match=r"each image once, but got a\.png"),
        PredictionWriter(tmp_path / "p", meta()) as w,
    ):
        w.add_instances(A, instances())
        w.add_instances(A, instances())


def test_two_images_with_one_stem_are_refused_in_semantic_sets(tmp_path):
    other = B.model_copy(update={"file_name": "a.jpg"})
    with (
        pytest.raises(DatasetError, match="different stems"),
        PredictionWriter(tmp_path / "p", meta("labels")) as writer,
    ):
        writer.add_labels(A, np.zeros((4, 6), dtype=np.uint8))
        writer.add_labels(other, np.zeros((4, 6), dtype=np.uint8))


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None)
def test_probabilities_come_back_within_half_a_step_at_stride_one(channels, height, width, seed):
    prob_CHW = np.random.default_rng(seed).random((channels, height, width))
    found = unpack(pack(prob_CHW, 1), height, width, 1)
    assert found.dtype == np.float32
    assert np.abs(found - prob_CHW).max() <= 0.5 / 255 + 1e-6


def test_a_stride_averages_blocks_and_a_constant_stays_constant():
    prob_CHW = np.zeros((1, 5, 7))
    prob_CHW[0, :2, :2] = [[1.0, 0.0], [0.0, 1.0]]
    packed = pack(prob_CHW, 2)
    assert packed.shape == (1, 3, 4)
    assert packed[0, 0, 0] == 128  # the mean 0.5 times 255, rounded to even
    constant = np.full((2, 5, 7), 0.2)
    np.testing.assert_allclose(unpack(pack(constant, 4), 5, 7, 4), 51 / 255, rtol=1e-6)


def test_probabilities_of_a_set_give_labels_by_the_largest_and_ties_go_to_the_lower_class(tmp_path):
    prob_CHW = np.stack([np.full((4, 6), 0.5), np.full((4, 6), 0.5)])
    prob_CHW[1, 0] = 0.9
    prob_CHW[0, 0] = 0.1
    with PredictionWriter(tmp_path / "p", meta("prob8")) as writer:
        writer.add_probabilities(A, prob_CHW.astype(np.float16))
    opened = PredictionSet.open(tmp_path / "p")
    np.testing.assert_allclose(opened.probabilities("a.png"), prob_CHW, atol=0.5 / 255 + 1e-3)
    np.testing.assert_array_equal(opened.labels("a.png"), [[1] * 6] + [[0] * 6] * 3)


@pytest.mark.parametrize("wrong", [np.full((2, 4, 6), 1.5), np.full((2, 4, 6), np.nan), np.zeros((3, 4, 6))])
def test_broken_probabilities_are_refused(tmp_path, wrong):
    with (
        pytest.raises(ValueError, match=r"a\.png: expected probabilities"),
        PredictionWriter(tmp_path / "p", meta("prob8")) as w,
    ):
        w.add_probabilities(A, wrong)


@pytest.mark.parametrize("wrong", [np.full((4, 6), 2), np.full((4, 6), -1), np.zeros((6, 4), int), np.zeros((4, 6))])
def test_broken_labels_are_refused(tmp_path, wrong):
    with (
        pytest.raises(ValueError, match=r"a\.png: expected (classes|integers)"),
        PredictionWriter(tmp_path / "p", meta("labels")) as w,
    ):
        w.add_labels(A, wrong)


@pytest.mark.parametrize("break_it", [lambda data: data[:40], lambda data: data[:60] + bytes(20) + data[80:]])
def test_a_file_of_probabilities_that_was_cut_or_overwritten_is_named(tmp_path, break_it):
    image = PredictedImage(id=1, file_name="a.png", width=9, height=7)
    with PredictionWriter(tmp_path / "set", meta("prob8")) as writer:
        raw = np.random.default_rng(0).random((len(meta("prob8").classes), 7, 9))
        writer.add_probabilities(image, raw / raw.sum(axis=0))
    path = tmp_path / "set" / "probabilities" / "a.npz"
    path.write_bytes(break_it(path.read_bytes()))
    with pytest.raises(DatasetError, match="a.npz: expected probabilities, but got"):
        PredictionSet.open(tmp_path / "set").packed("a.png")


def test_a_set_is_asked_only_for_what_it_holds(tmp_path):
    with PredictionWriter(tmp_path / "p", meta("labels")) as writer:
        writer.add_labels(A, np.zeros((4, 6), dtype=np.uint8))
        with pytest.raises(ValueError, match="expected a prediction set with codec 'coco-rle', but got 'labels'"):
            writer.add_instances(B, instances())
    opened = PredictionSet.open(tmp_path / "p")
    for ask in (opened.instances, opened.probabilities):
        with pytest.raises(DatasetError, match="but got 'labels'"):
            ask("a.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema_version=2), "expected schema_version 1, but got 2"),
        (lambda raw: raw.update(codec="png"), r"meta\.json: key codec"),
        (lambda raw: raw.update(codec="prob8"), "codec 'prob8' does not fit task 'instance'"),
        (lambda raw: raw.update(category_ids=[1]), "expected a category id a class, but got 1"),
        (lambda raw: raw.update(extra=1), "key extra"),
        (lambda raw: raw["images"].append(raw["images"][0]), "expected each image once"),
        (lambda raw: raw["images"][0].update(width=0), r"key images\.0\.width"),
    ],
)
def test_a_changed_meta_file_is_refused(tmp_path, change, message):
    with PredictionWriter(tmp_path / "p", meta()) as writer:
        writer.add_instances(A, instances(1))
    path = tmp_path / "p" / "meta.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(DatasetError, match=message):
        PredictionSet.open(tmp_path / "p")


def test_a_folder_that_is_no_prediction_set_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"expected a prediction set with meta\.json"):
        PredictionSet.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 4}, "key 4"),
        ({"segmentation": {"size": [4, 6], "counts": "1"}}, "run lengths"),
        ({"segmentation": {"size": [6, 4], "counts": "1"}}, "expected a mask of size"),
        ({"bbox": "x"}, "a broken one"),
        ({"image_id": 77}, "but got image_id 77"),
    ],
)
def test_a_broken_result_is_named(tmp_path, change, message):
    with PredictionWriter(tmp_path / "p", meta()) as writer:
        writer.add_instances(A, instances(1))
    path = tmp_path / "p" / "instances.json"
    raw = json.loads(path.read_text())
    raw[0].update(change)
    path.write_text(json.dumps(raw, indent=3))
    with pytest.raises(DatasetError, match=message):
        PredictionSet.open(tmp_path / "p").instances("a.png")
