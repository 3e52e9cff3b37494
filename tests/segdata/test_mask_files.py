"""Mask files and label maps in every form that people save them, and in none that is ambiguous."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from segdata.errors import DatasetError
from segdata.mask_files import read_number_map, read_object_mask

MASK = np.zeros((5, 7), dtype=bool)
MASK[1:3, 2:6] = True


def palette_of(array):
    image = Image.fromarray(array.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255] + [0] * 762)
    image.putdata(array.astype(np.uint8).ravel().tolist())
    return image


def rgba(colour, alpha):
    return Image.fromarray(np.stack([colour, colour, colour, alpha], axis=2).astype(np.uint8))


FULL = MASK * 255
FORMS = {
    "L 0/255": Image.fromarray(FULL.astype(np.uint8)),
    "L 0/1": Image.fromarray(MASK.astype(np.uint8)),
    "1": Image.fromarray(FULL.astype(np.uint8)).convert("1"),
    "P": palette_of(MASK),
    "RGB": Image.fromarray(np.repeat(FULL[..., None], 3, axis=2).astype(np.uint8)),
    "RGB coloured": Image.fromarray((MASK[..., None] * [200, 10, 0]).astype(np.uint8)),
    "RGBA opaque": rgba(FULL, np.full_like(FULL, 255)),
    "RGBA by transparency": rgba(np.zeros_like(FULL), FULL),
    "RGBA both": rgba(FULL, FULL),
    "LA": Image.merge("LA", [Image.fromarray(FULL.astype(np.uint8)), Image.new("L", (7, 5), 255)]),
    "I;16 0/65535": Image.fromarray((MASK * 65535).astype(np.uint16)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_mask_gives_the_same_pixels(tmp_path, form):
    FORMS[form].save(tmp_path / "m.png")
    found = read_object_mask(tmp_path / "m.png")
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, MASK)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA"])
def test_an_all_black_mask_is_empty(tmp_path, mode):
    Image.new(mode, (7, 5)).save(tmp_path / "m.png")
    assert not read_object_mask(tmp_path / "m.png").any()


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([[0, 128, 255]]), "but got 0, 128, 255$"),
        (np.array([[255, 255]]), "but got 255$"),
        (np.array([[1, 255]]), "but got 1, 255$"),
        (np.arange(9)[None], r"but got 0, 1, 2, 3, 4, 5, \.\.\. \(9 values\)$"),
    ],
)
def test_other_than_two_values_are_named_not_thresholded(tmp_path, array, found):
    Image.fromarray(array.astype(np.uint8)).save(tmp_path / "m.png")
    pattern = rf"m\.png: expected a mask of two values, 0 and 1 or 0 and 255, {found.rstrip('$')}\. Save one object"
    with pytest.raises(DatasetError, match=pattern):
        read_object_mask(tmp_path / "m.png")


def test_two_colours_besides_black_are_refused(tmp_path):
    Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0]]], dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DatasetError, match="but got #000000, #00ff00, #ff0000"):
        read_object_mask(tmp_path / "m.png")


def test_transparency_that_contradicts_the_colour_is_refused(tmp_path):
    rgba(FULL, 255 - FULL).save(tmp_path / "m.png")
    with pytest.raises(DatasetError, match="transparency and colour to show the same object"):
        read_object_mask(tmp_path / "m.png")


@given(hnp.arrays(np.uint16, (4, 6)), st.booleans())
def test_label_maps_keep_their_numbers(tmp_path_factory, number_HW, is_8_bit):
    path = tmp_path_factory.mktemp("map") / "m.png"
    saved = (number_HW % 256).astype(np.uint8) if is_8_bit else number_HW
    Image.fromarray(saved).save(path)
    np.testing.assert_array_equal(read_number_map(path), saved)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_colours_and_fractions_are_no_label_map(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "m.tif")
    with pytest.raises(
        DatasetError, match=rf"expected an 8- or 16-bit label map with one channel, but got mode {mode}"
    ):
        read_number_map(tmp_path / "m.tif")
