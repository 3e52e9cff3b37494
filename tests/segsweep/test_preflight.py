"""What is checked before Ray starts, and the values that the data set fits the untuned baseline to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.space import Space, parse_space
from segdata.errors import InputError, SpaceError
from segdata.statistics import ObjectStatistics
from segsweep.preflight import check_configs, check_devices, fitted_values
from trainables.description import DataDescription, RoleFiles

SpaceOf = Callable[..., Space]

# 300 objects in the fullest image; the smallest tenth are 16 px wide, in images that need no enlarging.
CROWDED = ObjectStatistics(
    images=10,
    objects=2000,
    objects_per_image_median=200.0,
    objects_per_image_max=300,
    object_size_px_p10=16.0,
    object_size_px_p50=20.0,
    object_size_px_p90=30.0,
    image_width_median=512.0,
    image_height_median=512.0,
    image_width_max=512,
    image_height_max=512,
)


@pytest.fixture
def crowded(tmp_path: Path) -> DataDescription:
    role = RoleFiles(tmp_path, annotations=tmp_path / "train.json")
    return DataDescription("instance", ("nucleus",), role, role, CROWDED, "f00d")


def test_searched_limits_are_fitted_to_the_data(space_of: SpaceOf, crowded: DataDescription) -> None:
    space = space_of({"detections_per_image": {"int": [50, 1000]}, "anchor_scale": {"float": [1.0, 16.0]}})
    # Half again as many as in the fullest image; 16 px at the finest stride of 4 px is an anchor of 4 strides.
    assert fitted_values(space, crowded) == {"detections_per_image": 450, "anchor_scale": 4.0}
    baseline = space.baseline(fitted_values(space, crowded))
    assert (baseline["detections_per_image"], baseline["anchor_scale"]) == (450, 4.0)


def test_a_fitted_value_outside_its_range_is_moved_to_the_edge(space_of: SpaceOf, crowded: DataDescription) -> None:
    space = space_of({"detections_per_image": {"int": [50, 200]}})
    assert space.baseline(fitted_values(space, crowded))["detections_per_image"] == 200


def test_what_is_not_searched_is_not_fitted_here(space_of: SpaceOf, crowded: DataDescription) -> None:
    assert fitted_values(space_of({"lr": {"float": [0.1, 0.2]}}, anchor_scale=2.0), crowded) == {}


def test_a_config_path_that_is_not_there_is_named(crowded: DataDescription) -> None:
    space = parse_space(
        {"lr": {"float": [0.1, 0.2]}},
        {"model.test_cfg.rcnn.nms.iou_treshold": 0.5},
        (),
        {"model": "mask-rcnn", "epochs": 3, "init": "none"},
        task="instance",
        where="test",
    )
    with pytest.raises(SpaceError, match="iou_threshold"):
        check_configs(space, crowded)


def test_models_that_need_a_gpu_look_at_their_own_resources(space_of: SpaceOf) -> None:
    space = space_of({"model": {"choice": ["mask-rcnn", "detectors"]}})
    check_devices(space, "instance", 0, {"detectors": 1})
    check_devices(space, "instance", 1, {"mask-rcnn": 0})
    with pytest.raises(InputError, match="space.model: expected a GPU for detectors"):
        check_devices(space, "instance", 1, {"detectors": 0})
    half = space_of({"model": {"choice": ["mask-rcnn", "ms-rcnn"]}}, precision="fp16")
    check_devices(half, "instance", 0, {"mask-rcnn": 0.5, "ms-rcnn": 0.5})
    with pytest.raises(InputError, match="space.precision: expected a GPU for precision fp16"):
        check_devices(half, "instance", 0.5, {"ms-rcnn": 0})
