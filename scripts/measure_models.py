"""Counts the parameters of every model and encoder at stock width into search_spaces/model_sizes.json (`make docs`).

Counts only what the table lacks, since some networks take seconds to build; with --all everything anew.
A model has two classes and its stock encoder; an encoder is counted alone. No weights are loaded.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout

import timm
import torch
from mmdet.utils import register_all_modules as register_mmdet
from mmengine.config import ConfigDict
from mmengine.registry import MODELS as REGISTRY
from mmengine.registry import DefaultScope
from mmseg.utils import register_all_modules as register_mmseg
from segmentation_models_pytorch.encoders import get_encoder

from search_spaces.backbones import FAMILIES
from search_spaces.knob import Task
from search_spaces.model import TIMM_PREFIX, Model, is_timm_encoder
from search_spaces.model_sizes import SIZES_FILE
from search_spaces.models import MODELS
from search_spaces.trial_config import ModelChoice, TrialConfig
from trainables.config import assemble_model
from trainables.networks import register
from trainables.zoo import load_base

CLASSES = 2
SCOPES: dict[Task, str] = {"instance": "mmdet", "semantic": "mmseg"}


def main() -> None:
    """Fills the table and writes it, sorted as the rows are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="count everything anew")
    known = {"models": {}, "encoders": {}} if parser.parse_args().all else json.loads(SIZES_FILE.read_text())
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    register()
    models = {name: known["models"].get(name) or model_size(model) for name, model in MODELS.items()}
    encoders = {name: known["encoders"].get(name) or encoder_size(name) for name in encoder_names()}
    SIZES_FILE.write_text(json.dumps({"models": models, "encoders": encoders}, indent=1) + "\n")


def encoder_names() -> Iterator[str]:
    """Yields every encoder that a model takes once, by family, then those of segmentation-models-pytorch."""
    taken = dict.fromkeys(name for model in MODELS.values() for name in model.backbones)
    by_family = [name for family in FAMILIES.values() for name in family if name in taken]
    yield from dict.fromkeys([*by_family, *taken])


def model_size(model: Model) -> int:
    """Returns the parameters of a model with its stock encoder."""
    return count(network(model, model.backbones[0] if model.backbones else None))


def encoder_size(name: str) -> int:
    """Returns the parameters of an encoder, as the first model that takes it has it."""
    takers = [model for model in MODELS.values() if name in model.backbones]
    if is_timm_encoder(name):
        return count(timm.create_model(name.removeprefix(TIMM_PREFIX), num_classes=0))
    if takers[0].name.startswith("smp-"):
        return count(get_encoder(name, weights=None))
    encoder = network(takers[0], name).backbone
    assert isinstance(encoder, torch.nn.Module)
    return count(encoder)


def network(model: Model, backbone: str | None) -> torch.nn.Module:
    """Builds a model without weights: on no device where its code allows it, else on the CPU."""
    config = ConfigDict(load_base(model.name, model.task)["model"])
    assemble_model(config, TrialConfig(ModelChoice(model.name, backbone, init="none")), CLASSES)
    print(f"{model.name} {backbone or ''}", file=sys.stderr, flush=True)
    with DefaultScope.overwrite_default_scope(SCOPES[model.task]), redirect_stdout(sys.stderr):
        try:
            with torch.device("meta"):
                built: torch.nn.Module = REGISTRY.build(config)
        except (RuntimeError, NotImplementedError):  # it looks at values while it is built
            built = REGISTRY.build(config)
    return built


def count(network: torch.nn.Module) -> int:
    """Returns how many parameters a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
