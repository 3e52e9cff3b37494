"""Augmentation in a trial: the steps stand in the pipeline in order, and the stock data sets run them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.augmentations import AUGMENTATION_STEPS, MIXING_STEPS
from search_spaces.knobs import KNOBS
from search_spaces.space import parse_space
from search_spaces.trial_config import InputChoice, ModelChoice, Scalar, TrialConfig
from segdata.errors import SpaceError
from trainables.augmentation.mix_images import MixImages
from trainables.config import build_config
from trainables.description import DataDescription

Nested = dict[str, Any]
TASKS = {"instance": "mask-rcnn", "semantic": "segformer"}
STEPS = {task: [name for name in AUGMENTATION_STEPS if task in KNOBS[name].tasks] for task in TASKS}


def trial_of(task: str, values: dict[str, Scalar], inputs: InputChoice | None = None) -> TrialConfig:
    return TrialConfig(ModelChoice(TASKS[task]), inputs or InputChoice(), augmentation=tuple(sorted(values.items())))


@pytest.fixture
def config_of(particles: DataDescription, litter: DataDescription) -> Callable[..., Nested]:
    """Returns a maker of configs: `config_of("instance", {"rotate": 0.5})`."""

    def make(task: str, values: dict[str, Scalar], inputs: InputChoice | None = None) -> Nested:
        data = particles if task == "instance" else litter
        return build_config(trial_of(task, values, inputs), data, seed=7)

    return make


@pytest.fixture(scope="session")
def open_data() -> Callable[[Nested], Any]:
    """Returns a function that builds the training data of a config with the stock classes."""
    from mmengine.config import Config
    from mmengine.registry import DATASETS, DefaultScope

    from trainables.trial import prepare_process

    prepare_process(1, (), None)

    def build(config: Nested) -> Any:
        with DefaultScope.overwrite_default_scope(config["default_scope"]):
            return DATASETS.build(Config(config["train_dataloader"]["dataset"]))

    return build


def types(pipeline: list[Nested]) -> list[str]:
    return [step["type"] for step in pipeline]


def test_without_augmentation_knobs_the_pipeline_is_stock(config_of: Callable[..., Nested]) -> None:
    for task, annotations in (("instance", "PackDetInputs"), ("semantic", "PackSegInputs")):
        dataset = config_of(task, {"flip": 0.25})["train_dataloader"]["dataset"]
        assert types(dataset["pipeline"]) == [
            "LoadImageFromFile",
            "LoadAnnotations",
            "Resize",
            "RandomFlip",
            annotations,
        ]
        assert dataset["pipeline"][3]["prob"] == 0.25


@pytest.mark.parametrize("task", TASKS)
def test_steps_stand_in_the_order_of_their_rows(task: str, config_of: Callable[..., Nested]) -> None:
    values = {name: 0.1 + index / 100 for index, name in enumerate(STEPS[task])}
    config = config_of(task, {**values, "augmentation_strength": 0.5, "flip": 0.3, "copy_paste_rare": 0.7})
    outer = config["train_dataloader"]["dataset"]
    assert outer["type"] == "MultiImageMixDataset"
    named = [step for step in outer["pipeline"] if "name" in step]
    assert {step["name"]: step["prob"] for step in named} == values
    assert [step["name"] for step in named] == list(values)
    assert {step["strength"] for step in named if step["name"] not in MIXING_STEPS} == {0.5}
    assert [step["rare"] for step in named if step["name"] == "copy_paste"] == [0.7]
    assert [step["prob"] for step in outer["pipeline"] if step["type"] == "RandomFlip"] == [0.3]
    assert types(outer["dataset"]["pipeline"])[:3] == ["LoadImageFromFile", "LoadAnnotations", "Resize"]
    assert not set(types(config["val_dataloader"]["dataset"]["pipeline"])) & {"Augment", "MixImages", "RandomFlip"}


@pytest.mark.parametrize("task", TASKS)
def test_class_frequencies_are_those_of_the_training_data(
    task: str, config_of: Callable[..., Nested], particles: DataDescription, litter: DataDescription
) -> None:
    dataset = config_of(task, {"copy_paste": 0.5})["train_dataloader"]["dataset"]
    (step,) = [step for step in dataset["pipeline"] if step["type"] == "MixImages"]
    if task == "instance":
        assert step["class_frequencies"] == (float(particles.statistics.objects),)  # type: ignore[union-attr]
    else:
        assert step["class_frequencies"] == litter.statistics.class_frequencies  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_stock_data_sets_run_every_step(
    task: str, config_of: Callable[..., Nested], open_data: Callable[[Nested], Any]
) -> None:
    data = open_data(config_of(task, dict.fromkeys(STEPS[task], 0.5), InputChoice(multi_scale=0.3)))
    assert len(data) == 8
    np.random.seed(1)
    samples = [data[index % 8] for index in range(40)]
    for sample in samples:
        assert sample["inputs"].shape[0] == 3 and sample["inputs"].dtype.is_floating_point is False
        size = tuple(sample["inputs"].shape[1:])
        if task == "semantic":
            assert tuple(sample["data_samples"].gt_sem_seg.data.shape) == (1, *size)
            continue
        truth = sample["data_samples"].gt_instances
        assert truth.masks.masks.shape == (len(truth.labels), *size) and len(truth.bboxes) == len(truth.labels) > 0
        assert (truth.masks.masks.any(axis=(1, 2))).all()
    np.random.seed(1)
    again = [data[index % 8] for index in range(10)]
    assert all((one["inputs"] == two["inputs"]).all() for one, two in zip(samples, again, strict=False))
    assert any(one["inputs"].shape != two["inputs"].shape for one, two in zip(samples, samples[8:], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_probability_0_gives_the_plain_images(
    task: str, config_of: Callable[..., Nested], open_data: Callable[[Nested], Any]
) -> None:
    plain = open_data(config_of(task, {"flip": 0.0}))
    wrapped = open_data(config_of(task, {**dict.fromkeys(STEPS[task], 0.0), "flip": 0.0}))
    for index in range(len(plain)):
        one, two = plain[index], wrapped[index]
        assert (one["inputs"] == two["inputs"]).all()
        if task == "instance":
            masks = [sample["data_samples"].gt_instances.masks.masks for sample in (one, two)]
            assert (masks[0] == masks[1]).all()
            boxes = [sample["data_samples"].gt_instances.bboxes.tensor for sample in (one, two)]
            assert (boxes[0] == boxes[1]).all()
        else:
            assert (one["data_samples"].gt_sem_seg.data == two["data_samples"].gt_sem_seg.data).all()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_multi_scale_draws_sizes_around_the_input_size(
    task: str, config_of: Callable[..., Nested], open_data: Callable[[Nested], Any]
) -> None:
    config = config_of(task, {}, InputChoice(image_width=100, image_height=100, multi_scale=0.4))
    np.random.seed(0)
    data = open_data(config)
    sides = [max(data[index % 8]["inputs"].shape[1:]) for index in range(60)]
    assert 60 <= min(sides) < 75 and 125 < max(sides) <= 140
    if task == "semantic":  # a batch is padded to a size that holds them all
        assert config["model"]["data_preprocessor"]["size"] == (140, 140)


@pytest.mark.slow
def test_without_keep_ratio_images_fill_the_frame(
    config_of: Callable[..., Nested], open_data: Callable[[Nested], Any]
) -> None:
    config = config_of("instance", {}, InputChoice(image_width=120, image_height=60, keep_ratio=False))
    assert tuple(open_data(config)[0]["inputs"].shape) == (3, 60, 120)
    assert config["test_dataloader"]["dataset"]["pipeline"][1]["keep_ratio"] is False
    kept = config_of("instance", {}, InputChoice(image_width=120, image_height=60, keep_ratio=True))
    assert tuple(open_data(kept)[0]["inputs"].shape) == (3, 60, 60)  # square images


class Labelled:
    """Twenty images; class 2 is in one of them, class 0 everywhere, class 1 in every other."""

    def __len__(self) -> int:
        return 20

    def get_data_info(self, index: int) -> Nested:
        labels = [0, *([1] if index % 2 else []), *([2] if index == 13 else [])]
        return {"instances": [{"bbox_label": label, "ignore_flag": 0} for label in labels]}


def test_rare_classes_are_drawn_by_one_over_their_frequency() -> None:
    step = MixImages("copy_paste", 1.0, rare=1.0, class_frequencies=(100.0, 50.0, 1.0, 0.0))
    np.random.seed(0)
    draws = [(step.get_indices(Labelled())[0], step.wanted) for _ in range(300)]
    wanted = [draw[1] for draw in draws]
    # 1/100 : 1/50 : 1/1 = 1 % : 2 % : 97 %; a class that never occurs is never drawn.
    assert 0.9 < wanted.count(2) / 300 < 1.0 and 3 not in wanted
    assert {index for index, label in draws if label == 2} == {13}
    assert {index for index, label in draws if label == 1} <= set(range(1, 20, 2))


def test_an_image_of_a_class_that_few_images_hold_is_found_each_time() -> None:
    class Many(Labelled):
        looks = 0

        def __len__(self) -> int:
            return 2000

        def get_data_info(self, index: int) -> Nested:
            self.looks += 1
            return {"instances": [{"bbox_label": int(index % 500 == 13), "ignore_flag": 0}]}

    data, step = Many(), MixImages("copy_paste", 1.0, rare=1.0, class_frequencies=(1e9, 4.0))
    np.random.seed(0)
    found = [step.get_indices(data)[0] for _ in range(200)]
    assert {found.count(index) > 25 for index in (13, 513, 1013, 1513)} == {True}, "all four are alike"
    assert set(found) == {13, 513, 1013, 1513}
    assert data.looks <= 2000, "no image is looked at twice"


def test_a_rare_class_that_no_image_holds_leaves_all_images_alike() -> None:
    step = MixImages("copy_paste", 1.0, rare=1.0, class_frequencies=(1e9, 0.0, 0.0, 1.0))
    np.random.seed(0)
    assert {step.get_indices(Labelled())[0] for _ in range(300)} == set(range(20))


@pytest.mark.parametrize("frequencies", [(), (7.0,), (7.0, 0.0), (float("nan"), float("nan"))])
def test_without_two_classes_none_is_rare(frequencies: tuple[float, ...]) -> None:
    step = MixImages("copy_paste", 1.0, rare=1.0, class_frequencies=frequencies)
    assert len(step.get_indices(Labelled())) == 1 and step.wanted is None


def test_a_rare_share_of_0_draws_all_images_alike() -> None:
    step = MixImages("copy_paste", 0.5, rare=0.0, class_frequencies=(100.0, 50.0, 1.0))
    np.random.seed(0)
    draws = [step.get_indices(Labelled()) for _ in range(1000)]
    assert 420 < sum(map(len, draws)) < 580 and step.wanted is None
    assert {index for draw in draws for index in draw} == set(range(20))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_mix": 0.5}, "class_mix"),
        ({"flip": 0.5, "copy_paste_rare": 0.5}, "expected copy_paste beside copy_paste_rare, but got none"),
        ({"augmentation_strength": 1.5, "rotate90": 0.5}, "beside augmentation_strength, but got none"),
    ],
)
def test_a_knob_without_effect_is_refused(
    values: dict[str, Scalar], message: str, config_of: Callable[..., Nested]
) -> None:
    with pytest.raises(SpaceError, match=message):
        config_of("instance", values)


def test_a_space_with_a_knob_without_effect_is_refused_where_it_stands() -> None:
    space: Nested = {"model": {"choice": ["mask-rcnn"]}, "copy_paste_rare": {"float": [0.0, 1.0]}}
    with pytest.raises(SpaceError, match="copy_paste_rare: expected copy_paste beside copy_paste_rare, but got none"):
        parse_space(space, {}, [], {}, task="instance", where="sweep.yaml")
    space["model"] = {"choice": ["mask-rcnn", "ms-rcnn"]}
    space["copy_paste"] = {"float": [0.0, 0.5], "when": {"model": "ms-rcnn"}}
    with pytest.raises(SpaceError, match="beside copy_paste_rare, but got trials without. Give both the same `when`"):
        parse_space(space, {}, [], {}, task="instance", where="sweep.yaml")
    space["copy_paste_rare"] = {"float": [0.0, 1.0], "when": {"model": "ms-rcnn"}}
    assert parse_space(space, {}, [], {}, task="instance", where="sweep.yaml")
    space["copy_paste"] = {"float": [0.0, 0.5]}
    assert parse_space(space, {}, [], {}, task="instance", where="sweep.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_trial_trains_with_every_step(
    task: str,
    particles: DataDescription,
    litter: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    request_of: Callable[..., Any],
    train: Callable[..., list[Nested]],
    tmp_path: Path,
) -> None:
    data = particles if task == "instance" else litter
    values = {**dict.fromkeys(STEPS[task], 0.2), "copy_paste_rare": 0.5}
    trial = replace(tiny_trial(TASKS[task], epochs=1), augmentation=tuple(sorted(values.items())))
    messages = train(request_of(trial, data, tmp_path / "trial"))
    assert [message["epoch"] for message in messages] == [1]
    assert (tmp_path / "trial" / "best.pth").is_file()
