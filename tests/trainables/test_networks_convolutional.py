"""BiFPN, the FCN skip head and SegNet: shapes at odd sizes, gradients, and what their papers promise."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg16_bn

from trainables.networks.bifpn import BiFPN, FastFusion
from trainables.networks.fcn_skip_head import FCNSkipHead, bilinear_kernel
from trainables.networks.segnet import SegNet

HEIGHT, WIDTH = 70, 45  # no multiples of 32


def silent_parameters(network: nn.Module) -> list[str]:
    """The parameters that no gradient has reached."""
    return [name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]


def pyramid(channels: int, strides: tuple[int, ...]) -> list[Tensor]:
    """Random maps as a backbone gives them, whose sides are rounded up."""
    return [torch.randn(2, channels, math.ceil(HEIGHT / stride), math.ceil(WIDTH / stride)) for stride in strides]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_fast_fusion_is_the_papers_weighted_mean() -> None:
    fusion = FastFusion(3, epsilon=0.5)
    fusion.weights.data = torch.tensor([1.0, 3.0, -2.0])  # relu leaves 1, 3, 0: shares 1/4.5, 3/4.5, 0
    ones = torch.ones(1, 1, 1, 1)
    assert fusion([9 * ones, 18 * ones, 1000 * ones]).item() == pytest.approx(9 / 4.5 + 3 * 18 / 4.5)


@pytest.mark.parametrize("outputs", [4, 5, 6])
def test_bifpn_gives_a_pyramid_of_one_width_whatever_the_image_size(outputs: int) -> None:
    neck = BiFPN([8, 8, 8, 8], out_channels=16, num_outs=outputs, stack=2)
    maps = neck(pyramid(8, (4, 8, 16, 32)))
    sizes = [(18, 12), (9, 6), (5, 3), (3, 2), (2, 1), (1, 1)]  # 70 x 45 divided by 4 ... 128, rounded up
    assert [tuple(level.shape) for level in maps] == [(2, 16, *size) for size in sizes[:outputs]]
    torch.stack([level.square().mean() for level in maps]).sum().backward()
    assert silent_parameters(neck) == []


def test_every_bifpn_level_depends_on_every_input() -> None:
    neck = BiFPN([8, 8, 8, 8], out_channels=8, stack=1).eval()
    inputs = [level.requires_grad_() for level in pyramid(8, (4, 8, 16, 32))]
    for output in neck(inputs):
        gradients = torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def fcn_head(levels: int) -> FCNSkipHead:
    head = FCNSkipHead([8] * levels, list(range(levels)), channels=16, num_classes=3)
    head.init_weights()
    return head


@pytest.mark.parametrize(("strides", "size"), [((8, 16, 32), (9, 6)), ((16, 32), (5, 3)), ((32,), (3, 2))])
def test_fcn_heads_score_at_the_stride_in_their_name(strides: tuple[int, ...], size: tuple[int, int]) -> None:
    head = fcn_head(len(strides))
    maps = pyramid(8, strides)
    scores = head(maps)
    assert tuple(scores.shape) == (2, 3, *size)
    scores.square().sum().backward()
    assert silent_parameters(head) == []


def test_fcn_8s_starts_as_the_bilinearly_enlarged_fcn_32s() -> None:
    head = fcn_head(3).eval()
    maps = [torch.randn(2, 8, side, side) for side in (16, 8, 4)]
    coarse = head.cls_seg(head.fc7(head.fc6(maps[-1])))
    twice = coarse
    for _ in range(2):
        twice = functional.interpolate(twice, scale_factor=2, mode="bilinear", align_corners=False)
    inside = (..., slice(4, -4), slice(4, -4))  # at the border the transposed convolution sees zeros
    torch.testing.assert_close(head(maps)[inside], twice[inside])


def test_bilinear_kernel_keeps_classes_apart() -> None:
    ones = torch.zeros(1, 2, 5, 5)
    ones[:, 1] = 4.0
    doubled = functional.conv_transpose2d(ones, bilinear_kernel(2), stride=2, padding=1)
    assert doubled.shape[-2:] == (10, 10)
    assert doubled[:, 0].abs().max() == 0
    assert torch.equal(doubled[0, 1, 2:-2, 2:-2], torch.full((6, 6), 4.0))


@pytest.mark.parametrize("size", [(64, 96), (HEIGHT, WIDTH), (33, 20)])
def test_segnet_keeps_the_image_size(size: tuple[int, int]) -> None:
    network = SegNet(base_channels=4)
    (features,) = network(torch.randn(2, 3, *size))
    assert tuple(features.shape) == (2, 4, *size)
    features.square().sum().backward()
    # A bias before a batch norm is subtracted again.
    assert [name for name in silent_parameters(network) if not name.endswith("bias")] == []


def test_segnet_takes_the_encoder_of_torchvisions_vgg16() -> None:
    published = vgg16_bn(weights=None).eval()
    network = SegNet().eval()
    missing, unexpected = network.load_state_dict(published.state_dict(), strict=False)
    assert all(name.startswith("decoder.") for name in missing)
    assert all(name.startswith("classifier.") for name in unexpected)
    images, x = torch.randn(1, 3, 64, 64), torch.empty(0)
    x = images
    for layer in network.features:
        x = layer(x)[0] if isinstance(layer, nn.MaxPool2d) else layer(x)
    torch.testing.assert_close(x, published.features(images))


def test_segnet_puts_maxima_back_where_they_stood() -> None:
    network = SegNet(base_channels=4).eval()
    seen: dict[str, Tensor] = {}
    last_pool = [layer for layer in network.features if isinstance(layer, nn.MaxPool2d)][0]
    last_pool.register_forward_hook(lambda _, inputs, __: seen.update(before=inputs[0]))
    network.decoder[-1].register_forward_hook(lambda _, inputs, __: seen.update(unpooled=inputs[0]))
    network(torch.randn(1, 3, 64, 64))
    windows = functional.unfold(seen["before"], 2, stride=2).reshape(4, 4, -1)  # channel, place in the window, window
    restored = functional.unfold(seen["unpooled"], 2, stride=2).reshape(4, 4, -1)
    distinct = (windows.max(1).values > windows.sort(1).values[:, 2]) & (restored.abs().sum(1) > 0)
    assert distinct.any()
    assert torch.equal(restored.abs().argmax(1)[distinct], windows.argmax(1)[distinct])
