"""What trials get of the nodes of a launch, and the refusal of models that get no GPU there."""

from pathlib import Path

import pytest

from segdata.errors import InputError
from segdata.synthetic import synthesize
from segsweep.launch_resources import launch_resources
from segsweep.sweep_file import SweepConfig, resolve_sweep


def test_a_model_that_wants_a_gpu_is_refused_where_trials_get_none(tmp_path: Path) -> None:
    folder = synthesize("particles", tmp_path / "data", images=1, size=64)
    role = {"annotations": "annotations.json", "images": "images"}
    values = {
        "name": "x",
        "task": "instance",
        "data": {"train": role, "val": role},
        "budget": {"trials": 1},
        "fixed": {"model": "detectors"},
        "resources": {"models": {"detectors": {"cpu": 1}}},
    }
    sweep = resolve_sweep(SweepConfig.model_validate(values), folder)
    assert launch_resources(sweep, [{"CPU": 4, "GPU": 1}], ()).of("detectors").request() == {"CPU": 1, "GPU": 1}
    with pytest.raises(InputError, match="sweep: space.model: expected a GPU for detectors"):
        launch_resources(sweep, [{"CPU": 4}], ())
    greedy = resolve_sweep(SweepConfig.model_validate(values | {"resources": {"cpu": 8}}), folder)
    with pytest.raises(InputError, match="sweep: resources.cpu: expected at most 4 CPUs a trial"):
        launch_resources(greedy, [{"CPU": 4, "GPU": 1}], ())
