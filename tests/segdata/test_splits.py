"""Splits: disjoint, complete, stratified, the same for the same seed."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segdata.dataset_split import Shares, split_instances
from segdata.errors import DatasetError, InputError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.splits import Split, make_split, pool_small_strata, read_split, write_split
from segdata.strata import instance_strata, same_content_groups

strata_maps = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=6), st.sampled_from("xyz"), min_size=12, max_size=50
)
shares = st.sampled_from([0.0, 0.1, 0.25])


@given(strata_maps, shares, shares, shares, st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_every_image_has_exactly_one_role_in_each_fold(strata, val, test, select, folds, seed):
    split = make_split(strata, val=val, test=test, select=select, folds=folds, seed=seed)
    for fold in split.folds:
        assert sorted((*fold.train, *fold.val, *split.test, *split.select)) == sorted(strata)
        assert fold.train
    assert len(split.test) == (max(1, round(test * len(strata))) if test else 0)
    assert len(split.select) == (max(1, round(select * len(strata))) if select else 0)
    if folds > 1:
        in_val = Counter(name for fold in split.folds for name in fold.val)
        assert set(in_val.values()) == {1}
        assert set(in_val) == set(strata) - {*split.test, *split.select}
        assert max(len(f.val) for f in split.folds) - min(len(f.val) for f in split.folds) <= 3  # one a stratum
    else:
        assert len(split.folds[0].val) == (max(1, round(val * len(strata))) if val else 0)


@given(strata_maps, st.randoms(), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_the_order_of_files_does_not_matter(strata, random, folds):
    shuffled = list(strata.items())
    random.shuffle(shuffled)
    arguments = {"val": 0.2, "test": 0.1, "select": 0.1, "folds": folds, "seed": 3}
    assert make_split(dict(shuffled), **arguments) == make_split(strata, **arguments)


def names(**counts):
    return {f"{stratum}{i}": stratum for stratum, count in counts.items() for i in range(count)}


def draw(strata, **changes):
    return make_split(strata, **({"val": 0.2, "test": 0.0, "select": 0.0, "folds": 1, "seed": 7} | changes))


def test_another_seed_gives_another_split():
    assert draw(names(a=50)).folds != draw(names(a=50), seed=8).folds


def test_strata_keep_their_shares():
    split = draw(names(rare=10, common=90), test=0.2)
    for side, expected in ((split.test, (2, 18)), (split.folds[0].val, (2, 18)), (split.folds[0].train, (6, 54))):
        counts = Counter(name.rstrip("0123456789") for name in side)
        assert (counts["rare"], counts["common"]) == expected
    for fold in draw(names(rare=10, common=90), folds=5).folds:
        assert Counter(name.rstrip("0123456789") for name in fold.val) == {"rare": 2, "common": 18}


def test_strata_too_small_are_pooled_and_said():
    split = draw(names(a=1, b=1, common=30))
    assert split.remarks == ("val: too few images to keep a, b apart; drawn from them together",)
    assert draw(names(a=15, b=15)).remarks == ()


def test_pooling_joins_the_smallest_first():
    strata = names(a=1, b=3, c=9, d=9)
    pooled, joined = pool_small_strata(strata, at_least=2, at_most=4)
    assert (Counter(pooled.values()), joined) == (Counter(b=4, c=9, d=9), ("a", "b"))
    pooled, joined = pool_small_strata(strata, at_least=1, at_most=1)
    assert (len(set(pooled.values())), joined) == (1, ("a", "b", "c", "d"))


@given(st.integers(0, 60), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_a_group_never_straddles_two_sides(seed, folds):
    strata = names(a=20, b=20)
    groups = {name: f"g{int(name[1:]) // 3}" for name in strata if name[0] == "a"}
    split = draw(strata, groups=groups, seed=seed, folds=folds, test=0.2, select=0.1)
    for fold in split.folds:
        for side in (fold.train, fold.val, split.test, split.select):
            for name in side:
                if name in groups:
                    assert {other for other in groups if groups[other] == groups[name]} <= set(side)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": 1.0}, "val: expected a share from 0 to below 1, but got 1.0"),
        ({"test": -0.1}, "test: expected a share"),
        ({"val": 0.5, "test": 0.5}, "but got 1 in all"),
        ({"folds": 0}, "folds: expected 1 to 100 folds, but got 0"),
        ({"folds": 11}, "expected at least 11 images for 11 folds, but got 10"),
        ({"seed": -1}, "seed: expected 0 to 4294967295"),
        ({"val": 0.99}, "val: expected images left to train on, but 10 of 10"),
    ],
)
def test_what_can_not_be_split_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        draw(names(a=10), **changes)


def test_no_images_can_not_be_split():
    with pytest.raises(InputError, match="expected images to split, but got none"):
        draw({})


def test_a_split_file_comes_back_and_has_the_documented_keys(tmp_path):
    split = replace(draw(names(a=20), test=0.1, select=0.1), dataset_fingerprint="abc")
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    raw = json.loads((tmp_path / "split.json").read_text())
    assert set(raw) == {"schema_version", "seed", "dataset_fingerprint", "folds", "test", "select", "remarks"}
    assert raw["schema_version"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema_version=9), "schema_version 1, but got 9"),
        (lambda raw: raw.pop("test"), "key 'test' is wrong"),
        (lambda raw: raw["folds"][0].update(val=3), "expected a list of texts"),
        (
            lambda raw: raw.update(test=raw["folds"][0]["val"]),
            r"folds\[0\]: expected each image in one role, but got 'a",
        ),
    ],
)
def test_a_broken_split_file_is_refused(tmp_path, change, message):
    write_split(draw(names(a=20)), tmp_path / "split.json")
    raw = json.loads((tmp_path / "split.json").read_text())
    change(raw)
    (tmp_path / "split.json").write_text(json.dumps(raw))
    with pytest.raises(DatasetError, match=message) as caught:
        read_split(tmp_path / "split.json")
    assert "split.json" in str(caught.value)


@pytest.mark.parametrize("text", [None, "no json"])
def test_a_missing_split_file_or_no_json_is_refused(tmp_path, text):
    if text:
        (tmp_path / "split.json").write_text(text)
    with pytest.raises(DatasetError, match=r"split\.json: expected .* `segsweep data split`"):
        read_split(tmp_path / "split.json")


def dataset(*classes_by_image):
    images = tuple(ImageRecord(i, f"{i}.png", 4, 4) for i in range(len(classes_by_image)))
    pairs = [(i, c) for i, classes in enumerate(classes_by_image) for c in classes]
    shape = ((0.0, 0.0, 2.0, 0.0, 2.0, 2.0),)
    objects = tuple(ObjectRecord(n, i, c, shape, (0, 0, 2, 2), 2.0, False) for n, (i, c) in enumerate(pairs))
    return InstanceDataset(images, (Category(1, "cat"), Category(2, "dog")), objects)


def test_instance_strata_are_thirds_of_the_count_and_the_rarest_class():
    found = instance_strata(dataset([1], [1, 1, 1], [1] * 9 + [2], [], [1], [1, 1, 1, 2]))
    assert found == {
        "0.png": "few cat",  # thirds of the counts 1, 3, 10, 0, 1, 4: up to 1, up to 3.33, above
        "1.png": "some cat",
        "2.png": "many dog",
        "3.png": "none",
        "4.png": "few cat",
        "5.png": "many dog",
    }


def test_copies_of_a_picture_stay_on_one_side_and_it_is_said(tmp_path):
    data = dataset(*([1] for _ in range(20)))
    for image in data.images:
        colour = (0, 0, 0) if image.id in (3, 11, 17) else (image.id, 1, 1)
        Image.new("RGB", (4, 4), colour).save(tmp_path / image.file_name)
    copies = {"3.png", "11.png", "17.png"}
    paths = {image.file_name: tmp_path / image.file_name for image in data.images}
    assert set(same_content_groups(paths)) == copies
    for seed in range(8):
        split = split_instances(data, tmp_path, Shares(val=0.3, seed=seed))
        assert split.remarks[0] == "3 images are the same picture as another one; copies stay on one side"
        assert copies <= set(split.folds[0].train) or copies <= set(split.folds[0].val)


def test_a_missing_image_is_named_when_looking_for_copies(tmp_path):
    with pytest.raises(DatasetError, match=r"a\.png: expected an image"):
        same_content_groups({"a.png": tmp_path / "a.png"})


def test_a_split_is_a_plain_value():
    assert draw(names(a=5)) == Split(**{field: getattr(draw(names(a=5)), field) for field in Split.__slots__})
