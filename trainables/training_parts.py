"""The one place where what we add to MMEngine's training enters its registries."""

from mmengine.registry import (
    DATA_SAMPLERS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
)
from timm.optim.adamp import AdamP

from trainables.encoder_rates import EncoderRatesConstructor
from trainables.lr_shapes import OneCycleShareLR, PolyShareLR
from trainables.precision import Bfloat16OptimWrapper
from trainables.step_sampler import StepSampler

__all__ = ["register_training_parts"]


def register_training_parts() -> None:
    """Registers them; a second call changes nothing."""
    OPTIMIZERS.register_module(module=AdamP, force=True)
    OPTIM_WRAPPER_CONSTRUCTORS.register_module(module=EncoderRatesConstructor, force=True)
    OPTIM_WRAPPERS.register_module(module=Bfloat16OptimWrapper, force=True)
    PARAM_SCHEDULERS.register_module(module=OneCycleShareLR, force=True)
    PARAM_SCHEDULERS.register_module(module=PolyShareLR, force=True)
    DATA_SAMPLERS.register_module(module=StepSampler, force=True)
