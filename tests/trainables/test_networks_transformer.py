"""BEiT at any size, and BEiT with the ViT-Adapter: equality with upstream, shapes, gradients, the papers' promises."""

from pathlib import Path

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmseg.models.backbones.beit import BEiT
from torch import Tensor, nn

from segdata.errors import InputError
from trainables.encoder_rates import stages_above
from trainables.networks.beit import AnySizeBEiT, relative_positions, resized_table
from trainables.networks.interaction import grid_centres
from trainables.networks.vit_adapter import BEiTAdapter

# Upstream's BEiT, beside which ours is held:
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")

TINY = {"img_size": 64, "embed_dims": 48, "num_layers": 4, "num_heads": 3}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def adapter() -> BEiTAdapter:
    network = BEiTAdapter(stem_channels=8, **TINY)
    network.init_weights()
    return network


def trained_beit() -> BEiT:
    """MMSegmentation's BEiT with biases by position that are not zero, as after training."""
    network = BEiT(out_indices=[1, 3], **TINY)
    network.init_weights()
    for layer in network.layers:
        nn.init.normal_(layer.attn.relative_position_bias_table)
    network.eval()  # which upstream's does not return
    return network


def test_beit_equals_upstreams_at_its_own_size() -> None:
    theirs = trained_beit()
    ours = AnySizeBEiT(out_indices=[1, 3], **TINY).eval()
    ours.load_state_dict(ours.resize_rel_pos_embed(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    for own, reference in zip(ours(images), theirs(images), strict=True):
        torch.testing.assert_close(own, reference)


def test_beit_takes_images_that_upstream_refuses() -> None:
    images = torch.randn(1, 3, 70, 45)
    with pytest.raises(RuntimeError, match="must match the size"):
        trained_beit()(images)
    (features,) = AnySizeBEiT(**TINY)(images)
    assert tuple(features.shape) == (1, 48, 5, 3)


def test_positions_number_offsets_as_upstream() -> None:
    theirs = trained_beit().layers[0].attn.relative_position_index
    assert torch.equal(relative_positions((4, 4), theirs.device), theirs)


def test_resized_bias_is_the_same_function_of_the_relative_offset() -> None:
    offsets = torch.linspace(-1, 1, 7)  # 4 x 4 patches: offsets -3 .. 3
    plane = (2 * offsets[:, None] - offsets[None]).reshape(-1, 1)
    table = torch.cat([plane, torch.tensor([[5.0], [6.0], [7.0]])])
    resized = resized_table(table, (4, 4), (7, 2))
    down, right = torch.linspace(-1, 1, 13), torch.linspace(-1, 1, 3)
    inside = slice(1, -1)  # a cubic follows a plane, save beside the border
    expected = 2 * down[:, None] - right[None]
    torch.testing.assert_close(resized[:-3].reshape(13, 3)[3:-3, inside], expected[3:-3, inside], atol=1e-5, rtol=0)
    assert resized[-3:].flatten().tolist() == [5.0, 6.0, 7.0]


def test_beit_loads_weights_of_another_image_size(tmp_path: Path) -> None:
    file = tmp_path / "beit.pth"
    torch.save(trained_beit().state_dict(), file)
    larger = AnySizeBEiT(**(TINY | {"img_size": 96}), init_cfg={"type": "Pretrained", "checkpoint": str(file)})
    larger.init_weights()
    table = larger.layers[0].attn.relative_position_bias_table
    assert tuple(table.shape) == (11 * 11 + 3, 3)
    middle_old = torch.load(file)["layers.0.attn.relative_position_bias_table"][24]  # offset (0, 0) of 7 x 7
    torch.testing.assert_close(table[60].data, middle_old)  # and of 11 x 11


@pytest.mark.parametrize("size", [(64, 64), (70, 45), (20, 100)])
def test_adapter_gives_a_pyramid_whatever_the_image_size(size: tuple[int, int]) -> None:
    maps = adapter()(torch.randn(2, 3, *size))
    expected = [(2, 48, -(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)]
    assert [tuple(level.shape) for level in maps] == expected


def loss_of(maps: tuple[Tensor, ...]) -> Tensor:
    """Something that depends on every value; a plain sum would be constant after a batch norm."""
    return torch.stack([(level * torch.randn_like(level)).sum() for level in maps]).sum()


def test_gradient_reaches_all_of_the_adapter() -> None:
    network = adapter()
    for one in network.parameters():  # as after some steps: at first gammas and sampling offsets are zero
        one.data += 0.1 * torch.randn_like(one)
    loss_of(network(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0] == []


def test_transformer_starts_undisturbed_by_the_adapter() -> None:
    """Section 3.4: gamma starts at zero, so that the features of pretrained weights stay as they are."""
    network, images = adapter().eval(), torch.randn(1, 3, 64, 64)
    plain = AnySizeBEiT(**TINY).eval()
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if name in plain.state_dict()})
    seen: list[Tensor] = []
    network.layers[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    network(images)
    (expected,) = plain(images)
    torch.testing.assert_close(seen[0][:, 1:].transpose(1, 2).reshape(1, 48, 4, 4), expected)
    for injector in network.injectors:
        nn.init.constant_(injector.gamma, 1.0)
    network(images)
    assert not torch.allclose(seen[1], seen[0], atol=1e-3)


def test_adapter_takes_beits_weights_by_name() -> None:
    published = trained_beit().state_dict()
    missing, unexpected = adapter().load_state_dict(published, strict=False)
    assert all(name.endswith("relative_position_index") for name in unexpected)  # which ours works out
    assert not any(name.startswith(("layers.", "patch_embed.", "cls_token")) for name in missing)


def test_adapter_loads_its_own_weights_wholly(tmp_path: Path) -> None:
    file = tmp_path / "adapter.pth"
    trained = adapter()
    for part in trained.parameters():
        nn.init.normal_(part)
    torch.save({"state_dict": trained.state_dict()}, file)
    fresh = BEiTAdapter(stem_channels=8, **TINY, init_cfg={"type": "Pretrained", "checkpoint": str(file)})
    fresh.init_weights()
    for name, value in trained.named_parameters():
        assert torch.equal(fresh.get_parameter(name), value), name


def test_layer_decay_spares_the_adapter() -> None:
    """Its parts stand beside the blocks, not below them: they learn at the head's rate."""
    names = [name for name, _ in adapter().named_parameters()]
    below = dict(zip(names, stages_above(names), strict=True))
    own = ("prior.", "injectors.", "extractors.", "upsample.", "norms.")
    assert {stages for name, stages in below.items() if name.startswith(own)} == {0}
    assert [below[f"layers.{layer}.gamma_1"] for layer in range(4)] == [4, 3, 2, 1]


def test_deformable_attention_starts_by_looking_around_itself() -> None:
    """BEiT's initialisation would set the offsets of all heads to zero, and they would stay alike."""
    for part in adapter().modules():
        if isinstance(part, MultiScaleDeformableAttention):
            assert len(part.sampling_offsets.bias.reshape(3, -1).unique(dim=0)) == 3


def test_grid_centres_are_x_then_y() -> None:
    centres = grid_centres([(1, 2), (2, 1)], torch.zeros(()))
    assert centres.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_layers_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected blocks that 4 interactions divide, but got 6"):
        BEiTAdapter(**(TINY | {"num_layers": 6}))
