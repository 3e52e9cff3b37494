"""segmentation-models-pytorch as an MMSegmentation segmentor: the same numbers, any image size, clear refusals."""

from collections.abc import Iterator
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from search_spaces.trial_config import ModelChoice, TrialConfig
from segdata.errors import InputError
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.networks import register
from trainables.networks.smp_decoders import DECODERS, decoder_arguments
from trainables.networks.smp_network import FREE_SIZE, build_network
from trainables.networks.smp_pixels import pixels_of
from trainables.networks.smp_weights import published_names, published_weights
from trainables.precision import in_bfloat16

CLASSES = 3
RENAMED = (
    ("backbone.encoder.", "encoder."),
    ("decode_head.decoder.", "decoder."),
    ("decode_head.conv_seg.", "segmentation_head."),
)


@pytest.fixture(autouse=True)
def prepared() -> Iterator[None]:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def encoder_for(decoder: str) -> str:
    return "tu-vit_tiny_patch16_224" if decoder == "dpt" else "mobilenet_v2"


def segmentor(decoder: str, encoder: str, width: float = 1.0) -> nn.Module:
    register()
    head = {"type": "SmpHead", "decoder": decoder, "width": width, "num_classes": CLASSES}
    losses = [
        {"type": "CrossEntropyLoss", "loss_name": "loss_ce"},
        {"type": "LovaszLoss", "reduction": "none", "loss_name": "loss_lovasz"},
    ]
    config: dict[str, Any] = {
        "type": "SmpSegmentor",
        "backbone": {"type": "SmpEncoder", "encoder": encoder},
        "decode_head": head | {"loss_decode": losses},
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    network: nn.Module = MODELS.build(config)
    return network


def samples(labels_NHW: Tensor) -> list[SegDataSample]:
    """Truth as MMSegmentation's heads read it."""
    return [
        SegDataSample(gt_sem_seg=PixelData(data=labels[None]), metainfo={"img_shape": tuple(labels.shape)})
        for labels in labels_NHW
    ]


@pytest.mark.parametrize("decoder", DECODERS)
def test_predictions_equal_the_librarys_own(decoder: str) -> None:
    ours = segmentor(decoder, encoder_for(decoder)).eval()
    extra = {"dynamic_img_size": True} if decoder == "dpt" else {}
    theirs = smp.create_model(decoder, encoder_for(decoder), encoder_weights=None, classes=CLASSES, **extra).eval()
    weights = {}
    for name, value in ours.state_dict().items():
        old, new = next(pair for pair in RENAMED if name.startswith(pair[0]))
        weights[name.replace(old, new, 1)] = value
    theirs.load_state_dict(weights)
    images = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        mine = ours.encode_decode(images, [{"img_shape": (128, 160)}])
        torch.testing.assert_close(mine, theirs(images))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_step_on_odd_sizes_reaches_encoder_and_decoder(decoder: str) -> None:
    network = segmentor(decoder, encoder_for(decoder), width=1.0 if decoder == "linknet" else 0.25).train()
    images, labels = torch.randn(2, 3, 70, 45), torch.randint(0, CLASSES, (2, 70, 45))
    losses = network(images, samples(labels), mode="loss")
    assert set(losses) == {"decode.loss_ce", "decode.loss_lovasz", "decode.acc_seg"}
    (losses["decode.loss_ce"] + losses["decode.loss_lovasz"]).backward()
    for part in (network.backbone.encoder, network.decode_head.decoder, network.decode_head.conv_seg):
        reached = [one.grad is not None and bool(one.grad.abs().sum() > 0) for one in part.parameters()]
        assert sum(reached) > 0.3 * len(reached)  # not all: PSPNet leaves two of five stages out, norms absorb biases
    with torch.no_grad():
        logits = network.eval().encode_decode(images, [{"img_shape": (70, 45)}] * 2)
    assert tuple(logits.shape) == (2, CLASSES, 70, 45)


@pytest.mark.parametrize("decoder", ["unet", "dpt"])
def test_the_encoder_runs_in_bfloat16(decoder: str) -> None:
    network = segmentor(decoder, encoder_for(decoder), width=0.25).train()
    with in_bfloat16(network.backbone):
        losses = network(torch.randn(2, 3, 64, 64), samples(torch.zeros(2, 64, 64, dtype=torch.long)), mode="loss")
    assert losses["decode.loss_ce"].dtype == torch.float32 and torch.isfinite(losses["decode.loss_ce"])


def test_odd_sizes_are_padded_right_and_below_and_cut_back() -> None:
    network = segmentor("unet", "mobilenet_v2").eval()
    images = torch.randn(1, 3, 96, 64)
    images[..., 70:, :] = 0
    images[..., 45:] = 0
    with torch.no_grad():
        whole, cut = network(images), network(images[..., :70, :45])
    torch.testing.assert_close(cut, whole[..., :70, :45])


@pytest.mark.parametrize(
    "encoder",
    ["tu-convnext_atto", "tu-swin_tiny_patch4_window7_224", "tu-pvt_v2_b0", "mit_b0", "timm-efficientnet-b0", "vgg11"],
)
def test_encoders_of_every_make_train(encoder: str) -> None:
    network = segmentor("unet", encoder, width=0.25).train()
    losses = network(torch.randn(2, 3, 70, 45), samples(torch.randint(0, CLASSES, (2, 70, 45))), mode="loss")
    losses["decode.loss_ce"].backward()
    assert torch.isfinite(losses["decode.loss_ce"])
    assert any(one.grad is not None and one.grad.abs().sum() > 0 for one in network.backbone.parameters())


# Decoder, encoder, what the message says of the reason.
REFUSED = [
    ("deeplabv3plus", "densenet121", "DenseNet encoders do not support dilated mode"),
    ("deeplabv3plus", "xception", "Xception encoder does not support dilated mode"),
    ("deeplabv3", "vgg16", "models do not support dilated mode"),
    ("pan", "inceptionv4", "does not support dilated mode"),
    ("deeplabv3", "tu-hrnet_w18_small", "layers that can't be dilated"),
    ("unetplusplus", "mit_b0", "not support encoder_name=mit_b0"),
    ("linknet", "mit_b0", "not supported for Linknet"),
    ("dpt", "resnet18", r"a plain vision transformer"),
    ("unet", "tu-vit_tiny_patch16_224", "a pyramid of feature maps"),
    ("dpt", "tu-vit_small_patch14_dinov2", "its patches of 14 px do not divide 32 px"),
    ("unet", "tu-maxvit_nano_rw_256", r"takes \(256, 256\) only"),
    ("unet", "tu-resnet19", "expected an encoder that timm has, but got 'resnet19'.*resnet"),
    ("unet", "resnet19", "expected an encoder that segmentation-models-pytorch has, but got 'resnet19'.*resnet"),
]


@pytest.mark.parametrize(("decoder", "encoder", "reason"), REFUSED)
def test_pairs_that_can_not_work_are_refused_by_name(decoder: str, encoder: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"(?s){reason}"), torch.device("cpu" if "mit" in encoder else "meta"):
        build_network(decoder, encoder, CLASSES)


@pytest.mark.parametrize(
    ("model", "backbone", "reason"),
    [
        (
            "smp-deeplabv3plus",
            "tu-densenet121",
            "expected an encoder that fits smp-deeplabv3plus.*but got tu-densenet121",
        ),
        ("smp-unet", "tu-resnet_18", "expected an encoder that timm has, but got 'resnet_18'.*Did you mean resnet18"),
    ],
)
def test_pairs_of_timm_are_refused_before_training(
    model: str, backbone: str, reason: str, litter: DataDescription
) -> None:
    trial = TrialConfig(ModelChoice(model, backbone, init="none"))
    with pytest.raises(InputError, match=f"(?s){reason}"):
        build_config(trial, litter, seed=7)


def test_pairs_of_timm_that_fit_pass(litter: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("smp-deeplabv3plus", "tu-resnet18", init="none"))
    assert build_config(trial, litter, seed=7)["model"]["backbone"] == {"type": "SmpEncoder", "encoder": "tu-resnet18"}


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "linknet"])
def test_width_scales_the_decoder_alone(decoder: str) -> None:
    with torch.device("meta"):
        stock, narrow = (build_network(decoder, encoder_for(decoder), CLASSES, width) for width in (1.0, 0.5))

    def count(part: nn.Module) -> int:
        return sum(one.numel() for one in part.parameters())

    assert count(narrow.encoder) == count(stock.encoder)
    assert count(narrow.decoder) < count(stock.decoder)


def test_a_width_without_effect_is_refused() -> None:
    with pytest.raises(InputError, match="expected width 1, since the encoder alone sets the channels of linknet"):
        decoder_arguments("linknet", 0.5)


def test_unknown_decoder_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"but got 'unett'.*unet, unetplusplus"):
        decoder_arguments("unett")


@pytest.mark.parametrize(
    ("encoder", "same"),
    [
        ("resnet34", "resnet34"),
        ("xception", "legacy_xception"),
        ("inceptionv4", "inception_v4"),
        ("inceptionresnetv2", "inception_resnet_v2"),
        ("dpn92", "dpn92"),
        ("timm-efficientnet-b4", "tf_efficientnet_b4"),
        ("timm-tf_efficientnet_lite0", "tf_efficientnet_lite0"),
        ("timm-tf_efficientnet_lite4", "tf_efficientnet_lite4"),
        ("tu-vit_base_patch16_224", "vit_base_patch16_224"),
    ],
)
def test_images_are_normalised_as_for_the_published_weights(encoder: str, same: str) -> None:
    """timm holds the same published weights, and what they were trained on."""
    settings = timm.get_pretrained_cfg(same)
    for ours, theirs in zip(pixels_of(encoder), (settings.mean, settings.std), strict=True):
        assert ours == pytest.approx([255 * share for share in theirs], abs=1e-3)


def test_a_config_normalises_as_its_encoder_expects(litter: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("smp-unet", "xception", init="none"))
    assert build_config(trial, litter, seed=7)["model"]["data_preprocessor"]["mean"] == [127.5] * 3


def test_published_weights_are_the_librarys_own_table() -> None:
    assert published_names("timm-efficientnet-b4") == ("imagenet", "advprop", "noisy-student")
    url = published_weights("resnet34")
    assert url is not None
    settings = smp.encoders.encoders["resnet34"]["pretrained_settings"]["imagenet"]
    assert url == f"https://huggingface.co/{settings['repo_id']}/resolve/{settings['revision']}/model.safetensors"
    tagged = published_weights("tu-resnet18.a1_in1k")
    assert tagged == "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    assert published_weights("resnet34", "noisy-student") is None
    assert published_names("no-such-encoder") == ()


def test_timms_rule_for_input_sizes_is_as_we_assume() -> None:
    """The names in FREE_SIZE are told to take any size; timm must go on knowing those arguments."""
    names = ("swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "deit_tiny_patch16_224", "eva02_tiny_patch14_224")
    for name in names:
        (told,) = [arguments for start, arguments in FREE_SIZE.items() if name.startswith(start)]
        with torch.device("meta"):
            assert timm.create_model(name).patch_embed.strict_img_size
            assert not timm.create_model(name, **told).patch_embed.strict_img_size
