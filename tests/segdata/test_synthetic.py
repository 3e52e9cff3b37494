"""Synthetic data: the same bytes for a seed, and what it promises a small network."""

import hashlib

import numpy as np
import pytest

from segdata.coco import mask_of, read_coco
from segdata.defects import find_defects
from segdata.errors import InputError
from segdata.images import read_image
from segdata.labelmaps import read_label_map, read_labels
from segdata.statistics import object_statistics, pixel_statistics
from segdata.synthetic import synthesize


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    return synthesize("particles", tmp_path_factory.mktemp("p") / "particles", images=8)


@pytest.fixture(scope="module")
def litter(tmp_path_factory):
    return synthesize("litter", tmp_path_factory.mktemp("l") / "litter", images=12)


@pytest.mark.parametrize("kind", ["particles", "litter"])
def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, kind):
    first = contents(synthesize(kind, tmp_path / "1", images=3, size=64, seed=5))
    assert contents(synthesize(kind, tmp_path / "2", images=3, size=64, seed=5)) == first
    other = contents(synthesize(kind, tmp_path / "3", images=3, size=64, seed=6))
    assert all(other[name] != first[name] for name in first if name.endswith(".png"))


def test_a_larger_set_begins_with_the_images_of_a_smaller_one(tmp_path, particles):
    few = contents(synthesize("particles", tmp_path / "few", images=2))
    many = contents(particles)
    assert all(many[name] == few[name] for name in few if name.startswith("images"))


def test_particles_are_many_large_enough_and_some_overlap(particles):
    dataset = read_coco(particles / "annotations.json")
    found = object_statistics(dataset)
    assert 4 <= found.objects_per_image_median <= found.objects_per_image_max <= 9
    assert 8 <= found.object_size_px_p10 <= found.object_size_px_p90 <= 40
    assert find_defects(images=particles / "images", annotations=particles / "annotations.json") == ()
    drawn = [sum(mask_of(o, 128, 128).astype(int) for o in dataset.objects_of(i.id)) for i in dataset.images]
    assert max(int(count_HW.max()) for count_HW in drawn) == 2
    assert not (particles / "labels").exists()


def test_particles_stand_out_from_the_background(particles):
    dataset = read_coco(particles / "annotations.json")
    for image in dataset.images:
        grey_HW = read_image(particles / "images" / image.file_name)[..., 0].astype(float)
        covered_HW = sum(mask_of(obj, 128, 128).astype(int) for obj in dataset.objects_of(image.id)) > 0
        background = grey_HW[~covered_HW]
        for obj in dataset.objects_of(image.id):
            assert grey_HW[mask_of(obj, 128, 128)].mean() > background.mean() + 3 * background.std() / 2


def test_litter_has_a_rare_class_and_label_maps_that_equal_its_objects(litter):
    dataset = read_coco(litter / "annotations.json")
    labelled = read_labels(litter / "images", litter / "labels")
    assert labelled.classes == ("background", "bag", "bottle", "paper", "battery")
    assert labelled.classes[1:] == dataset.class_names
    images_with = {name: 0 for name in dataset.class_names}
    for image in dataset.images:
        for category_id in {obj.category_id for obj in dataset.objects_of(image.id)}:
            images_with[dataset.class_names[category_id - 1]] += 1
    assert images_with["battery"] == 2  # every sixth of twelve
    assert min(images_with[name] for name in ("bag", "bottle", "paper")) >= 6
    frequencies = pixel_statistics(labelled).class_frequencies
    assert 0 < frequencies[4] < 0.01 < min(frequencies[:4])
    assert (
        find_defects(images=litter / "images", annotations=litter / "annotations.json", labels=litter / "labels") == ()
    )
    image = dataset.images[0]
    label_HW = read_label_map(litter / "labels" / image.file_name)
    for obj in dataset.objects_of(image.id):
        assert (label_HW[mask_of(obj, 128, 128)] == obj.category_id).all()


def test_litter_classes_differ_in_colour(litter):
    labelled = read_labels(litter / "images", litter / "labels")
    colours = {index: [] for index in range(5)}
    for image in labelled.images:
        rgb_HWC, label_HW = read_image(image.image_path), read_label_map(image.label_path)
        for index in np.unique(label_HW).tolist():
            colours[index].append(rgb_HWC[label_HW == index].mean(axis=0))
    means = [np.mean(colours[index], axis=0) for index in range(5)]
    gaps = [np.abs(means[i] - means[j]).max() for i in range(5) for j in range(i)]
    assert min(gaps) > 50  # of 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cats"}, "kind: expected particles or litter, but got 'cats'"),
        ({"images": 0}, "images: expected 1 or more, but got 0"),
        ({"size": 10}, "size: expected 64 to 4096 px, but got 10"),
        ({"seed": -1}, "seed: expected 0 or more, but got -1"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        synthesize(**({"kind": "litter", "out": tmp_path / "out"} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused(litter):
    with pytest.raises(InputError, match="litter: expected a new or empty folder"):
        synthesize("litter", litter)
