"""Our own parts in MM*'s registries and in exported configs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.registry
import numpy as np
import pytest
from mmdet.registry import MODELS as DETECTION_MODELS
from mmengine.registry import Registry
from mmseg.registry import MODELS

from search_spaces.knobs import KNOBS
from search_spaces.trial_config import Scalar, TrialConfig
from segdata.predictions import PredictionSet
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_child
from trainables.networks import register
from trainables.networks.names import MODEL_PARTS, TRAINING_PARTS, custom_imports, uses_own_parts
from trainables.prediction_job import PredictionJob
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

Messages = list[dict[str, Any]]
OURS = "trainables"


def ours_in(registry: Registry) -> set[str]:
    """The names under which parts of ours stand in a registry itself."""
    return {name for name, part in registry.module_dict.items() if part.__module__.startswith(f"{OURS}.")}


def test_registering_twice_changes_nothing() -> None:
    register()
    before = dict(MODELS.module_dict)
    register()
    assert MODELS.module_dict == before


def test_every_registered_part_asks_for_its_import() -> None:
    import trainables.segsweep_modules  # noqa: F401

    assert set(MODEL_PARTS) == ours_in(MODELS)
    registries = ("DATA_SAMPLERS", "HOOKS", "OPTIMIZERS", "OPTIM_WRAPPERS", "OPTIM_WRAPPER_CONSTRUCTORS")
    training = {"AdamP"}  # timm's, under a name that MMEngine does not know
    for name in (*registries, "PARAM_SCHEDULERS", "TRANSFORMS"):
        training |= ours_in(getattr(mmengine.registry, name))
    # Stand-ins while a trial trains; no exported config names them.
    assert set(TRAINING_PARTS) == training - {"ReadImage", "ReadLabelMap"}
    assert all(name.startswith("Objectless") for name in ours_in(DETECTION_MODELS))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "EncoderDecoder", "neck": {"type": "BiFPN"}}, True),
        ({"type": "EncoderDecoder", "heads": [{"type": "FCNHead"}, {"type": "mmseg.FCNSkipHead"}]}, True),
        ({"type": "EncoderDecoder", "neck": {"type": "FPN", "name": "BiFPN"}}, False),
        ({"type": dict}, False),
    ],
)
def test_own_parts_are_found_wherever_they_stand(part: dict[str, Any], expected: bool) -> None:
    assert uses_own_parts(part) is expected


def test_a_stock_model_needs_nothing_of_ours_to_predict() -> None:
    stock = {"type": "EncoderDecoder"}
    assert custom_imports({"model": stock}) == {}
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "AdamP"}}
    trained = custom_imports({"model": stock, "optim_wrapper": wrapper})
    assert trained["custom_imports"]["allow_failed_imports"] is True
    own = custom_imports({"model": {"type": "SmpSegmentor"}})
    assert own == {"custom_imports": {"imports": ["trainables.segsweep_modules"], "allow_failed_imports": False}}


def trial_of(model: str, **values: Scalar) -> TrialConfig:
    trial = TrialConfig().with_value("model.name", model)
    tiny: dict[str, Scalar] = {"crop_size": 64, "batch_size": 2, "epochs": 1}
    for name, value in (tiny | values).items():
        trial = trial.with_value(KNOBS[name].field, value)
    return trial


def test_configs_import_our_parts_only_where_they_stand(litter: DataDescription) -> None:
    own = build_config(trial_of("bifpn", backbone="r18"), litter, seed=7)
    stock = build_config(trial_of("semantic-fpn", backbone="r18"), litter, seed=7)
    assert own["custom_imports"]["imports"] == ["trainables.segsweep_modules"]
    assert "custom_imports" not in stock


# What a user would type, in a folder of their own.
STOCK = """
import json, sys
import numpy
from mmseg.apis import inference_model, init_model

directories, images, out = json.loads(sys.argv[1])
found = {}
for name, directory in directories.items():
    model = init_model(directory + "/config.py", directory + "/best.pth", device="cpu")
    for index, image in enumerate(images):
        found[f"{name}{index}"] = inference_model(model, image).seg_logits.data.softmax(dim=0).numpy()
numpy.savez(out, **found)
"""
OWN_NETWORKS: dict[str, dict[str, Scalar]] = {
    "upernet": {"backbone": "beit-adapter-b", "width": 0.25, "head_width": 0.125},
    "smp-unet": {"backbone": "mobilenet_v2", "head_width": 0.25},
}


@pytest.mark.slow
def test_stock_mmsegmentation_predicts_the_same_with_our_networks_from_anywhere(
    litter: DataDescription,
    train: Callable[[TrialRequest], Messages],
    follow: Callable[..., tuple[Messages, Ended]],
    val_job: Callable[..., PredictionJob],
    finished: Callable[[PredictionJob], PredictionSet],
    tmp_path: Path,
) -> None:
    ours: dict[str, PredictionSet] = {}
    for model, values in OWN_NETWORKS.items():
        request = TrialRequest(trial_of(model, **values), litter, tmp_path / model, "mIoU", "max", seed=7)
        (report,) = train(request)
        assert report["epoch"] == 1 and np.isfinite(report["mIoU"])
        job = val_job(TrialFiles(request.directory), litter, tmp_path / f"{model}-predictions")
        _, ended = follow(start_child("trainables.predict:predict_as_asked", job, tmp_path / "predict.log"))
        assert ended == Ended("done"), ended.reason
        ours[model] = finished(job)

    names = [image.file_name for image in ours["upernet"].meta.images]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    directories = {model: str(tmp_path / model) for model in ours}
    arguments = [directories, [str(litter.val.images / name) for name in names], str(tmp_path / "stock.npz")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", STOCK, json.dumps(arguments)]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "stock.npz") as stock:
        for model, predicted in ours.items():
            for index, name in enumerate(names):
                # On disk a probability is a whole number of 255ths.
                np.testing.assert_allclose(
                    predicted.probabilities(name), stock[f"{model}{index}"], atol=0.5 / 255 + 1e-4
                )
