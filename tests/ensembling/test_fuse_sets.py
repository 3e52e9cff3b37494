"""Fusing prediction sets on disk: what comes out, what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensembling import FusionSettings, fuse
from segdata.errors import DatasetError, InputError
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import Rle, rle_encode

HEIGHT, WIDTH = 40, 60
IMAGES = (
    PredictedImage(id=1, file_name="a.png", width=WIDTH, height=HEIGHT),
    PredictedImage(id=2, file_name="b.png", width=WIDTH, height=HEIGHT),
)
Found = tuple[tuple[int, int, int, int], float, int]  # box xyxy that is filled, confidence, class


def instance_meta(**changes: Any) -> PredictionMeta:
    fields: dict[str, Any] = {
        "task": "instance",
        "classes": ("bag", "bottle"),
        "category_ids": (1, 2),
        "dataset_fingerprint": "0123456789abcdef",
        "trial": "t1",
        "config_hash": "abc",
        "code_version": "0",
        "confidence_threshold": 0.05,
        "max_detections": 50,
        "mask_threshold": 0.5,
        "codec": "coco-rle",
    }
    return PredictionMeta(**(fields | changes))


def semantic_meta(codec: str, **changes: Any) -> PredictionMeta:
    fields: dict[str, Any] = {
        "task": "semantic",
        "classes": ("background", "bag", "bottle"),
        "dataset_fingerprint": "0123456789abcdef",
        "code_version": "0",
        "codec": codec,
    }
    return PredictionMeta(**(fields | changes))


def filled(box: Sequence[int]) -> Rle:
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask_HW[box[1] : box[3], box[0] : box[2]] = True
    return rle_encode(mask_HW)


def instances(found: Sequence[Found]) -> ImageInstances:
    return ImageInstances.of(
        [box for box, _, _ in found],
        [confidence for _, confidence, _ in found],
        [index for _, _, index in found],
        tuple(filled(box) for box, _, _ in found),
    )


def write_instances(
    path: Path,
    per_image: Sequence[Sequence[Found]],
    images: Sequence[PredictedImage] = IMAGES,
    **changes: Any,
) -> Path:
    with PredictionWriter(path, instance_meta(**changes)) as writer:
        for image, found in zip(images, per_image, strict=True):
            writer.add_instances(image, instances(found))
    return path


def write_probabilities(path: Path, seed: int, **changes: Any) -> Path:
    rng = np.random.default_rng(seed)
    with PredictionWriter(path, semantic_meta("prob8", **changes)) as writer:
        for image in IMAGES:
            raw_CHW = rng.random((3, HEIGHT, WIDTH))
            writer.add_probabilities(image, raw_CHW / raw_CHW.sum(axis=0))
    return path


def write_labels(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    with PredictionWriter(path, semantic_meta("labels")) as writer:
        for image in IMAGES:
            writer.add_labels(image, rng.integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    first = write_instances(tmp_path / "one", [[((2, 2, 12, 12), 0.9, 0), ((30, 5, 50, 25), 0.7, 1)], []])
    second = write_instances(
        tmp_path / "two", [[((2, 3, 12, 13), 0.6, 0)], [((5, 5, 9, 9), 0.8, 0)]], max_detections=80, trial="t2"
    )
    return [first, second]


def test_wbf_fuses_boxes_masks_and_confidences(pair: list[Path], tmp_path: Path) -> None:
    fused = PredictionSet.open(fuse(pair, tmp_path / "out", method="wbf"))
    found = fused.instances("a.png")
    assert found.classes.tolist() == [0, 1]
    np.testing.assert_allclose(found.confidences, [(0.9 + 0.6) / 2, 0.7 / 2], rtol=1e-6)
    # y1 = (0.9 * 2 + 0.6 * 3) / 1.5
    np.testing.assert_allclose(found.boxes_xyxy[0], [2, 2.4, 12, 12.4], rtol=1e-6)
    assert found.rles == (filled((2, 2, 12, 12)), filled((30, 5, 50, 25)))  # the more confident mask outvotes
    np.testing.assert_allclose(fused.instances("b.png").confidences, [0.4])


def test_fused_meta_names_no_trial_and_the_members_limits(pair: list[Path], tmp_path: Path) -> None:
    meta = PredictionSet.open(fuse(pair, tmp_path / "out", method="wbf")).meta
    assert (meta.trial, meta.config_hash) == (None, None)
    assert (meta.max_detections, meta.confidence_threshold, meta.mask_threshold) == (80, 0.05, 0.5)
    assert meta.images == IMAGES
    assert meta.dataset_fingerprint == "0123456789abcdef"


def test_fused_objects_keep_to_max_detections(tmp_path: Path) -> None:
    apart: list[Found] = [((10 * i, 0, 10 * i + 8, 8), 0.9 - i / 10, 0) for i in range(4)]
    member = write_instances(tmp_path / "one", [apart, []], max_detections=3)
    found = PredictionSet.open(fuse([member], tmp_path / "out", method="wbf")).instances("a.png")
    np.testing.assert_allclose(found.confidences, [0.9, 0.8, 0.7], rtol=1e-6)


@pytest.mark.parametrize("method", ["wbf", "mask-fusion", "nms", "soft-nms", "nmw"])
def test_ensemble_of_one_is_that_one(method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    corner, size = rng.integers(0, 30, (25, 2)), rng.integers(1, 10, (25, 2))
    crowd: list[Found] = [
        ((int(x), int(y), int(x + w), int(y + h)), (25 - i) / 26, i % 2)
        for i, ((x, y), (w, h)) in enumerate(zip(corner, size, strict=True))
    ]
    member = write_instances(tmp_path / "one", [crowd, []])
    found = PredictionSet.open(fuse([member], tmp_path / "out", method=method)).instances("a.png")
    before = instances(crowd)
    np.testing.assert_allclose(found.boxes_xyxy, before.boxes_xyxy, atol=1e-6)
    np.testing.assert_array_equal(found.confidences, before.confidences)
    np.testing.assert_array_equal(found.classes, before.classes)
    assert found.rles == before.rles


def test_a_member_given_twice_changes_nothing(pair: list[Path], tmp_path: Path) -> None:
    once = PredictionSet.open(fuse(pair, tmp_path / "once", method="wbf"))
    twice = PredictionSet.open(fuse([*pair, *pair], tmp_path / "twice", method="wbf"))
    for image in ("a.png", "b.png"):
        np.testing.assert_allclose(twice.instances(image).boxes_xyxy, once.instances(image).boxes_xyxy, rtol=1e-6)
        np.testing.assert_allclose(twice.instances(image).confidences, once.instances(image).confidences, rtol=1e-6)
        assert twice.instances(image).rles == once.instances(image).rles


def test_an_object_whose_masks_do_not_meet_is_left_out(tmp_path: Path) -> None:
    members = []
    for name, mask_box in (("one", (0, 0, 3, 3)), ("two", (4, 4, 6, 6)), ("three", (7, 7, 9, 9))):
        alike = ImageInstances.of([[0, 0, 10, 10]], [0.5], [0], (filled(mask_box),))
        with PredictionWriter(tmp_path / name, instance_meta()) as writer:
            for image in IMAGES:
                writer.add_instances(image, alike)
        members.append(tmp_path / name)
    assert len(PredictionSet.open(fuse(members, tmp_path / "out", method="wbf")).instances("a.png")) == 0


def test_minimum_confidence_cuts_members_objects(pair: list[Path], tmp_path: Path) -> None:
    settings = FusionSettings(minimum_confidence=0.65)
    for method, confidences in (("wbf", [0.45, 0.35]), ("nms", [0.9, 0.7])):
        fused = PredictionSet.open(fuse(pair, tmp_path / method, method=method, settings=settings))
        np.testing.assert_allclose(fused.instances("a.png").confidences, confidences, rtol=1e-6)


def test_nms_keeps_the_most_confident_of_overlapping_masks(pair: list[Path], tmp_path: Path) -> None:
    found = PredictionSet.open(fuse(pair, tmp_path / "out", method="nms")).instances("a.png")
    np.testing.assert_allclose(found.confidences, [0.9, 0.7], rtol=1e-6)
    assert found.rles == (filled((2, 2, 12, 12)), filled((30, 5, 50, 25)))


def test_nms_scales_confidences_by_weight(pair: list[Path], tmp_path: Path) -> None:
    found = PredictionSet.open(fuse(pair, tmp_path / "out", method="nms", weights=[1, 2])).instances("a.png")
    np.testing.assert_allclose(found.confidences, [0.6, 0.35], rtol=1e-6)
    assert found.rles[0] == filled((2, 3, 12, 13))


def test_soft_vote_writes_mean_probabilities(tmp_path: Path) -> None:
    members = [write_probabilities(tmp_path / str(seed), seed) for seed in (1, 2)]
    fused = PredictionSet.open(fuse(members, tmp_path / "out", method="soft-vote", weights=[3, 1]))
    parts = [PredictionSet.open(path).probabilities("b.png") for path in members]
    np.testing.assert_allclose(fused.probabilities("b.png"), 0.75 * parts[0] + 0.25 * parts[1], atol=0.5 / 255 + 1e-6)
    assert (fused.meta.codec, fused.meta.mask_threshold) == ("prob8", None)


def test_soft_vote_of_members_with_different_strides_takes_the_finest(tmp_path: Path) -> None:
    members = [write_probabilities(tmp_path / str(s), s, stride=s) for s in (1, 4)]
    assert PredictionSet.open(fuse(members, tmp_path / "out", method="soft-vote")).meta.stride == 1


def test_hard_vote_reads_labels_and_probabilities(tmp_path: Path) -> None:
    members = [write_labels(tmp_path / "1", 1), write_probabilities(tmp_path / "2", 2), write_labels(tmp_path / "3", 1)]
    fused = PredictionSet.open(fuse(members, tmp_path / "out", method="hard-vote"))
    np.testing.assert_array_equal(fused.labels("a.png"), PredictionSet.open(members[0]).labels("a.png"))  # two of three
    assert fused.meta.codec == "labels"


def test_soft_vote_of_labels_is_refused(tmp_path: Path) -> None:
    members = [write_probabilities(tmp_path / "1", 1), write_labels(tmp_path / "2", 2)]
    with pytest.raises(InputError, match=r"2: expected prob8 for soft-vote, but got labels\. .*hard-vote"):
        fuse(members, tmp_path / "out", method="soft-vote")


@pytest.mark.parametrize("method", ["soft-vote", "average"])
def test_a_method_for_the_other_task_is_refused(method: str, pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"expected a method for instance predictions \(wbf, mask-fusion, .*\), but got '{method}'"
    ):
        fuse(pair, tmp_path / "out", method=method)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        (
            {"classes": ("bottle", "bag")},
            r"expected classes \('bag', 'bottle'\) as of .*one, but got \('bottle', 'bag'\)",
        ),
        ({"category_ids": (1, 3)}, r"expected category ids \(1, 2\)"),
        ({"dataset_fingerprint": "ffff"}, "expected dataset fingerprint 0123456789abcdef as of .*one, but got ffff"),
    ],
)
def test_members_that_differ_are_named(changes: dict[str, Any], differs: str, tmp_path: Path) -> None:
    members = [write_instances(tmp_path / "one", [[], []]), write_instances(tmp_path / "two", [[], []], **changes)]
    with pytest.raises(InputError, match=f"two: {differs}"):
        fuse(members, tmp_path / "out", method="wbf")


def test_members_of_other_images_are_named(tmp_path: Path) -> None:
    members = [
        write_instances(tmp_path / "one", [[], []]),
        write_instances(tmp_path / "two", [[]], images=IMAGES[:1]),
    ]
    with pytest.raises(InputError, match=r"two: expected the 2 images of .*one, but got 1 images \(missing: b\.png\)"):
        fuse(members, tmp_path / "out", method="wbf")


def test_instance_and_semantic_members_do_not_mix(tmp_path: Path) -> None:
    members = [write_instances(tmp_path / "one", [[], []]), write_labels(tmp_path / "two", 1)]
    with pytest.raises(InputError, match="two: expected task instance as of .*one, but got semantic"):
        fuse(members, tmp_path / "out", method="wbf")


def test_weights_of_the_wrong_length_are_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one finite weight above 0 for each of 2 members"):
        fuse(pair, tmp_path / "out", method="wbf", weights=[1.0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["wbf", "mask-fusion", "nms", "soft-nms", "nmw"])
def test_a_member_without_any_object_is_refused_unless_that_is_allowed(
    method: str, pair: list[Path], tmp_path: Path
) -> None:
    members = [*pair, write_instances(tmp_path / "empty", [[], []])]
    with pytest.raises(
        InputError, match="empty: expected objects in some of 2 images, but got none. Leave this member"
    ):
        fuse(members, tmp_path / "out", method=method)
    assert not (tmp_path / "out").exists()
    fused = PredictionSet.open(fuse(members, tmp_path / "out", method=method, allow_empty=True))
    assert len(fused.instances("a.png")) == (3 if method == "soft-nms" else 2)  # soft-NMS lowers, removes nothing


def rewritten(member: Path, **changes: Any) -> Path:
    """A member whose first result another tool changed."""
    file = member / "instances.json"
    results = json.loads(file.read_bytes())
    results[0].update(changes)
    file.write_text(json.dumps(results))
    return member


@pytest.mark.parametrize("confidence", [87.0, -0.5, float("nan")])
def test_a_confidence_outside_0_to_1_names_member_and_image(
    confidence: float, pair: list[Path], tmp_path: Path
) -> None:
    rewritten(pair[1], score=confidence)
    with pytest.raises(InputError, match=rf"two: expected confidences within 0\.\.1 in a\.png, but got {confidence:g}"):
        fuse(pair, tmp_path / "out", method="nms")


def test_a_mask_of_another_size_names_file_and_image(pair: list[Path], tmp_path: Path) -> None:
    rewritten(pair[1], segmentation=rle_encode(np.ones((3, 4), dtype=np.bool_)).to_coco())
    with pytest.raises(
        DatasetError, match=r"two/instances\.json: .*a\.png.*expected a mask of size \[40, 60\].*\[3, 4\]"
    ):
        fuse(pair, tmp_path / "out", method="mask-fusion")


def test_no_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least one member"):
        fuse([], tmp_path / "out", method="wbf")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FusionSettings(iou_threshold=1.0), "iou_threshold: expected at least 0 and below 1, but got 1.0"),
        (lambda: FusionSettings(mask_threshold=0.0), "mask_threshold: expected above 0 and at most 1, but got 0.0"),
        (
            lambda: FusionSettings(minimum_confidence=float("nan")),
            "minimum_confidence: expected within 0..1, but got nan",
        ),
        (lambda: FusionSettings(sigma=0.0), "sigma: expected a number above 0, but got 0.0"),
        (lambda: FusionSettings(least_decayed=2.0), "least_decayed: expected within 0..1, but got 2.0"),
        (lambda: FusionSettings(overlap="area"), "overlap: expected mask or box, but got area"),  # type: ignore[arg-type]
        (lambda: FusionSettings(mean="mode"), "mean: expected arithmetic or geometric or confidence, but got mode"),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range_are_refused(build: Callable[[], FusionSettings], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
