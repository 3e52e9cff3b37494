"""Which networks train on a GPU only. Imports the zoo reader and the model rows of search_spaces; no torch."""

from typing import Any

from search_spaces.models import MODELS
from segdata.errors import InputError
from trainables.description import Task
from trainables.zoo import load_base

__all__ = ["needs_gpu", "refuse_on_cpu", "trains_on_gpu_only"]

Nested = dict[str, Any]

DEFORMABLE = ("DCN", "DCNv2", "DeformConv", "ModulatedDeformConv", "DCNv2Pack")


def trains_on_gpu_only(model: Any) -> bool:
    """Says whether a nested model config holds deformable convolutions.

    Their backward pass on a CPU ends the whole process (a segmentation fault in mmcv's operator), so it must never be
    reached.
    """
    if isinstance(model, dict):
        if model.get("type") in DEFORMABLE or (model.get("type") == "SAC" and model.get("use_deform")):
            return True
        model = tuple(model.values())
    return isinstance(model, list | tuple) and any(trains_on_gpu_only(part) for part in model)


def needs_gpu(name: str, task: Task) -> bool:
    """Says whether the model of a short name or zoo config file trains on a GPU only.

    Raises:
        InputError: There is no such model for this task.
    """
    return MODELS[name].needs_gpu if name in MODELS else trains_on_gpu_only(load_base(name, task)["model"])


def refuse_on_cpu(name: str, where: str) -> InputError:
    """Returns the error for a model that would have to train on a CPU."""
    return InputError.of(
        f"expected a GPU for {name}, whose deformable convolutions crash while they learn on a CPU, but got none",
        where=where,
        cure="Leave the model out, or run where a trial gets a GPU (`resources: {gpu: 1}`, --address).",
    )
