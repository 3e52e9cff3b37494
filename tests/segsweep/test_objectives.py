"""Several objectives and limits in a sweep file, what of them is refused, the Pareto front against its definition."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segdata.errors import InputError
from segsweep.objectives import Objective, front
from segsweep.sweep_file import Sweep, load_sweep, read_config
from trainables.limits import Limit, broken_at_once

SWEEP = """\
name: short
task: instance
data:
  train: {annotations: train.json, images: images}
  val: {annotations: val.json, images: images}
budget: {trials: 1}
fixed: {model: mask-rcnn}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("train.json", "val.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def sweep_of(folder: Path, more: str) -> Sweep:
    path = folder / "sweep.yaml"
    path.write_text(SWEEP + more)
    return load_sweep(path)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", [("segm_mAP", "max")]),
        ("metric: bbox_mAP\n", [("bbox_mAP", "max")]),
        ("metric: [segm_mAP]\nmode: [max]\n", [("segm_mAP", "max")]),
        ("metric: [segm_mAP, latency_ms]\n", [("segm_mAP", "max"), ("latency_ms", "min")]),
        ("metric: [segm_mAP, latency_ms, bbox_mAP]\nmode: max\n",
         [("segm_mAP", "max"), ("latency_ms", "min"), ("bbox_mAP", "max")]),
        ("metric: [bbox_mAP, training_s]\nmode: [max, min]\n", [("bbox_mAP", "max"), ("training_s", "min")]),
    ],
)  # fmt: skip
def test_objectives_of_a_sweep_file(folder: Path, more: str, expected: list[tuple[str, str]]) -> None:
    config = sweep_of(folder, more).config
    assert [tuple(objective) for objective in config.objectives] == expected
    assert (config.metric, config.mode) == expected[0]


def test_a_sweep_whose_space_is_written_out_whole_keeps_its_objectives(folder: Path) -> None:
    (folder / "more.yaml").write_text("space: {lr: {float: [0.1, 0.2]}}\n")
    sweep = sweep_of(folder, "include: more.yaml\nmetric: [bbox_mAP, latency_ms]\nconstraints: [parameters_M <= 30]\n")
    (folder / "kept.yaml").write_text(sweep.text())
    kept, _ = read_config(folder / "kept.yaml")
    assert (kept.objectives, kept.limits) == (sweep.config.objectives, sweep.config.limits)
    assert len(kept.objectives) == 2 and kept.limits == (Limit("parameters_M", "<=", 30.0),)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("metric: []", "8: metric: expected the name of a metric or a list of names, but got"),
        ("metric: [segm_mAP, 3]", "8: metric: expected the name of a metric or a list of names, but got"),
        ("metric: [segm_mAP, latency]", r"8: metric.1: .* but got 'latency'. Did you mean latency_ms\?"),
        ("metric: [segm_mAP, mIoU]", "8: metric.1: expected a metric of the task instance or a cost, but got 'mIoU'"),
        ("metric: [mIoU, latency_ms]", "8: metric: expected a metric of the task instance, but got 'mIoU'"),
        ("metric: [segm_mAP, bbox_mAP, segm_mAP]", "8: metric.2: expected each objective once, but got segm_mAP twice"),
        ("metric: latency_ms", "8: metric: expected a score first, .*but got the cost latency_ms. Write metric: .seg"),
        ("metric: [latency_ms, segm_mAP]", "8: metric: expected a score first, .*but got the cost latency_ms"),
        ("metric: [segm_mAP, latency_ms, training_s]\nmode: [max, min]",
         r"9: mode: expected max or min, or one of them for each metric, but got \['max', 'min'\]"),
        ("mode: [max, min]", "8: mode: expected max or min, or one of them for each metric"),
        ("metric: [segm_mAP, latency_ms]\nmode: [max, fast]", "9: mode: expected max or min, or one .*'fast'"),
        ("metric: [segm_mAP, latency_ms]\nmode: [max, max]", "9: mode.1: expected min for latency_ms, which is a cost"),
        ("metric: [segm_mAP, bbox_mAP]\nmode: [max, min]", "9: mode.1: expected max, because more bbox_mAP is better"),
        ("metric: [segm_mAP, latency_ms]\nmode: [min, min]", "9: mode: expected max, because more segm_mAP is better"),
        ("constraints: latency_ms <= 50", "8: constraints: expected a list, but got 'latency_ms <= 50'"),
        ("constraints: [latency_ms < = 50]", "8: constraints: expected NAME <= NUMBER .*got 'latency_ms < = 50'"),
        ("constraints: [latency_ms 50]", "8: constraints: expected NAME <= NUMBER .*but got 'latency_ms 50'"),
        ("constraints: [latency_ms <= fast]", "8: constraints: expected NAME <= NUMBER .*but got 'latency_ms <= fast'"),
        ("constraints: [latency_ms <= nan]", "8: constraints: expected NAME <= NUMBER"),
        ("constraints: [latency_ms <= 9, latency <= 50]", r"8: constraints.1: .*'latency'. Did you mean latency_ms\?"),
        ("constraints: [latency_ms <= 9, latency_ms <= 8]", "8: constraints.1: expected one limit latency_ms <=, but"),
        ("metric: [segm_mAP, latency_ms]\nsearch: {sampler: cmaes}", "9: search.sampler: .*got cmaes, which knows one"),
        ("metric: [segm_mAP, latency_ms]\nsearch: {scheduler: asha}", "9: search.scheduler: .*none.*but got asha"),
    ],
)  # fmt: skip
def test_what_is_refused(folder: Path, more: str, message: str) -> None:
    with pytest.raises(InputError, match=f"sweep.yaml:.*{message}") as caught:
        sweep_of(folder, more + "\n")
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "operator", "bound"),
    [
        ("latency_ms <= 50", "latency_ms", "<=", 50.0),
        ("  segm_mAP>=0.3 ", "segm_mAP", ">=", 0.3),
        ("training_s <= 1e4", "training_s", "<=", 10_000.0),
    ],
)
def test_limits_are_read_and_written(text: str, name: str, operator: str, bound: float) -> None:
    limit = Limit.parse(text)
    assert (limit.name, limit.operator, limit.bound) == (name, operator, bound)
    assert Limit.parse(limit.text) == limit


def test_a_limit_is_broken_beyond_its_bound_by_a_share_of_it() -> None:
    fast, good = Limit.parse("latency_ms <= 50"), Limit.parse("mIoU >= 0.5")
    assert fast.excess({"latency_ms": 75.0}) == 0.5 and good.excess({"mIoU": 0.25}) == 0.5
    assert fast.excess({"latency_ms": 50.0}) == 0.0 and good.excess({"mIoU": 0.75}) == -0.5
    assert Limit.parse("mIoU >= 0").excess({"mIoU": -2.0}) == 2.0
    assert fast.excess({}) == fast.excess({"latency_ms": float("nan")}) == 0.0
    assert fast.reason({"latency_ms": 73.1}, "at epoch 1") == "latency_ms 73.1 > 50 at epoch 1"


def test_only_a_cost_that_training_cannot_lower_ends_a_trial_at_once() -> None:
    limits = [Limit.parse(text) for text in ("mIoU >= 0.5", "training_s >= 9", "latency_ms <= 50")]
    assert broken_at_once(limits, {"mIoU": 0.1, "training_s": 1.0}) is None
    assert broken_at_once(limits, {"mIoU": 0.1, "latency_ms": 51.0}) == limits[2]


COORDINATE = st.one_of(st.integers(0, 3).map(float), st.just(float("nan")))
POINTS = st.integers(1, 3).flatmap(lambda size: st.lists(st.lists(COORDINATE, min_size=size, max_size=size)))


@given(POINTS)
def test_the_front_is_what_its_definition_says(points: Sequence[Sequence[float]]) -> None:
    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)

    whole = [index for index, point in enumerate(points) if all(value == value for value in point)]
    expected = {one for one in whole if not any(beats(points[other], points[one]) for other in whole)}
    assert front(points) == expected


def test_of_a_cost_less_is_better() -> None:
    assert Objective("latency_ms", "min").signed(5.0) == -5.0 and Objective("mIoU", "max").signed(0.5) == 0.5
