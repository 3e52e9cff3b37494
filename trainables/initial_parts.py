"""Which file goes where before a trial's first step: from `init` and the model's config to a list of parts.

Pure functions on plain nested dicts; imports the zoos' readers and the tables of published weights.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.models import MODELS, is_checkpoint_file, is_sweep_reference
from search_spaces.trial_config import ModelChoice
from search_spaces.wording import some
from segdata.errors import InputError
from trainables.encoders import ENCODERS, weights_of
from trainables.published_file import PublishedFile, published_file
from trainables.published_weights import DATASETS, datasets_of, whole_model_url

__all__ = ["Part", "Placed", "files_of", "parts_of", "take_published", "weights_folder"]

Nested = dict[str, Any]

# Place in a config -> place in the model, where the two differ: DetectoRS unrolls its second backbone into a list.
MODULES = {"neck.rfp_backbone": "neck.rfp_modules.0"}


@dataclass(frozen=True, slots=True)
class Part:
    """One file and where its weights go.

    Attributes:
        module: Dotted path of a module of the model, "" for the whole model.
        checkpoint: A URL, `torchvision://NAME`, `open-mmlab://NAME`, or a path.
        prefix: Only the tensors below it are meant.
        renames: (part of a name in the file, what it is called here), applied in order.
    """

    module: str
    checkpoint: str
    prefix: str | None = None
    renames: tuple[tuple[str, str], ...] = ()

    @property
    def file(self) -> PublishedFile | None:
        """The published file, None for a path."""
        address = address_of(self.checkpoint)
        return published_file(address) if "://" in address else None

    def path(self, weights: Path, folder: Path) -> Path:
        """Returns where the file lies: published ones in `weights`, paths start at `folder`."""
        file = self.file
        return folder / Path(self.checkpoint).expanduser() if file is None else weights / file.name


@dataclass(frozen=True, slots=True)
class Placed:
    """A part, and where its file lies on this machine."""

    part: Part
    path: Path


def address_of(name: str) -> str:
    """Returns the URL (or path) behind `torchvision://...`, `open-mmlab://...` or a plain URL."""
    scheme, _, model = name.partition("://")
    if scheme not in ("torchvision", "modelzoo", "open-mmlab", "openmmlab"):
        return name
    # Imported here, for it brings torch: `segsweep check` of a sweep without published weights does without.
    from mmengine.runner.checkpoint import get_deprecated_model_names, get_external_models, get_torchvision_models

    if scheme in ("torchvision", "modelzoo"):
        return str(get_torchvision_models()[model])
    return str(get_external_models()[get_deprecated_model_names().get(model, model)])


def weights_folder(chosen: Path | None = None) -> Path:
    """Returns where published weights lie on this machine: SEGSWEEP_WEIGHTS, else `chosen`, else torch's own cache.

    Raises:
        InputError: SEGSWEEP_WEIGHTS is a relative path.
    """
    named = Path(os.environ.get("SEGSWEEP_WEIGHTS", "")).expanduser()
    if named.is_absolute():
        return named
    if named != Path():  # trials run in another folder than the command that checked
        raise InputError.of(
            f"expected an absolute path, but got {str(named)!r}",
            where="SEGSWEEP_WEIGHTS",
            cure=f"Write {named.absolute()}",
        )
    if chosen is not None:
        return chosen
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"


def take_published(model: Nested) -> tuple[Part, ...]:
    """Removes every published checkpoint from a model's config, in place, and returns them as parts.

    We load them ourselves: MMEngine's own way would fetch inside a trial and unpickle code, and stock tools that read
    the exported config would fetch them again for nothing.
    """
    found = [Part("backbone", model["pretrained"])] if isinstance(model.get("pretrained"), str) else []
    model.pop("pretrained", None)
    return tuple(dict.fromkeys([*found, *take_nested(model, "")]))


def take_nested(part: Any, place: str) -> list[Part]:
    """Takes the checkpoints of all dicts inside `part`, which stands at the dotted `place`."""
    if isinstance(part, list | tuple):
        return [found for index, value in enumerate(part) for found in take_nested(value, f"{place}.{index}")]
    if not isinstance(part, dict):
        return []
    taken = []
    module = MODULES.get(place, place)
    if isinstance(part.get("pretrained"), str):
        taken.append(Part(module, part["pretrained"]))
        part["pretrained"] = None
    for entry in entries_of(part):
        if entry.get("type") == "Pretrained":
            taken.append(Part(module, entry["checkpoint"], entry.get("prefix")))
            remove_entry(part, entry)
    return taken + [
        found for key, value in part.items() for found in take_nested(value, f"{place}.{key}" if place else str(key))
    ]


def entries_of(part: Nested) -> list[Nested]:
    """Returns the entries of `init_cfg`, which is one or a list of them."""
    written = part.get("init_cfg")
    return [entry for entry in (written if isinstance(written, list | tuple) else [written]) if isinstance(entry, dict)]


def remove_entry(part: Nested, entry: Nested) -> None:
    """Removes one entry of `init_cfg`."""
    if isinstance(part["init_cfg"], dict):
        del part["init_cfg"]
    else:
        part["init_cfg"] = [other for other in part["init_cfg"] if other is not entry]


def parts_of(
    choice: ModelChoice, model: Mapping[str, Any], published: tuple[Part, ...], local: Mapping[str, Path]
) -> tuple[Part, ...]:
    """Returns what `init` loads.

    Args:
        choice: The trial's model.
        model: Its config.
        published: The ImageNet weights that its config named.
        local: What `sweep:NAME` stands for, by the value of `init`.

    Raises:
        InputError: There are no such weights for this model; names what there is.
    """
    init = choice.init
    if init == "none":
        return ()
    if init in local:
        return (Part("", str(local[init])),)
    if is_sweep_reference(init) or is_checkpoint_file(init):
        return (Part("", init),)
    url = whole_model_url(choice.name, choice.backbone, init) if init in DATASETS else None
    if url is not None:
        return (Part("", url),)
    known = encoder_weights(choice, model, published)
    if init not in known:
        raise no_such_weights(choice, known)
    return known[init]


def encoder_weights(
    choice: ModelChoice, model: Mapping[str, Any], published: tuple[Part, ...]
) -> dict[str, tuple[Part, ...]]:
    """Returns the published weights of the encoder alone: value of `init` -> parts."""
    backbone = model["backbone"]
    if backbone["type"] == "SmpEncoder":
        return {name: (Part("backbone.encoder", url),) for name, url in smp_weights(backbone["encoder"]).items()}
    modules = tuple(part.module for part in published) or ("backbone",)  # DetectoRS has two
    known = {"imagenet": published} if "backbone" in modules and published else {}
    name = encoder_name(choice)
    rows = weights_of(name, backbone["type"]) if name in ENCODERS else {}
    for init, row in rows.items():
        known[init] = tuple(Part(module, row.checkpoint, row.prefix or None, row.renames) for module in modules)
    return known


def encoder_name(choice: ModelChoice) -> str:
    """Returns the short name of the encoder, "" for a model with its own (U-Net, SegNet) and for a zoo config."""
    stock = MODELS[choice.name].backbones if choice.name in MODELS else ()
    return choice.backbone or next(iter(stock), "")


def smp_weights(encoder: str) -> dict[str, str]:
    """Returns the weights that segmentation-models-pytorch and timm publish of an encoder: name -> URL."""
    from trainables.networks.smp_weights import published_names, published_weights  # seconds to import

    urls = {name: published_weights(encoder, name) for name in published_names(encoder)}
    return {name: url for name, url in urls.items() if url}


def no_such_weights(choice: ModelChoice, known: Iterable[str]) -> InputError:
    """Says what there is for this model on this encoder, and what for the model on others."""
    trained = datasets_of(choice.name)
    backbone = encoder_name(choice) or "its own encoder"
    here = [*known, *(data for data, backbones in trained.items() if backbone in backbones)]
    elsewhere = trained.get(choice.init, ())
    others = f" {choice.name} has {choice.init} with {some(elsewhere)}." if elsewhere else ""
    return InputError.of(
        f"expected published weights, but there is no {choice.init} for {choice.name} with {backbone}",
        where="space.init",
        cure=f"Choose from {', '.join(['none', *here])}, or name a checkpoint file.{others}",
    )


def files_of(parts: tuple[Part, ...]) -> tuple[PublishedFile, ...]:
    """Returns the published files among the parts, each once."""
    return tuple(dict.fromkeys(part.file for part in parts if part.file is not None))
