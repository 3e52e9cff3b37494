"""Initial weights: published ones that MMEngine fetches, and a checkpoint that the user gave.

Imports torch and mmengine. Published weights are fetched by MMEngine's own loader into torch's hub folder, once a node.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner, load_state_dict
from mmengine.runner.checkpoint import get_deprecated_model_names, get_external_models, get_torchvision_models

from segdata.errors import InputError

__all__ = ["InitialWeightsHook", "load_weights", "missing_weights", "published_weights", "require_weights"]

CONNECT_TIMEOUT_S = 3.0
HTTP_PORTS = {"http": 80, "https": 443}


def published_weights(config: Any) -> tuple[str, ...]:
    """Returns the checkpoints that building the model of a nested config would load, each once, as written there."""
    return tuple(dict.fromkeys(find_checkpoints(config["model"])))


def find_checkpoints(part: Any) -> Iterator[str]:
    """Yields every `pretrained` and every `init_cfg` checkpoint inside `part`."""
    if isinstance(part, dict):
        if isinstance(part.get("pretrained"), str):
            yield part["pretrained"]
        if part.get("type") == "Pretrained":
            yield part["checkpoint"]
        part = tuple(part.values())
    if isinstance(part, list | tuple):
        for value in part:
            yield from find_checkpoints(value)


def missing_weights(config: Any) -> tuple[str, ...]:
    """Returns the published checkpoints of a config that neither lie in torch's hub folder nor can be fetched.

    Whether a host can be reached is tried by connecting, for 3 s at most.
    """
    return tuple(name for name in published_weights(config) if not is_at_hand(name))


def require_weights(config: Any) -> None:
    """Checks that the published checkpoints of a config can be had.

    Raises:
        InputError: One is neither on this machine nor can be fetched; says where a copy could lie.
    """
    for name in missing_weights(config):
        address = address_of(name)
        raise InputError.of(
            f"expected the published weights {name}, but {address} cannot be reached",
            where="init: imagenet",
            cure=f"Copy the file to {hub_file(address)}, or set `init: none` or a local checkpoint.",
        )


def is_at_hand(name: str) -> bool:
    """Tells whether a checkpoint is a file here, lies in the hub folder, or its host answers."""
    address = address_of(name)
    if "://" not in address:
        return Path(address).is_file()
    return hub_file(address).is_file() or can_connect(address)


def address_of(name: str) -> str:
    """Returns the URL (or path) behind `torchvision://...`, `open-mmlab://...` or a plain URL."""
    scheme, _, model = name.partition("://")
    if scheme in ("torchvision", "modelzoo"):
        return str(get_torchvision_models()[model])
    if scheme in ("open-mmlab", "openmmlab"):
        return str(get_external_models()[get_deprecated_model_names().get(model, model)])
    return name


def hub_file(address: str) -> Path:
    """Returns where torch keeps the file of that address once it is fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(address).path)


def can_connect(address: str) -> bool:
    """Tells whether the host of a URL, or the proxy that is set for it, accepts a connection."""
    url = urlparse(address)
    proxy = os.environ.get(f"{url.scheme}_proxy") or os.environ.get(f"{url.scheme.upper()}_PROXY")
    target = urlparse(proxy) if proxy else url
    if target.hostname is None:
        return False
    try:
        port = target.port or HTTP_PORTS.get(target.scheme, 443)
        socket.create_connection((target.hostname, port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


class InitialWeightsHook(Hook):
    """Loads the user's checkpoint after MMEngine has initialised the model, just before the first step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def before_train(self, runner: Runner) -> None:
        """Called once the model is built and initialised."""
        load_weights(runner.model, self.path)


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Loads the weights that fit from a file that the user gave; never unpickles code.

    Raises:
        InputError: The file holds more than weights, or none that fit.
    """
    weights = read_weights(path)
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise InputError.of(
            f"expected weights of this model, but none of {len(weights)} tensors fits it by name and shape",
            where=path,
            cure="Name a checkpoint of the same model, backbone and width as `init`.",
        )
    load_state_dict(model, fitting, strict=False)
    print_log(f"init: {len(fitting)} of {len(own)} tensors loaded from {path}", logger="current")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the tensors of a checkpoint, bare or under `state_dict`.

    Raises:
        InputError: There is no such file, or it holds more than weights.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError.of(
            f"expected a checkpoint of plain weights, but loading it safely failed ({str(error).splitlines()[0]})",
            where=path,
            cure="Save it again as torch.save({'state_dict': model.state_dict()}, ...).",
        ) from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
