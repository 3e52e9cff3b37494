"""Parameter groups: the encoder's own learning rate, falling rates toward its input, and norms without weight decay.

Imports torch and mmengine.
"""

import re
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from segdata.errors import InputError

__all__ = ["EncoderRatesConstructor", "stage_numbers", "stages_above"]

REPEATED = "neck.rfp_modules."  # DetectoRS's second encoder, whose stages all learn alike
ENCODER, DECODER = "backbone.", "backbone.decoder."  # U-Net and SegNet have their decoder in there too
# Where the number of a stage (of a transformer without stages: of a layer) stands in the encoders' parameter names:
# `layer3.0.conv1`, `stages.2.blocks.0`, `downsample_layers.1`, `layers.7.attn`, `transition2.0`, `norm3`, `_blocks.4`.
STAGE = re.compile(
    r"(?:^|\.)(?:_?(?:layers?|stages?|blocks?|norm|transitions?|denseblock)[._]?|(?:features|downsample_layers|encoder)\.)"
    r"(\d+)(?=\.|$)"
)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


class EncoderRatesConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with three more options of `paramwise_cfg`.

    backbone_lr_factor: factor on the learning rates of `backbone.*`.
    layer_decay: the parameters of stage d of D (from 1) learn with decay^(D + 1 - d), those before the first stage with
        decay^(D + 1), those after the last one and all that is not the encoder with 1 (as BEiT, arXiv 2106.08254, does
        it by layers, and the ViT-Adapter, arXiv 2205.08534, for what it adds to BEiT).
    norm_decay: False = normalisation layers have no weight decay.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        options = dict(paramwise_cfg or {})
        self.lr_factor = float(options.pop("backbone_lr_factor", 1.0))
        self.layer_decay = float(options.pop("layer_decay", 1.0))
        self.norm_decay = bool(options.pop("norm_decay", True))
        # Not empty, so that there are groups at all; and heads that share layers would name them twice.
        super().__init__(optim_wrapper_cfg, options | {"bypass_duplicate": True})

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **others: Any) -> None:
        """Adds the parameters of `module`; once the whole model is in, sets their rates and joins groups alike."""
        super().add_params(params, module, prefix=prefix, **others)
        if not prefix:
            self.set_rates(params, module)
            params[:] = joined(params)

    def set_rates(self, params: list[dict[str, Any]], model: nn.Module) -> None:
        """Changes learning rate and weight decay of one group a parameter."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        norms = {id(own) for part in model.modules() if isinstance(part, NORMS) for own in part.parameters(False)}
        factors = self.encoder_factors(list(names.values()))
        for group in params:
            parameter = group["params"][0]
            group["lr"] = float(group.get("lr", self.base_lr) or 0.0) * factors.get(names[id(parameter)], 1.0)
            if not self.norm_decay and id(parameter) in norms:
                # Named, so that they are a group of their own beside any weight decay, 0 too: it may change in flight.
                group |= {"weight_decay": 0.0, "is_norm": True}

    def encoder_factors(self, names: list[str]) -> dict[str, float]:
        """Returns the factor on the learning rate of every parameter of the encoder.

        Raises:
            InputError: Rates are to fall from stage to stage, but the names tell of none.
        """
        own = [name for name in names if name.startswith(ENCODER) and not name.startswith(DECODER)]
        repeated = dict.fromkeys((name for name in names if name.startswith(REPEATED)), self.lr_factor)
        if self.layer_decay == 1.0:
            return dict.fromkeys(own, self.lr_factor) | repeated
        inner = [name.removeprefix(ENCODER) for name in own]
        if len(set(stage_numbers(inner)) - {None}) < 2:
            raise InputError.of(
                "expected an encoder of two stages or more, but found fewer in its parameters' names",
                where="knob layer_decay",
                cure="Drop layer_decay for this backbone, or use backbone_lr_factor.",
            )
        factors = zip(own, stages_above(inner), strict=True)
        return {name: self.lr_factor * self.layer_decay**power for name, power in factors} | repeated


def stages_above(names: list[str]) -> list[int]:
    """Returns how many stages lie between each parameter of an encoder and the heads, its own counted.

    A parameter whose name tells no stage belongs to the one before it; after the last stage it counts as a head's, and
    before the first as one stage further from them.

    Args:
        names: In the order in which the network holds them.
    """
    numbers = stage_numbers(names)
    known = sorted({number for number in numbers if number is not None})
    depth = {number: place for place, number in enumerate(known, start=1)}
    last = max((place for place, number in enumerate(numbers) if number is not None), default=-1)
    found, current = [], 0
    for place, number in enumerate(numbers):
        current = current if number is None else depth[number]
        found.append(0 if place > last else len(known) + 1 - current)
    return found


def stage_numbers(names: list[str]) -> list[int | None]:
    """Returns for each parameter name of an encoder the number in it that is a stage's, the outermost one.

    A number that stands beside norms only is no stage's: DenseNet's `norm0` is its stem's, `norm5` follows the last.
    """
    found = [STAGE.search(name) for name in names]
    stages = {int(match.group(1)) for match in found if match is not None and "norm" not in match.group()}
    numbers = [None if match is None else int(match.group(1)) for match in found]
    return [number if number in stages else None for number in numbers]


def joined(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the groups with those of equal options joined, in the order of their first parameter."""
    groups: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for group in params:
        options = {name: value for name, value in group.items() if name != "params"}
        key = tuple(sorted(options.items()))
        groups.setdefault(key, {"params": []} | options)["params"].extend(group["params"])
    return list(groups.values())
