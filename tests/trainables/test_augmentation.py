"""Labels follow the pixels through every step: each object has a flat colour of its own, which must stay its mask's."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from search_spaces.augmentations import AUGMENTATION_STEPS, MIXING_STEPS, STEPS_WITHOUT_STRENGTH
from search_spaces.knobs import KNOBS
from trainables.augmentation.augment import Augment, LayerMasks, UnlayerMasks
from trainables.augmentation.boxes import BOX_STEPS
from trainables.augmentation.geometric import GEOMETRIC
from trainables.augmentation.layers import ObjectLayers
from trainables.augmentation.mix_images import MixImages
from trainables.augmentation.pixel import PIXEL
from trainables.augmentation.sample import IGNORED

HEIGHT, WIDTH = 120, 160
GROUND = (60, 60, 60)
MOVING = (*GEOMETRIC, *BOX_STEPS, "min_iou_crop")
COLOURING = (*PIXEL, "fog")
INSTANCE = [name for name in AUGMENTATION_STEPS if "instance" in KNOBS[name].tasks]
SEMANTIC = [name for name in AUGMENTATION_STEPS if "semantic" in KNOBS[name].tasks]

Results = dict[str, Any]
Array = npt.NDArray[Any]
Colour = tuple[int, int, int]


def colour_of(image: int, number: int) -> Colour:
    """A colour that no other object of any image has; class = number % 3 + 1 (label maps) or number % 3."""
    return 30 + 50 * image, 90 + 30 * (number // 3), 120 + 60 * (number % 3)


def drawn(image: int) -> tuple[Array, list[Array]]:
    """An image of six objects on grey, and their masks; objects 0 and 1 overlap (1 in front), 5 is in two parts."""
    picture = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
    masks = []
    shapes = [(30, 30, 18), (50, 36, 14), (110, 30, 20), (40, 90, 20), (90, 80, 12), (130, 95, 13)]
    for number, (x, y, radius) in enumerate(shapes):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        if number % 2:
            cv2.rectangle(mask, (x - radius, y - radius // 2), (x + radius, y + radius), 1, -1)
        else:
            cv2.circle(mask, (x, y), radius, 1, -1)
        if number == 5:
            mask[:, x - 3 : x + 3] = 0
        picture[mask > 0] = colour_of(image, number)
        masks.append(mask)
    return picture, masks


def instance_results(image: int = 0, ignored: tuple[int, ...] = ()) -> Results:
    """What MMDetection's loading hands on; object 0 is labelled whole behind object 1."""
    from mmdet.structures.bbox import HorizontalBoxes

    picture, masks = drawn(image)
    layers = ObjectLayers.of(np.stack(masks))
    return {
        "img": picture,
        "img_shape": (HEIGHT, WIDTH),
        "gt_masks": layers,
        "gt_bboxes": HorizontalBoxes(layers.boxes_xyxy()),
        "gt_bboxes_labels": np.arange(6) % 3,
        "gt_ignore_flags": np.isin(np.arange(6), ignored),
    }


def semantic_results(image: int = 0) -> Results:
    """What MMSegmentation's loading hands on: class 0 is the ground."""
    picture, masks = drawn(image)
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, mask in enumerate(masks):
        label[mask > 0] = number % 3 + 1
    return {"img": picture, "img_shape": (HEIGHT, WIDTH), "gt_seg_map": label, "seg_fields": ["gt_seg_map"]}


class Shelf:
    """Four images as the mixing data set holds them."""

    def __init__(self, maker: Any) -> None:
        self.items = [maker(image) for image in range(4)]

    def __len__(self) -> int:
        return len(self.items)

    def get_data_info(self, index: int) -> dict[str, Any]:
        labels = self.items[index]["gt_bboxes_labels"]
        return {"instances": [{"bbox_label": int(label), "ignore_flag": 0} for label in labels]}


def stepped(name: str, results: Results, seed: int, *, prob: float = 1.0, strength: float = 1.0) -> Results:
    """The results after one step drawn from a seed."""
    np.random.seed(seed)
    if name not in MIXING_STEPS:
        return Augment(name, prob, strength).transform(results)
    shelf = Shelf(instance_results if "gt_masks" in results else semantic_results)
    step = MixImages(name, prob, class_frequencies=(9.0, 3.0, 2.0, 2.0) if "gt_seg_map" in results else (1.0,) * 3)
    others = [shelf.items[index] for index in step.get_indices(shelf)]
    return step.transform(results | {"mix_results": others})


def interior(mask: Array) -> Array:
    """The mask without two pixels at its border and the image's, where interpolation mixes colours."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
    return cv2.erode(padded, np.ones((5, 5), np.uint8))[2:-2, 2:-2].astype(bool)


KNOWN = [colour_of(image, number) for image in range(4) for number in range(6)] + [GROUND, (0, 0, 0)]
NUMBERS = np.array([number for _ in range(4) for number in range(6)] + [-1, -2])  # -1 the ground, -2 outside
MIXED = -3


def colours_in(picture: Array) -> Array:
    """The index in `KNOWN` of each pixel's colour, `MIXED` where interpolation made a new one."""
    found = np.full(picture.shape[:2], MIXED)
    for index, colour in enumerate(KNOWN):
        found[np.abs(picture.astype(np.int16) - np.array(colour, np.int16)).max(axis=-1) <= 3] = index
    return found


@pytest.mark.parametrize("strength", [1.0, 2.0])
@pytest.mark.parametrize("name", [name for name in INSTANCE if name not in COLOURING])
def test_masks_follow_pixels(name: str, strength: float) -> None:
    changed = 0
    for seed in range(6):
        before = instance_results()
        after = stepped(name, before, seed, strength=strength)
        masks, picture = after["gt_masks"].masks(), after["img"]
        hidden = after["gt_masks"].labels.astype(bool).sum(axis=0) > 1  # object 0 behind object 1
        assert after["img_shape"] == picture.shape[:2] == masks.shape[1:]
        assert len(masks) == len(after["gt_bboxes"]) == len(after["gt_bboxes_labels"]) == len(after["gt_ignore_flags"])
        found = colours_in(picture)
        seen = ~cv2.dilate(hidden.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        for mask, label in zip(masks, after["gt_bboxes_labels"], strict=True):
            inside = found[interior(mask) & seen]
            if len(inside):
                (own,) = np.unique(inside[inside != MIXED])
                assert NUMBERS[own] >= 0 and NUMBERS[own] % 3 == label and (inside == own).mean() > 0.98
        for own in np.unique(found[found >= 0]):  # and no object is left without its mask
            assert NUMBERS[own] < 0 or not (interior(found == own) & ~masks.any(axis=0)).any()
        changed += picture.shape != before["img"].shape or bool((picture != before["img"]).any())
    assert changed >= (1 if name == "min_iou_crop" else 3)


@pytest.mark.parametrize("strength", [1.0, 2.0])
@pytest.mark.parametrize("name", [name for name in SEMANTIC if name not in COLOURING])
def test_label_maps_follow_pixels(name: str, strength: float) -> None:
    for seed in range(6):
        after = stepped(name, semantic_results(), seed, strength=strength)
        picture, label = after["img"], after["gt_seg_map"]
        assert label.dtype == np.uint8 and after["img_shape"] == label.shape == picture.shape[:2]
        assert set(np.unique(label)) <= {0, 1, 2, 3, IGNORED}
        found = colours_in(picture)
        classes = np.where(NUMBERS >= 0, NUMBERS % 3 + 1, np.where(NUMBERS == -1, 0, IGNORED))[found]
        for index in np.unique(label):
            inside = interior(label == index)
            assert (found[inside] == MIXED).mean() < 0.05 if inside.any() else True  # seams of pasted parts
            assert (classes[inside & (found != MIXED)] == index).all()


@pytest.mark.parametrize("name", [name for name in INSTANCE if name not in COLOURING])
def test_boxes_are_tight(name: str) -> None:
    after = stepped(name, instance_results(), 3)
    for box, mask in zip(after["gt_bboxes"].tensor.numpy(), after["gt_masks"].masks(), strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("name", COLOURING)
def test_colour_steps_change_the_image_and_leave_the_labels(name: str) -> None:
    instance, semantic = instance_results(), semantic_results()
    assert any((stepped(name, instance, seed)["img"] != instance["img"]).any() for seed in range(5))
    for seed in range(2):
        after = stepped(name, instance, seed)
        assert (after["gt_masks"].masks() == instance["gt_masks"].masks()).all()
        assert (after["gt_bboxes"].tensor == instance["gt_bboxes"].tensor).all()
        assert (stepped(name, semantic, seed)["gt_seg_map"] == semantic["gt_seg_map"]).all()
        assert after["img"].dtype == np.uint8 and after["img"].flags.c_contiguous


def test_colour_steps_know_that_images_are_bgr() -> None:
    # Full saturation of a blue pixel stays blue under a shift of hue by at most 20 of 180; taken for RGB it is red,
    # whose hue wraps around instead. Rain greys; a plain check of order: HSV keeps a grey image grey in each channel.
    blue = np.full((16, 16, 3), (200, 40, 20), np.uint8)
    results = semantic_results() | {"img": blue, "gt_seg_map": np.zeros((16, 16), np.uint8)}
    for seed in range(5):
        after = stepped("hsv", results, seed)["img"][0, 0]
        assert after[0] == after.max(), "blue is the first channel of what MMCV loads"


@pytest.mark.parametrize("name", AUGMENTATION_STEPS)
def test_probability_0_changes_nothing(name: str) -> None:
    for maker in [
        maker for maker, names in ((instance_results, INSTANCE), (semantic_results, SEMANTIC)) if name in names
    ]:
        before = maker()
        after = stepped(name, before, 0, prob=0.0)
        assert (after["img"] == before["img"]).all()
        same = {key for key in before if after[key] is before[key]}
        assert same == set(before)


@pytest.mark.parametrize("name", [name for name in AUGMENTATION_STEPS if name not in MIXING_STEPS])
def test_strength_0_changes_nothing_unless_a_step_has_no_magnitude(name: str) -> None:
    maker = instance_results if name in INSTANCE else semantic_results
    images = [stepped(name, maker(), seed, strength=0.0)["img"] for seed in range(8)]
    same = all(image.shape == (HEIGHT, WIDTH, 3) and (image == drawn(0)[0]).all() for image in images)
    assert same == (name not in STEPS_WITHOUT_STRENGTH)


@pytest.mark.parametrize("name", AUGMENTATION_STEPS)
def test_numpys_seed_decides_the_image(name: str) -> None:
    maker = instance_results if name in INSTANCE else semantic_results
    first, again = stepped(name, maker(), 5), stepped(name, maker(), 5)
    assert first["img"].tobytes() == again["img"].tobytes()
    key = "gt_masks" if name in INSTANCE else "gt_seg_map"
    labels = [part.labels if key == "gt_masks" else part for part in (first[key], again[key])]
    assert labels[0].tobytes() == labels[1].tobytes()
    if name in ("vertical_flip", "transpose", "equalize", "box_flip"):  # nothing is drawn but whether
        return
    assert len({stepped(name, maker(), seed)["img"].tobytes() for seed in range(8)}) > 1


@pytest.mark.parametrize("name", ["vertical_flip", "hsv", "box_flip"])
def test_the_probability_is_that_of_the_step(name: str) -> None:
    before = instance_results()
    before["img"] = np.random.default_rng(0).integers(0, 255, before["img"].shape, np.uint8)
    np.random.seed(0)
    step = Augment(name, 0.3)
    drawn_steps = sum((step.transform(before)["img"] != before["img"]).any() for _ in range(300))
    # Binomial(300, p): p = 0.3 (or, for six objects, 1 - 0.7 ** 6); four standard deviations are at most 32.
    expected = 300 * (1 - 0.7**6 if name == "box_flip" else 0.3)
    assert abs(drawn_steps - expected) < 32


def test_a_step_that_would_empty_an_image_leaves_it() -> None:
    from mmdet.structures.bbox import HorizontalBoxes

    before = instance_results()
    corner = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    corner[0, 0:3, 0:3] = 1
    layers = ObjectLayers.of(corner)
    before |= {"gt_masks": layers, "gt_bboxes": HorizontalBoxes(layers.boxes_xyxy())}
    before |= {"gt_bboxes_labels": np.array([1]), "gt_ignore_flags": np.array([False])}
    kept = [stepped("shift_scale_rotate", before, seed, strength=2.0) for seed in range(30)]
    assert all(len(after["gt_bboxes"]) == 1 for after in kept)
    assert any(after is before for after in kept) and any(after is not before for after in kept)


def test_slivers_under_four_pixels_are_dropped_with_all_their_labels() -> None:
    from mmdet.structures.bbox import HorizontalBoxes

    before = instance_results(ignored=(2,))
    masks = before["gt_masks"].masks()
    masks[4] = 0
    masks[4, 10, 10:13] = 1  # three pixels
    layers = ObjectLayers.of(masks)
    after = stepped(
        "vertical_flip", before | {"gt_masks": layers, "gt_bboxes": HorizontalBoxes(layers.boxes_xyxy())}, 0
    )
    assert after["gt_bboxes_labels"].tolist() == [0, 1, 2, 0, 2]
    assert after["gt_ignore_flags"].tolist() == [False, False, True, False, False]
    assert (after["gt_masks"].masks() == masks[[0, 1, 2, 3, 5], ::-1]).all()


@pytest.mark.parametrize(("name", "prob"), [(name, 1.0) for name in COLOURING] + [(name, 1e-9) for name in BOX_STEPS])
def test_tiny_objects_and_loose_boxes_stay_where_no_pixel_moves(name: str, prob: float) -> None:
    from mmdet.structures.bbox import HorizontalBoxes

    before = instance_results()
    masks = before["gt_masks"].masks()
    masks[4] = 0
    masks[4, 10, 10:13] = 1  # three pixels
    layers = ObjectLayers.of(masks)
    loose = HorizontalBoxes(layers.boxes_xyxy() + 0.25)  # as annotated: not on whole pixels
    after = stepped(name, before | {"gt_masks": layers, "gt_bboxes": loose}, 0, prob=prob)
    assert after["gt_masks"] is layers and after["gt_bboxes"] is loose
    assert after["gt_bboxes_labels"].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", [name for name in INSTANCE if name != "min_iou_crop"])
def test_an_image_without_objects_goes_through(name: str) -> None:
    from mmdet.structures.bbox import HorizontalBoxes

    layers = ObjectLayers.of(np.zeros((0, HEIGHT, WIDTH), np.uint8))
    empty = instance_results() | {"gt_masks": layers, "gt_bboxes": HorizontalBoxes(layers.boxes_xyxy())}
    empty |= {"gt_bboxes_labels": np.zeros(0, np.int64), "gt_ignore_flags": np.zeros(0, bool)}
    after = stepped(name, empty, 1)
    if name not in MIXING_STEPS:
        assert len(after["gt_bboxes"]) == 0 and after["gt_masks"].masks().shape[0] == 0


def masks_of(seed: int) -> Iterator[Array]:
    generator = np.random.default_rng(seed)
    for _ in range(12):
        mask = np.zeros((40, 50), np.uint8)
        x, y = generator.integers(0, 45), generator.integers(0, 35)
        mask[y : y + generator.integers(1, 20), x : x + generator.integers(1, 20)] = 1
        yield mask


@pytest.mark.parametrize("seed", range(5))
def test_layers_hold_overlapping_masks_exactly(seed: int) -> None:
    masks = np.stack([*masks_of(seed), np.zeros((40, 50), np.uint8)])
    layers = ObjectLayers.of(masks)
    assert (layers.masks() == masks).all()
    assert layers.areas().tolist() == masks.sum(axis=(1, 2)).tolist()
    chosen = np.arange(13) % 3 == 1
    assert (layers.keep(chosen).masks() == masks[chosen]).all()
    for direction, axes in (("horizontal", 2), ("vertical", 1), ("diagonal", (1, 2))):
        assert (layers.flip(direction).masks() == np.flip(masks, axes)).all()


def test_masks_become_layers_and_stock_masks_again() -> None:
    from mmdet.structures.mask import BitmapMasks

    masks = np.stack(drawn(0)[1])
    layered = LayerMasks().transform({"gt_masks": BitmapMasks(masks, HEIGHT, WIDTH), "instances": [{}] * 6})
    assert set(layered) == {"gt_masks"} and layered["gt_masks"].labels.shape[0] == 2  # 0 and 1 overlap
    stock = UnlayerMasks().transform(layered)["gt_masks"]
    assert isinstance(stock, BitmapMasks) and (stock.masks == masks).all()


def test_every_step_of_the_knobs_is_built() -> None:
    assert {*GEOMETRIC, *PIXEL, *BOX_STEPS, "fog", "min_iou_crop", *MIXING_STEPS} == set(AUGMENTATION_STEPS)
