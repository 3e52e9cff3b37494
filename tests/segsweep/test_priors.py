"""Points from published scores: which, in what order, with what else, and each once over restarts."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from search_spaces.models import MODELS
from search_spaces.space import Space, parse_space
from segdata.errors import InputError
from segsweep.priors import choose_priors, gpu_memory_gb, require_published
from segsweep.search.proposals import enqueue_wish
from segsweep.wishes import Wish
from trainables.published_scores import published_score

SpaceOf = Callable[..., Space]
Open = Callable[..., Any]

SPACE: Mapping[str, Any] = {
    "model": {"choice": ["mask-rcnn", "cascade-mask-rcnn", "ms-rcnn"]},
    "backbone": {"choice": ["r50", "r101", "x101-32x4d"]},
    "optimizer": {"choice": ["adamw", "sgd"]},
    "lr": [
        {"when": {"optimizer": "sgd"}, "float": [1e-3, 1e-1], "log": True},
        {"when": {"optimizer": "adamw"}, "float": [1e-5, 1e-3], "log": True},
    ],
    "cascade_iou_low": {"float": [0.2, 0.5], "when": {"model": "cascade-mask-rcnn"}},
}


def names(space: Space, wanted: int, earlier: tuple[Wish, ...] = (), memory_gb: float | None = None) -> list[str]:
    return [prior.name for prior in choose_priors(space, {}, earlier, wanted, memory_gb).priors]


def test_the_best_encoder_of_each_model_comes_before_any_second_one(space_of: SpaceOf) -> None:
    """Mask AP: Cascade 38.5, 39.6, 40.1; Mask R-CNN 37.1 (the baseline), 38.5, 39.0; MS R-CNN 36.0, 37.6, 38.7."""
    space = space_of(SPACE)
    assert names(space, 2) == ["cascade-mask-rcnn x101-32x4d", "mask-rcnn x101-32x4d"]
    assert names(space, 99) == [
        "cascade-mask-rcnn x101-32x4d",
        "mask-rcnn x101-32x4d",
        "ms-rcnn x101-32x4d",
        "cascade-mask-rcnn r101",
        "mask-rcnn r101",  # of equal scores the model that the space names first
        "cascade-mask-rcnn r50",
        "ms-rcnn r101",
        "ms-rcnn r50",
    ]


def test_all_else_is_as_in_the_baseline_of_that_model(space_of: SpaceOf) -> None:
    space = space_of(SPACE)
    chosen = choose_priors(space, {}, (), 1)
    (wish,) = chosen.wishes(space)
    assert wish.id == "prior-0001"
    assert wish.parameters == {
        "model": "cascade-mask-rcnn",
        "backbone": "x101-32x4d",
        "optimizer": "sgd",
        "lr[optimizer=sgd]": 0.02,
        "cascade_iou_low": 0.5,
    }
    space.decode(chosen.priors[0].sample)


def test_what_an_earlier_point_tries_is_left_out_and_what_it_leaves_open_is_not(space_of: SpaceOf) -> None:
    points = (
        Wish("point-0001", {"model": "cascade-mask-rcnn", "backbone": "x101-32x4d"}),
        Wish("point-0002", {"model": "ms-rcnn"}),
    )
    assert names(space_of(SPACE), 3, points) == ["cascade-mask-rcnn r101", "mask-rcnn x101-32x4d", "ms-rcnn x101-32x4d"]


def test_models_that_do_not_fit_the_gpu_give_way_and_are_named(space_of: SpaceOf) -> None:
    """Published GB: Cascade 5.9, 7.8, 9.0; Mask R-CNN 4.1, 6.1, 7.3; MS R-CNN 4.5, 6.5, 7.9."""
    chosen = choose_priors(space_of(SPACE), {}, (), 2, 7.85)
    assert list(chosen.lines("instance", 2, 7.85)) == [
        "prior: cascade-mask-rcnn r101 (published mask AP 39.6 with 7.8 GB)",
        "prior: mask-rcnn x101-32x4d (published mask AP 39.0 with 7.3 GB)",
        "prior left out: cascade-mask-rcnn x101-32x4d (published mask AP 40.1), since it was trained with 9.0 GB and a "
        "trial gets 7.8 GB of a GPU",
    ]


def test_encoders_by_case_fixed_models_and_what_is_forbidden(space_of: SpaceOf) -> None:
    cases = [
        {"when": {"model": "mask-rcnn"}, "choice": ["r50", "swin-t"]},
        {"when": {"model": "solo"}, "choice": ["r18", "r50"]},
    ]
    cased = space_of({"model": {"choice": ["mask-rcnn", "solo"]}, "backbone": cases})
    assert names(cased, 9) == ["mask-rcnn swin-t", "solo r50"]
    fixed = space_of({"backbone": {"choice": ["r50", "r101", "densenet121"]}})
    chosen = choose_priors(fixed, {}, (), 3)
    assert [prior.name for prior in chosen.priors] == ["mask-rcnn r101"]
    assert list(chosen.lines("instance", 3, None))[1:] == [
        "priors: 1 of 3; nothing else is published of what this space can try"
    ]
    forbidding = space_of(SPACE, forbid=[{"model": "cascade-mask-rcnn", "backbone": ["x101-32x4d", "r101"]}])
    assert names(forbidding, 1) == ["mask-rcnn x101-32x4d"]
    assert "cascade-mask-rcnn r50" in names(forbidding, 9)


def test_models_on_their_own_encoder_and_of_the_other_task() -> None:
    space = parse_space(
        {"model": {"choice": ["deeplabv3plus", "segmenter", "smp-unet"]}}, {}, (), {}, task="semantic", where="test"
    )
    stock = published_score("segmenter", MODELS["segmenter"].backbones[0], "semantic")
    (prior,) = choose_priors(space, {}, (), 5).priors  # the baseline is DeepLabV3+, and of U-Net nothing is published
    assert (prior.name, prior.published) == ("segmenter", stock)


def test_priors_of_models_that_nobody_scored_are_refused() -> None:
    space = parse_space({"model": {"choice": ["smp-unet", "unet"]}}, {}, (), {}, task="semantic", where="test")
    require_published(space, 0, "sweep.yaml")
    with pytest.raises(
        InputError, match=r"sweep.yaml: search.priors: expected models .* the mIoU of, but got smp-unet"
    ):
        require_published(space, 2, "sweep.yaml")


def test_the_memory_of_gpus_is_shared_and_unknown_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = {"gpus": [{"memory": 16 * 2**30}, {"memory": 8 * 2**30}]}
    monkeypatch.setattr("segsweep.priors.probe", lambda code: gpus)
    assert gpu_memory_gb(2.0, here=True) == gpu_memory_gb(1.0, here=True) == 8.0
    assert gpu_memory_gb(0.5, here=True) == 4.0
    assert gpu_memory_gb(1.0, here=False) is None and gpu_memory_gb(0.0, here=True) is None


def test_priors_come_after_the_other_points_once_each_over_restarts(search: Open, space_of: SpaceOf) -> None:
    space = space_of(SPACE)
    point = Wish("point-0001", {"optimizer": "sgd", "lr[optimizer=sgd]": 0.05})
    points = (point, *choose_priors(space, {}, (point,), 2).wishes(space))
    started = []
    for launch in range(3):  # each is killed while its last trial runs
        one = search(space=space, budget=5)
        for wish in points:
            enqueue_wish(one.study, wish, wish.id.partition("-")[0])
        for number in range(2):
            started.append(one.searcher.suggest(f"{launch}-{number}")["number"])
            if number == 0:
                one.finish(f"{launch}-0", [0.1, 0.2, 0.3])
    records = one.records()
    assert [record.origin for record in records] == ["baseline", "point", "prior", "prior"]
    assert started == [0, 1, 1, 2, 2, 3]
    assert [(record.sample["model"], record.sample["backbone"]) for record in records[2:]] == [
        ("cascade-mask-rcnn", "x101-32x4d"),
        ("mask-rcnn", "x101-32x4d"),
    ]
