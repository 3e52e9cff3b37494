"""Reading the tensors of a checkpoint file without running anything that the file holds. Imports torch, safetensors."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from segdata.errors import InputError
from trainables.published_file import Kind, kind_of

__all__ = ["Weights", "kind_of_file", "load_pickle", "read_weights"]

Weights = OrderedDict[str, torch.Tensor]

# Where checkpoints keep their tensors: OpenMMLab and us, Swin and others, PyTorch Lightning's and timm's averages.
TENSOR_KEYS = ("state_dict", "model", "state_dict_ema", "module")

# What training loops pickle beside the weights, and that files of before torch 1.6 do not list.
BYSTANDERS = (
    "argparse.Namespace",
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
)


class Inert:
    """Stands for whatever is in a checkpoint beside its tensors: takes anything, does nothing."""

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_weights(path: Path) -> Weights:
    """Reads the tensors of a checkpoint, bare or under `state_dict`; logs, settings and the like are passed over.

    Raises:
        InputError: There is no such file, it is no checkpoint, or it holds something dangerous.
    """
    if not path.is_file():
        raise InputError.of("expected a checkpoint, but got no such file", where=path, cure="Check the path.")
    if (kind := kind_of_file(path)) is None:
        raise InputError.of(
            "expected a checkpoint of torch or safetensors, but got another kind of file",
            where=path,
            cure="Check the path; a download may have saved a web page.",
        )
    try:
        loaded = load_file(path) if kind == "safetensors" else load_pickle(path, kind)
    except Exception as error:  # torch's unpickler asserts, indexes and casts whatever a damaged file says
        raise InputError.of(
            f"expected a checkpoint of plain weights, but loading it safely failed ({first_line(error)})",
            where=path,
            cure="Save it again as torch.save({'state_dict': model.state_dict()}, ...).",
        ) from error
    return tensors_of(loaded)


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def kind_of_file(path: Path) -> Kind | None:
    """Tells the kind of checkpoint by a file's first bytes."""
    with path.open("rb") as stream:
        return kind_of(stream.read(16))


def load_pickle(path: Path, kind: Kind) -> Any:
    """Loads with `weights_only`; every class or function that is not torch's own is replaced by an inert one."""
    named = get_unsafe_globals_in_checkpoint(str(path)) if kind == "zip" else []
    stand_ins: list[Any] = [(Inert, name) for name in {*named, *BYSTANDERS}]
    with safe_globals(stand_ins), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # what can't be read is refused
        return torch.load(path, map_location="cpu", weights_only=True)


def tensors_of(loaded: Any) -> Weights:
    """Returns the tensors by name, with the layer versions that MMEngine's migrations of old checkpoints read."""
    if isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in TENSOR_KEYS if isinstance(loaded.get(key), Mapping)), None)
        if inner is not None:
            loaded = inner
    if not isinstance(loaded, Mapping):
        return OrderedDict()
    weights = OrderedDict((name, value) for name, value in loaded.items() if isinstance(value, torch.Tensor))
    versions = getattr(loaded, "_metadata", None)
    if versions is not None:
        weights._metadata = versions  # type: ignore[attr-defined]
    return weights
