"""Mixed precision: bfloat16 on any device, and the refusal of float16 where there is no GPU. Imports torch."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import nn

from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError

__all__ = ["Bfloat16OptimWrapper", "require_precision"]


ENCODING_PARTS = ("backbone", "neck")


class Bfloat16OptimWrapper(OptimWrapper):
    """Runs encoder and neck in bfloat16 by autocast, and the heads in float32.

    MMEngine's AmpOptimWrapper does not work on a CPU, and mmcv's operators in the heads (NMS, RoIAlign) take no
    bfloat16; those in an encoder (deformable convolution and attention) stay in float32 too. No loss scaling is needed:
    bfloat16 has float32's exponents.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a training step's forward pass."""
        bare = model.module if is_model_wrapper(model) else model
        with super().optim_context(model), ExitStack() as stack:
            for name in ENCODING_PARTS:
                if getattr(bare, name, None) is not None:
                    stack.enter_context(in_bfloat16(getattr(bare, name)))
            yield


@contextmanager
def in_bfloat16(part: nn.Module) -> Iterator[None]:
    """Lets `part` compute in bfloat16 and return float32, for as long as the context lasts."""
    device = next(part.parameters()).device.type
    with ExitStack() as stack:
        for own in part.modules():
            if own is part or type(own).__module__.startswith("mmcv.ops."):
                stack.enter_context(computing(own, device, in_low=own is part))
        yield


@contextmanager
def computing(part: nn.Module, device: str, *, in_low: bool) -> Iterator[None]:
    """Lets `part` compute in bfloat16, or in float32 inside of what does; what it returns is float32."""
    forward = part.forward

    def cast(*inputs: Any, **options: Any) -> Any:
        if not in_low:
            inputs, options = as_float32(inputs), as_float32(options)
        with torch.autocast(device, torch.bfloat16, enabled=in_low):
            found = forward(*inputs, **options)
        return as_float32(found)

    part.forward = cast
    try:
        yield
    finally:
        del part.forward  # the class's own shows again


def as_float32(value: Any) -> Any:
    """Returns nested tuples, lists and dicts with every bfloat16 tensor in float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, dict):
        return {name: as_float32(part) for name, part in value.items()}
    return type(value)(as_float32(part) for part in value) if isinstance(value, list | tuple) else value


def require_precision(trial: TrialConfig) -> None:
    """Raises InputError if the trial is to train in a precision that this machine can't train in."""
    if trial.optimization.precision == "fp16" and not torch.cuda.is_available():
        raise InputError.of(
            "expected a GPU for precision fp16, but this training process sees none",
            where="knob precision",
            cure="Use bf16 or fp32, or give trials a GPU by `resources`.",
        )
