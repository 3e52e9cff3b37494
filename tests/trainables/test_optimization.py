"""Optimizers, learning rates by part of real networks, and what a trial's choice changes in its config."""

from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.trial_config import InputChoice, ModelChoice, OptimizationChoice, TrialConfig
from segdata.errors import InputError
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.encoder_rates import stage_numbers, stages_above

LR, DECAY = 0.01, 0.05

Nested = dict[str, Any]
Rates = dict[str, tuple[float, float]]  # name of a parameter -> (learning rate, weight decay)


def config_of(choice: OptimizationChoice, data: DataDescription, model: str, backbone: str | None = None) -> Nested:
    small = None if backbone is not None and backbone.startswith(("efficientnet", "vgg")) else 0.125
    chosen = ModelChoice(model, backbone, width=small, head_width=0.125)
    return build_config(TrialConfig(chosen, InputChoice(crop_size=64), choice), data, seed=7)


def rates_of(
    choice: OptimizationChoice, data: DataDescription, model: str, backbone: str | None
) -> tuple[nn.Module, Rates]:
    """Returns a real network, and the rates with which its optimizer holds each of its parameters."""
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, DefaultScope

    from trainables.networks import register
    from trainables.trial import prepare_process

    prepare_process(1, (), None)
    register()
    config = config_of(choice, data, model, backbone)
    with DefaultScope.overwrite_default_scope(config["default_scope"]):
        network: nn.Module = MODELS.build(Config(config).model)
        groups = build_optim_wrapper(network, Config(config).optim_wrapper).optimizer.param_groups
    names = {id(own): name for name, own in network.named_parameters()}
    held = [(names[id(own)], (group["lr"], group["weight_decay"])) for group in groups for own in group["params"]]
    assert len(held) == len(dict(held)), "no parameter is held twice"
    assert set(dict(held)) == {name for name, own in network.named_parameters() if own.requires_grad}
    return network, dict(held)


def chosen(**options: Any) -> OptimizationChoice:
    return OptimizationChoice("adamw", LR, weight_decay=DECAY, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "backbone"), [("mask-rcnn", "r18"), ("segformer", "mit-b0"), ("deeplabv3plus", "r18")]
)
def test_the_encoder_learns_at_its_share_and_all_else_at_the_whole_rate(
    model: str, backbone: str, particles: DataDescription, litter: DataDescription
) -> None:
    data = particles if model == "mask-rcnn" else litter
    _, rates = rates_of(chosen(backbone_lr_factor=0.1), data, model, backbone)
    encoder = {rate for name, rate in rates.items() if name.startswith("backbone.")}
    rest = {rate for name, rate in rates.items() if not name.startswith("backbone.")}
    assert encoder == {(LR * 0.1, DECAY)}
    assert rest == {(LR, DECAY)}


def test_the_second_encoder_of_detectors_learns_as_the_first(particles: DataDescription) -> None:
    _, rates = rates_of(chosen(backbone_lr_factor=0.1), particles, "detectors", "r50")
    second = {lr for name, (lr, _) in rates.items() if name.startswith("neck.rfp_modules.")}
    assert second == {LR * 0.1} == {lr for name, (lr, _) in rates.items() if name.startswith("backbone.")}
    assert {lr for name, (lr, _) in rates.items() if name.startswith("neck.fpn_convs.")} == {LR}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "backbone"), [("mask-rcnn", "r18"), ("segformer", "mit-b0")])
def test_norms_are_free_of_weight_decay_and_all_else_is_not(
    model: str, backbone: str, particles: DataDescription, litter: DataDescription
) -> None:
    data = particles if model == "mask-rcnn" else litter
    network, rates = rates_of(chosen(norm_decay=False, backbone_lr_factor=0.5), data, model, backbone)
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    free = {
        f"{name}.{own}"
        for name, part in network.named_modules()
        if isinstance(part, norms)
        for own, _ in part.named_parameters()
    }
    assert free & set(rates)
    assert {name for name, (_, decay) in rates.items() if decay == 0.0} == free & set(rates)
    assert {decay for _, decay in rates.values()} == {0.0, DECAY}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "backbone", "shares"),
    [
        # Four stages: the last learns at 0.5, the first at 0.5^4, what lies before it at 0.5^5.
        (
            "mask-rcnn",
            "r18",
            {
                "backbone.layer4.1.conv1.weight": 0.5,
                "backbone.layer1.0.conv1.weight": 0.5**4,
                "backbone.conv1.weight": 0.5**5,
            },
        ),
        (
            "segformer",
            "mit-b0",
            {
                "backbone.layers.3.1.0.ffn.layers.0.weight": 0.5,
                "backbone.layers.0.0.projection.weight": 0.5**4,
                "decode_head.conv_seg.weight": 1.0,
            },
        ),
    ],
)
def test_rates_fall_from_stage_to_stage_toward_the_input(
    model: str, backbone: str, shares: dict[str, float], particles: DataDescription, litter: DataDescription
) -> None:
    data = particles if model == "mask-rcnn" else litter
    _, rates = rates_of(chosen(layer_decay=0.5), data, model, backbone)
    assert {name: rates[name][0] / LR for name in shares} == pytest.approx(shares)
    assert {lr for name, (lr, _) in rates.items() if not name.startswith("backbone.")} == {LR}


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["conv1.weight", "bn1.weight", "layer1.0.conv2.weight", "layer4.2.downsample.1.bias"], [None, None, 1, 4]),
        (["patch_embed.projection.weight", "stages.2.blocks.5.ffn.layers.0.0.weight", "norm2.weight"], [None, 2, 2]),
        (["downsample_layers.1.1.weight", "stages.3.0.gamma", "norm1.weight"], [1, 3, 1]),
        (["cls_token", "pos_embed", "layers.11.attn.qkv.weight", "ln1.weight"], [None, None, 11, None]),
        (["stem.0.weight", "stage2.0.branches.1.0.conv1.weight", "transition3.2.0.0.weight"], [None, 2, 3]),
        (["features.12.weight", "layers.4.0.conv.weight", "stage4.1.blocks.0.conv.weight"], [12, 4, 4]),
        (["encoder.layer3.0.conv1.weight", "encoder._blocks.7._bn0.weight", "encoder.conv1.weight"], [3, 7, None]),
        (["encoder.0.0.convs.0.conv.weight", "encoder.3.1.convs.1.bn.weight"], [0, 3]),
    ],
    ids=["resnet", "swin", "convnext", "vit", "hrnet", "vgg-efficientnet-cspnext", "smp", "unet"],
)
def test_stages_are_read_off_the_names_of_every_family(names: list[str], numbers: list[int | None]) -> None:
    assert stage_numbers(names) == numbers


def test_densenets_stem_norm_and_last_norm_are_no_stages_of_their_own() -> None:
    names = ["conv0.weight", "norm0.weight", *(f"denseblock{stage}.denselayer1.norm1.weight" for stage in (1, 2, 3, 4))]
    names = [f"encoder.features.{name}" for name in (*names, "norm5.weight")]
    # Four stages: the stem is 5 away, stage 4 is 1 away, and the norm after it is as near as a head.
    assert stages_above(names) == [5, 5, 4, 3, 2, 1, 0]


def test_what_comes_before_the_first_stage_is_furthest_and_what_comes_after_the_last_is_as_near_as_a_head() -> None:
    names = ["cls_token", "patch.weight", "layers.0.w", "layers.0.gap", "pool.w", "layers.1.w", "ln1.w", "adapter.w"]
    # Two layers: the stem is 3 away, layer 0 and what follows it 2, layer 1 is 1 away.
    assert stages_above(names) == [3, 3, 2, 2, 2, 1, 0, 0]


@pytest.mark.slow
def test_a_decoder_inside_the_backbone_learns_at_the_whole_rate(litter: DataDescription) -> None:
    _, rates = rates_of(chosen(backbone_lr_factor=0.1), litter, "unet", None)
    assert {lr for name, (lr, _) in rates.items() if name.startswith("backbone.encoder.")} == {LR * 0.1}
    assert {lr for name, (lr, _) in rates.items() if not name.startswith("backbone.encoder.")} == {LR}


@pytest.mark.parametrize(
    ("optimizer", "kind", "lr"),
    [
        ("sgd", "SGD", 0.02 * 4 / 16),
        ("adam", "Adam", 1e-4),
        ("adamw", "AdamW", 1e-4),
        ("adadelta", "Adadelta", 1.0),
        ("adamp", "AdamP", 1e-4),
        ("radam", "RAdam", 1e-4),
    ],
)
def test_each_optimizer_steps_with_its_stock_values(
    optimizer: str, kind: str, lr: float, litter: DataDescription
) -> None:
    from mmengine.registry import OPTIMIZERS

    from trainables.training_parts import register_training_parts

    register_training_parts()
    built = config_of(OptimizationChoice(optimizer, batch_size=4), litter, "segformer")["optim_wrapper"]["optimizer"]
    assert (built["type"], built["lr"]) == (kind, pytest.approx(lr))
    weight = nn.Parameter(torch.ones(3, 2))
    stepper = OPTIMIZERS.build(dict(built), default_args={"params": [weight]})
    (weight.sum() ** 2).backward()
    stepper.step()
    assert bool((weight < 1).all())


def test_sgds_stock_rate_grows_with_the_images_of_a_step(litter: DataDescription) -> None:
    def lr(**options: Any) -> float:
        return float(
            config_of(OptimizationChoice("sgd", **options), litter, "segformer")["optim_wrapper"]["optimizer"]["lr"]
        )

    assert lr(batch_size=2, accumulate=4) == pytest.approx(0.02 * 8 / 16) == lr(batch_size=8)
    assert lr(lr=0.3, batch_size=2, accumulate=4) == 0.3


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (OptimizationChoice(precision="fp32"), {}),
        (OptimizationChoice(precision="fp16"), {"type": "AmpOptimWrapper", "dtype": "float16"}),
        (OptimizationChoice(precision="bf16"), {"type": "Bfloat16OptimWrapper"}),
        (OptimizationChoice(gradient_clip=1.5), {"clip_grad": {"max_norm": 1.5, "norm_type": 2}}),
        (OptimizationChoice(accumulate=3), {"accumulative_counts": 3}),
        (
            OptimizationChoice(layer_decay=0.75),
            {"constructor": "EncoderRatesConstructor", "paramwise_cfg": {"layer_decay": 0.75}},
        ),
    ],
)
def test_a_choice_changes_the_optimizers_wrapper_there_and_nothing_else(
    choice: OptimizationChoice, expected: Nested, litter: DataDescription
) -> None:
    stock, found = config_of(OptimizationChoice(), litter, "segformer"), config_of(choice, litter, "segformer")
    assert found.pop("optim_wrapper") == stock.pop("optim_wrapper") | expected
    imports = found.pop("custom_imports", None)
    assert found == stock
    assert (imports is not None) == any(str(name).startswith(("Bf", "Enc")) for name in expected.values())


def test_an_encoder_with_deformable_convolutions_runs_in_bfloat16() -> None:
    """DetectoRS's: mmcv's operator knows no bfloat16, so that a trial of bf16 ended in NotImplementedError."""
    from mmcv.ops import SAConv2d

    from trainables.precision import Bfloat16OptimWrapper

    network = nn.Module()
    network.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), SAConv2d(4, 4, 3, padding=1, use_deform=True))
    seen: list[torch.dtype] = []
    network.backbone[0].register_forward_hook(lambda part, inputs, found: seen.append(found.dtype))
    wrapper = Bfloat16OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1))
    with wrapper.optim_context(network):
        found = network.backbone(torch.ones(1, 3, 8, 8))
    assert (seen, found.dtype) == ([torch.bfloat16], torch.float32)
    assert all("forward" not in vars(part) for part in network.modules()), "afterwards all is as it was"


def test_averaging_is_a_hook_that_is_absent_when_off(litter: DataDescription) -> None:
    stock = config_of(OptimizationChoice(), litter, "segformer")
    assert config_of(OptimizationChoice(ema=0.0), litter, "segformer") == stock
    found = config_of(OptimizationChoice(ema=0.01), litter, "segformer")
    assert found.pop("custom_hooks") == [{"type": "EMAHook", "momentum": 0.01}]
    assert found == stock


def test_a_zoo_config_keeps_its_own_optimizer_and_takes_the_options(particles: DataDescription) -> None:
    trial = TrialConfig(
        ModelChoice("solov2_r50_fpn_1x_coco.py"),
        optimization=OptimizationChoice(backbone_lr_factor=0.5, gradient_clip=2.0),
    )
    wrapper = build_config(trial, particles, seed=7)["optim_wrapper"]
    assert wrapper["optimizer"]["type"] == "SGD"
    assert wrapper["paramwise_cfg"]["backbone_lr_factor"] == 0.5
    assert wrapper["clip_grad"]["max_norm"] == 2.0


def test_an_encoder_without_stages_is_refused(litter: DataDescription) -> None:
    from trainables.encoder_rates import EncoderRatesConstructor

    network = nn.Module()
    network.backbone = nn.Linear(2, 2)
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}}
    with pytest.raises(InputError, match="layer_decay: expected an encoder of two stages or more, but found fewer"):
        EncoderRatesConstructor(wrapper, {"layer_decay": 0.5})(network)
