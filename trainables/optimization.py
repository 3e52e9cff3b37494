"""Optimizer, parameter groups, precision and weight averaging of a trial's config. Pure functions."""

from typing import Any

from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.trial_config import OptimizationChoice, TrialConfig
from segdata.errors import InputError

__all__ = ["averaging_config", "optimizer_config"]

Nested = dict[str, Any]

# Optimizer -> MMEngine type; its other stock values come from the knobs' rows. AdamP is timm's.
OPTIMIZERS: dict[str, str] = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "adadelta": "Adadelta",
    "adamp": "AdamP",
    "radam": "RAdam",
}
WRAPPERS: dict[str, Nested] = {
    "fp32": {"type": "OptimWrapper"},
    "fp16": {"type": "AmpOptimWrapper", "dtype": "float16"},
    "bf16": {"type": "Bfloat16OptimWrapper"},
}
STOCK_SGD_BATCH = 16  # images a step behind the zoo's learning rates for SGD
GRADIENT_LIMIT = {"max_norm": 35.0, "norm_type": 2}  # keeps training from scratch from running away


def optimizer_config(trial: TrialConfig, batch_size: int, zoo: Nested) -> Nested:
    """Returns `optim_wrapper`: the chosen optimizer, else the model's own; chosen values land by the knob rows.

    SGD's stock learning rate is scaled to the images of a step, those of accumulated batches together (Goyal et al.
    2017, arXiv 1706.02677).

    Args:
        trial: What was chosen.
        batch_size: Images a batch.
        zoo: The zoo's whole config, whose optimizer a model keeps that has no short name.
    """
    chosen, model = trial.optimization.optimizer, trial.model.name
    images = batch_size * (trial.optimization.accumulate or 1)
    if chosen is None and model not in MODELS:
        return with_options(zoo_optimizer(zoo, images), trial.optimization)
    name = str(chosen or KNOBS["optimizer"].default_for({"model": model}))
    lr = KNOBS["lr"].default_for({"optimizer": chosen} if chosen else {"model": model})
    assert isinstance(lr, float), f"no stock learning rate for {name}"
    optimizer: Nested = {
        "type": OPTIMIZERS[name],
        "lr": lr * images / STOCK_SGD_BATCH if name == "sgd" else lr,
        "weight_decay": KNOBS["weight_decay"].default_for({"optimizer": name}),
    }
    if name == "sgd":
        optimizer["momentum"] = KNOBS["momentum"].default
    wrapper = {"type": "OptimWrapper", "optimizer": optimizer, "clip_grad": dict(GRADIENT_LIMIT)}
    return with_options(wrapper, trial.optimization)


def zoo_optimizer(zoo: Nested, images: int) -> Nested:
    """Returns a zoo config's own optimizer in full precision, SGD's learning rate scaled to the images of a step."""
    wrapper = {"clip_grad": dict(GRADIENT_LIMIT)} | dict(zoo["optim_wrapper"]) | {"type": "OptimWrapper"}
    for of_mixed_precision in ("loss_scale", "dtype", "use_fsdp"):
        wrapper.pop(of_mixed_precision, None)
    if wrapper["optimizer"]["type"] == "SGD":
        stock_batch = zoo.get("auto_scale_lr", {}).get("base_batch_size", STOCK_SGD_BATCH)
        wrapper["optimizer"] = wrapper["optimizer"] | {"lr": wrapper["optimizer"]["lr"] * images / stock_batch}
    return wrapper


def with_options(wrapper: Nested, choice: OptimizationChoice) -> Nested:
    """Returns the wrapper with the chosen precision, rates by part of the network, and a limit of gradients."""
    rates = {name: getattr(choice, name) for name in ("backbone_lr_factor", "layer_decay", "norm_decay")}
    chosen = {name: value for name, value in rates.items() if value is not None}
    if chosen and "constructor" in wrapper:
        raise InputError.of(
            f"expected a model whose parameter groups are free, but its config has a {wrapper['constructor']}",
            where=", ".join(chosen),
            cure="Leave these knobs out, or choose an optimizer.",
        )
    wrapper = wrapper | WRAPPERS[choice.precision or "fp32"]
    if chosen:
        options = (wrapper.get("paramwise_cfg") or {}) | chosen
        wrapper |= {"constructor": "EncoderRatesConstructor", "paramwise_cfg": options}
    if choice.gradient_clip is not None and not wrapper["clip_grad"]:
        wrapper["clip_grad"] = dict(GRADIENT_LIMIT)
    return wrapper


def averaging_config(choice: OptimizationChoice) -> Nested:
    """Returns the hook that averages the weights, where that was chosen."""
    if not choice.ema:
        return {}
    return {"custom_hooks": [{"type": "EMAHook", "momentum": choice.ema}]}
