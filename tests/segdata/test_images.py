"""Image files: sizes and pixels as shown, broken ones named."""

import numpy as np
import pytest
from PIL import Image

from segdata.errors import DatasetError
from segdata.images import exif_turn, image_size, images_by_stem, list_images, read_image


def test_a_turned_photo_has_the_size_and_pixels_that_opencv_sees(tmp_path):
    import cv2

    rgb_HWC = np.zeros((4, 6, 3), dtype=np.uint8)
    rgb_HWC[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    Image.fromarray(rgb_HWC).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(rgb_HWC).save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert image_size(tmp_path / "a.jpg") == (4, 6)
    assert exif_turn(tmp_path / "a.jpg")
    bgr_HWC = cv2.imread(str(tmp_path / "a.jpg"))
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[..., ::-1], bgr_HWC, atol=2)


def test_transparency_is_dropped_and_grey_becomes_rgb(tmp_path):
    Image.fromarray(np.full((2, 3, 4), 77, dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((2, 3), 77, dtype=np.uint8)).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.full((2, 3, 3), 77))
    assert not exif_turn(tmp_path / "a.png")


def test_sixteen_bits_are_refused_rather_than_cut(tmp_path):
    Image.fromarray(np.full((2, 3), 4000, dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: expected an 8-bit image, but got mode I;16"):
        read_image(tmp_path / "a.png")


def test_a_cut_off_or_missing_file_is_named(tmp_path):
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:400])
    (tmp_path / "b.png").write_text("no image")
    for name in ("a.png", "b.png"):
        with pytest.raises(DatasetError, match=rf"{name}: expected an image, but it can't be decoded"):
            read_image(tmp_path / name)
    with pytest.raises(DatasetError, match="expected an image, but got nothing there"):
        image_size(tmp_path / "c.png")


def test_images_are_listed_by_name_without_other_files(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    (tmp_path / "a.png").touch()
    with pytest.raises(DatasetError, match=r"one image a stem, but got a\.jpg and a\.png"):
        images_by_stem(tmp_path)
    with pytest.raises(DatasetError, match="expected a folder of images, but got a file"):
        list_images(tmp_path / "notes.txt")
