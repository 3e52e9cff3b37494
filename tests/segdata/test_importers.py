"""Imports of mask folders and label maps, synthetic ones pixel by pixel and real ones by their counts."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segdata.coco import mask_of, read_coco
from segdata.errors import DatasetError, InputError
from segdata.importers import import_label_maps, import_mask_folders
from segdata.mask_files import read_number_map, read_object_mask

MASKS = {"m1": (slice(0, 4), slice(0, 6)), "m2": (slice(6, 8), slice(2, 12))}


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.fixture
def kaggle(tmp_path):
    """Two image folders of 16x10 pixels with two objects each."""
    folder = tmp_path / "train"
    for number, name in enumerate(("b", "a")):
        save(np.full((10, 16, 4), 50 + number), folder / name / "images" / f"{name}.png")
        for mask, place in MASKS.items():
            array = np.zeros((10, 16))
            array[place] = 255
            save(array, folder / name / "masks" / f"{mask}.png")
    return folder


def test_every_mask_becomes_an_object_with_its_pixels(kaggle, tmp_path):
    report = import_mask_folders(kaggle, tmp_path / "out", class_name="nucleus")
    assert (report.images, report.objects, report.remarks) == (2, 4, ())
    dataset = read_coco(tmp_path / "out" / "annotations.json")
    assert [image.file_name for image in dataset.images] == ["a.png", "b.png"]
    assert dataset.class_names == ("nucleus",)
    for image in dataset.images:
        for obj, place in zip(dataset.objects_of(image.id), MASKS.values(), strict=True):
            expected = np.zeros((10, 16), dtype=bool)
            expected[place] = True
            np.testing.assert_array_equal(mask_of(obj, 10, 16), expected)
            assert obj.area_px == expected.sum()
    assert dataset.objects[0].bbox_xywh == (0, 0, 6, 4)
    with Image.open(tmp_path / "out" / "images" / "a.png") as image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (51, 51, 51))


def test_an_image_beside_the_masks_folder_is_found_too(kaggle, tmp_path):
    for name in ("a", "b"):
        shutil.move(kaggle / name / "images" / f"{name}.png", kaggle / name / "photo.png")
        (kaggle / name / "images").rmdir()
    assert import_mask_folders(kaggle, tmp_path / "out").objects == 4
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["a.png", "b.png"]


def test_halving_halves_images_and_masks_and_says_what_vanished(kaggle, tmp_path):
    dot = np.zeros((10, 16))
    dot[9, 15] = 255
    save(dot, kaggle / "a" / "masks" / "m3.png")
    report = import_mask_folders(kaggle, tmp_path / "out", scale=0.5)
    assert report.objects == 4
    assert report.remarks == (f"{kaggle / 'a' / 'masks' / 'm3.png'}: lost at scale 0.5, left out",)
    dataset = read_coco(tmp_path / "out" / "annotations.json")
    assert (dataset.images[0].width, dataset.images[0].height) == (8, 5)
    assert [obj.bbox_xywh for obj in dataset.objects_of(1)] == [(0, 0, 3, 2), (1, 3, 5, 1)]
    with Image.open(tmp_path / "out" / "images" / "a.png") as image:
        assert image.size == (8, 5)


def test_an_empty_mask_is_left_out_and_said(kaggle, tmp_path):
    save(np.zeros((10, 16)), kaggle / "a" / "masks" / "m3.png")
    report = import_mask_folders(kaggle, tmp_path / "out")
    assert (report.objects, report.remarks) == (4, (f"{kaggle / 'a' / 'masks' / 'm3.png'}: empty, left out",))


def break_values(folder):
    save(np.arange(160).reshape(10, 16), folder / "b" / "masks" / "m2.png")


def break_size(folder):
    save(np.zeros((16, 10)), folder / "b" / "masks" / "m2.png")


def drop_masks(folder):
    for name in ("a", "b"):
        shutil.rmtree(folder / name / "masks")


def empty_masks(folder):
    for path in (folder / "b" / "masks").iterdir():
        path.unlink()


def second_image(folder):
    save(np.zeros((10, 16)), folder / "b" / "images" / "c.png")


def no_image(folder):
    shutil.rmtree(folder / "b" / "images")


def cut_off(folder):
    path = folder / "b" / "images" / "b.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_values, r"b/masks/m2\.png: expected a mask of two values.*got 0, 1, 2.*160 values"),
        (break_size, r"b/masks/m2\.png: expected 16x10 pixels as in b\.png, but got 10x16"),
        (drop_masks, "train: expected one folder an image, each with masks/.*found no masks. Check"),
        (empty_masks, r"b/masks: expected masks \(\*\.png\), but found none"),
        (second_image, r"train/b: expected one image, but got b\.png, c\.png"),
        (no_image, "train/b: expected one image, but got none"),
        (cut_off, r"b/images/b\.png: expected an image, but it can't be decoded"),
    ],
)
def test_wrong_mask_folders_are_refused_and_leave_nothing(kaggle, tmp_path, damage, message):
    damage(kaggle)
    with pytest.raises(DatasetError, match=message):
        import_mask_folders(kaggle, tmp_path / "deep" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_the_folder_above_is_recognised(kaggle, tmp_path):
    with pytest.raises(DatasetError, match="Did you mean .*train"):
        import_mask_folders(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "scale: .*got 0"),
        ({"scale": 2}, "scale: .*got 2"),
        ({"class_name": " "}, "class: expected a name"),
    ],
)
def test_wrong_settings_are_refused(kaggle, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        import_mask_folders(kaggle, tmp_path / "out", **arguments)


def test_an_existing_folder_is_refused(kaggle):
    with pytest.raises(InputError, match="train: expected a new or empty folder"):
        import_mask_folders(kaggle, kaggle)


@pytest.fixture
def labelled(tmp_path):
    """Two 12x10 images with 16-bit label maps: objects 1 and 300, and none."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.mkdir()
    for name in ("a", "b"):
        save(np.full((10, 12, 3), 9), images / f"{name}.png")
    number_HW = np.zeros((10, 12), dtype=np.uint16)
    number_HW[:2, :3], number_HW[5:, 6:] = 300, 1
    Image.fromarray(number_HW).save(labels / "a.png")
    Image.fromarray(np.zeros((10, 12), dtype=np.uint16)).save(labels / "b.png")
    return images, labels


def test_every_number_becomes_an_object_and_an_image_without_is_said(labelled, tmp_path):
    images, labels = labelled
    report = import_label_maps(images, labels, tmp_path / "out", class_name="particle")
    assert (report.images, report.objects, report.remarks) == (2, 2, (f"{images / 'b.png'}: no objects",))
    dataset = read_coco(tmp_path / "out" / "annotations.json")
    assert [(obj.bbox_xywh, obj.area_px) for obj in dataset.objects] == [((6, 5, 6, 5), 30), ((0, 0, 3, 2), 6)]
    # An 8-bit RGB PNG is taken over byte by byte.
    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == (images / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda i, m: (i / "b.png").unlink(), r"images: expected an image named b\.\*, but got none \(1 without"),
        (lambda i, m: (m / "b.png").unlink(), r"labels: expected a label map named b\.\*"),
        (lambda i, m: Image.new("RGB", (12, 10)).save(m / "b.png"), r"b\.png: expected an 8- or 16-bit label map"),
        (lambda i, m: Image.new("L", (10, 12), 3).save(m / "b.png"), r"b\.png: expected 12x10 pixels"),
        (lambda i, m: Image.new("L", (10, 12), 0).save(m / "b.png"), r"b\.png: expected 12x10 pixels"),
    ],
)
def test_wrong_label_maps_are_refused_and_leave_nothing(labelled, tmp_path, damage, message):
    damage(*labelled)
    with pytest.raises(DatasetError, match=message):
        import_label_maps(*labelled, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "labels"]


def test_real_nuclei_keep_every_mask(real_data, tmp_path):
    sources = sorted((real_data / "nuclei_24_6" / "test").iterdir())[:2]
    for source in sources:
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / source.name).symlink_to(source)
    report = import_mask_folders(tmp_path / "raw", tmp_path / "out", class_name="nucleus")
    dataset = read_coco(tmp_path / "out" / "annotations.json")
    assert (report.images, report.remarks) == (2, ())
    for source, image in zip(sources, dataset.images, strict=True):
        masks = sorted((source / "masks").glob("*.png"))
        objects = dataset.objects_of(image.id)
        assert (len(objects), image.width, image.height) == (len(masks), 696, 520)
        for path, obj in list(zip(masks, objects, strict=True))[::20]:
            np.testing.assert_array_equal(mask_of(obj, 520, 696), read_object_mask(path))


def test_real_particles_keep_every_number(real_data, tmp_path):
    source = real_data / "particles_80" / "test"
    names = [path.name for path in sorted((source / "images").iterdir())[:3]]
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for name in names:
            (tmp_path / kind / name).symlink_to(source / kind / name)
    import_label_maps(tmp_path / "images", tmp_path / "labels", tmp_path / "out", class_name="particle")
    dataset = read_coco(tmp_path / "out" / "annotations.json")
    for image in dataset.images:
        number_HW = read_number_map(source / "labels" / image.file_name)
        redrawn = np.zeros_like(number_HW)
        for obj, number in zip(dataset.objects_of(image.id), np.unique(number_HW)[1:], strict=True):
            redrawn[mask_of(obj, image.height, image.width)] = number
        np.testing.assert_array_equal(redrawn, number_HW)
