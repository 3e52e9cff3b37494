"""Initial weights: loading them into a model just before its first step, and telling what was loaded and what was not.

Imports torch and mmengine. Files lie on this machine already (`segsweep weights fetch`); a trial fetches nothing.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner, load_state_dict

from segdata.errors import InputError
from trainables.checkpoint_reader import Weights, read_weights
from trainables.initial_parts import Placed
from trainables.loaded_weights import LoadedWeights, describe_loaded

__all__ = ["InitialWeightsHook", "load_parts"]

SCHEME = "segsweep-read://"  # hands tensors that we have read to MMEngine's own loading code
# Of the encoder's parameters: ResNet-50's weights would fill 55 % of a ResNet-101. Published encoders are chosen by us;
# DetectoRS adds to each of its convolutions a second one that starts at zero, so that ResNet's weights fill 61 %;
# SegNet's backbone holds its decoder too, so that VGG's fill just under 50 %.
LEAST_SHARE, LEAST_PUBLISHED_SHARE = 0.75, 0.45
ENCODER = "backbone."
# What a file of the encoder alone is called by, below the model: ours, and segmentation-models-pytorch's.
BARE_PREFIXES = ("", ENCODER, "backbone.encoder.", "backbone.encoder.model.")


class InitialWeightsHook(Hook):
    """Loads the parts after MMEngine has initialised the model, just before the first step.

    Args:
        init: What the trial says.
        placed: What it stands for.
        record: Where to write what was loaded.
    """

    def __init__(self, init: str, placed: Sequence[Placed], record: Path) -> None:
        self.init, self.placed, self.record = init, placed, record

    def before_train(self, runner: Runner) -> None:
        """Called once the model is built and initialised."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loaded = load_parts(model, self.init, self.placed)
        print_log(f"init: {loaded.text()}", logger="current")
        self.record.write_text(json.dumps(asdict(loaded), indent=2))


def load_parts(model: torch.nn.Module, init: str, placed: Sequence[Placed]) -> LoadedWeights:
    """Loads every part into the model, on the device where it is.

    Raises:
        InputError: A file is not there, holds more than weights, or those of another architecture.
    """
    with recorded(model) as filled:
        for each in placed:
            load_part(model, each)
    loaded = describe_loaded(init, [each.path.name for each in placed], shapes_of(model), filled)
    refuse_other_architecture(loaded, placed)
    return loaded


def shapes_of(model: torch.nn.Module) -> dict[str, int]:
    """Returns the size of each tensor that weights can fill; counters of batches are no weights."""
    return {
        name: value.numel() for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")
    }


@contextmanager
def recorded(model: torch.nn.Module) -> Iterator[set[str]]:
    """Gives a set that grows by the name of each tensor of the model that is loaded inside the block.

    Hooks see the tensors just before torch copies them, after all renaming and resizing, whoever asked for it.
    """
    filled: set[str] = set()
    handles = [
        module.register_load_state_dict_pre_hook(partial(note_filled, filled, f"{place}." if place else ""))
        for place, module in model.named_modules()
    ]
    try:
        yield filled
    finally:
        for handle in handles:
            handle.remove()


def note_filled(
    filled: set[str], place: str, module: torch.nn.Module, weights: Mapping[str, Any], prefix: str, *others: object
) -> None:
    """Notes which of a module's own tensors are in `weights` with the same shape."""
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, value in own:
        given = weights.get(prefix + name)
        if given is not None and given.shape == value.shape:
            filled.add(place + name)


def load_part(model: torch.nn.Module, placed: Placed) -> None:
    """Loads one file into the module that it is meant for."""
    part, path = placed.part, placed.path
    weights = read_weights(path)
    if not part.module:
        load_whole(model, weights, path)
        return
    module = model.get_submodule(part.module)
    if part.module == "backbone.encoder" and hasattr(module, "model"):
        load_timm(module, path)
    elif hasattr(module, "init_weights"):
        load_by_upstream(module, renamed(below(weights, part.prefix or ""), part.renames), path)
    else:
        load_fitting(module, weights)


def load_by_upstream(module: Any, weights: Weights, path: Path) -> None:
    """Lets a backbone load as upstream wrote it: Swin's converted names, BEiT's and ViT's resized positions.

    Raises:
        InputError: Its code refuses them.
    """
    if getattr(module, "convert_weights", None) is False:  # MMDetection's Swin reads only names below this one
        weights = OrderedDict((ENCODER + name, value) for name, value in weights.items())
    address = f"{SCHEME}{path}"
    CheckpointLoader.register_scheme(SCHEME, lambda name, map_location: {"state_dict": weights}, force=True)
    before = module.init_cfg
    module.init_cfg = ConfigDict(type="Pretrained", checkpoint=address)
    if hasattr(module, "pretrained"):  # DetectoRS reads it in the place of init_cfg
        module.pretrained = address
    module.is_init = False  # it has been initialised at random
    try:
        module.init_weights()
    except (RuntimeError, AssertionError, KeyError) as error:
        raise InputError.of(
            f"expected weights of {type(module).__name__}, but got: {str(error).splitlines()[-1].strip()}",
            where=path,
            cure="Choose other weights as `init`, or another backbone.",
        ) from error
    finally:
        module.init_cfg = before
        if hasattr(module, "pretrained"):
            module.pretrained = None


def below(weights: Weights, prefix: str) -> Weights:
    """Returns the weights whose names begin with `prefix`, without it."""
    if not prefix:
        return weights
    return OrderedDict((name.removeprefix(prefix), value) for name, value in weights.items() if name.startswith(prefix))


def renamed(weights: Weights, renames: tuple[tuple[str, str], ...]) -> Weights:
    """Returns the weights with parts of their names replaced."""
    for old, new in renames:
        weights = OrderedDict((name.replace(old, new), value) for name, value in weights.items())
    return weights


def load_timm(encoder: Any, path: Path) -> None:
    """Loads timm's own file by timm's own code, which knows each model's old names, then takes it over by name."""
    import timm  # seconds to import, and only `tu-` encoders need it

    whole = timm.create_model(
        encoder.name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, features_only=True
    )
    load_fitting(encoder.model, OrderedDict(whole.state_dict()))


def load_whole(model: torch.nn.Module, weights: Weights, path: Path) -> None:
    """Loads a checkpoint of the whole model, or of its encoder alone.

    Raises:
        InputError: Nothing fits, or the file's encoder is larger than the model's.
    """
    named = named_as_in(model, weights)
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    fitting = [name for name, value in named.items() if sizes.get(name) == value.shape]
    if not fitting:
        raise InputError.of(
            f"expected weights of this model, but none of {len(weights)} tensors fits it by name and shape",
            where=path,
            cure="Name a checkpoint of the same model, backbone and width as `init`.",
        )
    refuse_larger_encoder(named, set(fitting), path)
    load_fitting(model, named)
    backbone = getattr(model, "backbone", None)
    if hasattr(backbone, "resize_rel_pos_embed") or hasattr(backbone, "resize_pos_embed"):
        encoder = below(named, ENCODER)
        if encoder:  # positions of another image size
            load_by_upstream(backbone, encoder, path)


def named_as_in(model: torch.nn.Module, weights: Weights) -> Weights:
    """Returns the weights under the names that most of the model's tensors have: without the wrapper of parallel
    training, and below `backbone.` if the file holds an encoder alone.
    """
    own = set(model.state_dict())
    bare = OrderedDict((name.removeprefix("module."), value) for name, value in weights.items())
    best = max(BARE_PREFIXES, key=lambda prefix: sum(prefix + name in own for name in bare))
    named = OrderedDict((best + name, value) for name, value in bare.items())
    if hasattr(weights, "_metadata") and not best:
        named._metadata = weights._metadata  # type: ignore[attr-defined]
    return named


def load_fitting(module: torch.nn.Module, weights: Weights) -> None:
    """Loads whatever fits by name and shape, with MMEngine's migrations of old names."""
    load_state_dict(module, weights, strict=False, logger="silent")


def refuse_larger_encoder(named: Weights, fitting: set[str], path: Path) -> None:
    """Refuses a file whose encoder has much that this model's has no place for: a deeper one of the same family.

    Raises:
        InputError: Says how much of the file fits.
    """
    groups = {top_of(name) for name in fitting if name.startswith(ENCODER)}  # heads of a classifier fit nowhere
    below = [name for name in named if top_of(name) in groups]
    share = sum(named[name].numel() for name in below if name in fitting) / max(
        1, sum(named[name].numel() for name in below)
    )
    if below and share < LEAST_SHARE:
        raise InputError.of(
            f"expected weights of this architecture, but only {share:.0%} of the file's encoder (by parameters; "
            f"{sum(name in fitting for name in below)} of {len(below)} tensors) has a place in this one",
            where=path,
            cure="Name a checkpoint of the same backbone and width as `init`.",
        )


def top_of(name: str) -> str:
    """Returns the first two names of a dotted path: a block of the encoder."""
    return ".".join(name.split(".")[:2])


def refuse_other_architecture(loaded: LoadedWeights, placed: Sequence[Placed]) -> None:
    """Refuses weights that leave a good part of the encoder as it was.

    Raises:
        InputError: Says how much matched.
    """
    least = LEAST_SHARE if any(not each.part.module for each in placed) else LEAST_PUBLISHED_SHARE
    if placed and loaded.encoder_share < least:
        raise InputError.of(
            f"expected weights of this architecture, but they fill only {loaded.encoder_share:.0%} of the encoder's "
            f"parameters ({loaded.text()})",
            where=", ".join(str(each.path) for each in placed),
            cure=f"At least {least:.0%} must match: name a checkpoint of the same backbone and width as `init`.",
        )
