"""Loading initial weights into real models: which of their tensors are filled, by files as others publish them."""

import builtins
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from mmdet.utils import register_all_modules as register_mmdet
from mmengine.config import Config
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.registry import MODELS as MODULES
from mmengine.registry import DefaultScope
from mmseg.utils import register_all_modules as register_mmseg

from search_spaces.models import MODELS
from search_spaces.trial_config import ModelChoice, TrialConfig
from segdata.errors import InputError
from trainables.checkpoint_reader import read_weights
from trainables.config import assemble_model
from trainables.initial_parts import Part, Placed, take_published
from trainables.loaded_weights import LoadedWeights, describe_loaded
from trainables.networks import register
from trainables.weights import load_parts
from trainables.weights_plan import initial_parts
from trainables.zoo import load_base

Build = Callable[..., torch.nn.Module]


@pytest.fixture(scope="module")
def build() -> Build:
    """Builds a model with small heads: `build("mask-rcnn", "r18", classes=3)`."""
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    register()

    def make(name: str, backbone: str | None, classes: int = 3, **change: Any) -> torch.nn.Module:
        model = load_base(name, MODELS[name].task)["model"]
        assemble_model(model, TrialConfig(ModelChoice(name, backbone, head_width=0.125)), classes)
        take_published(model)
        model["backbone"].update(change)
        scope = {"instance": "mmdet", "semantic": "mmseg"}[MODELS[name].task]
        DefaultScope.get_instance(f"test-{name}-{backbone}", scope_name=scope)
        with DefaultScope.overwrite_default_scope(scope):
            built: torch.nn.Module = MODULES.build(Config({"model": model}).model)
        return built

    return make


def noise(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors with other values."""
    return {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in weights.items()}


def load(model: torch.nn.Module, path: Path, weights: object, part: Part | None = None) -> LoadedWeights:
    """Writes a file and loads it, into the whole model unless a part is given."""
    torch.save(weights, path)
    return load_parts(model, "test", [Placed(part or Part("", str(path)), path)])


def imagenet_part(model: str, backbone: str | None, init: str = "imagenet") -> Part:
    (part,) = initial_parts(ModelChoice(model, backbone, init), MODELS[model].task)
    return part


def test_torchvisions_file_fills_the_whole_encoder_and_nothing_else(build: Build, tmp_path: Path) -> None:
    model = build("mask-rcnn", "r18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = noise(torchvision.models.resnet18().state_dict())
    loaded = load(model, tmp_path / "r18.pth", given, imagenet_part("mask-rcnn", "r18"))
    own = model.state_dict()
    # ResNet-18: 20 convolutions and 20 norms of 4 tensors each (weight, bias, mean, variance).
    assert (loaded.loaded, loaded.encoder_share) == (20 + 20 * 4, 1.0)
    assert loaded.missing == ("neck.*", "rpn_head.*", "roi_head.*")
    assert loaded.text().startswith(f"100 of {loaded.of} tensors loaded from r18.pth; left as they were: neck.*")
    for name, value in own.items():
        inside = name.removeprefix("backbone.")
        assert torch.equal(value, given[inside] if name.startswith("backbone.") else before[name]), name


def test_vgg_in_segnet_whose_backbone_holds_its_decoder_is_not_taken_for_another_architecture(
    build: Build, tmp_path: Path
) -> None:
    given = torchvision.models.vgg16_bn().features.state_dict()
    weights = {f"features.{name}": value for name, value in given.items()}
    loaded = load(build("segnet", None), tmp_path / "vgg.pth", weights, imagenet_part("segnet", None))
    # VGG-16: 13 convolutions and 13 norms, 6 tensors a pair; the decoder, its mirror image, is a little larger.
    assert loaded.loaded == 13 * 6 and 0.49 < loaded.encoder_share < 0.5
    assert loaded.missing == ("backbone.decoder.*", "decode_head.*")


def test_the_loader_leaves_no_trace_in_the_model(build: Build, tmp_path: Path) -> None:
    model = build("mask-rcnn", "r18")
    load(model, tmp_path / "r18.pth", torchvision.models.resnet18().state_dict(), imagenet_part("mask-rcnn", "r18"))
    assert model.backbone.init_cfg is None or "Pretrained" not in repr(model.backbone.init_cfg)
    assert not any(module._load_state_dict_pre_hooks for module in model.backbone.modules())


def test_legacy_squeeze_and_excite_names_are_translated(build: Build, tmp_path: Path) -> None:
    given = noise(timm.create_model("legacy_seresnext50_32x4d", num_classes=2).state_dict())
    loaded = load(
        build("mask-rcnn", "se-x50-32x4d"), tmp_path / "se.pth", given, imagenet_part("mask-rcnn", "se-x50-32x4d")
    )
    assert loaded.encoder_share == 1.0


def test_mmdetections_swin_takes_mmsegmentations_names(build: Build, tmp_path: Path) -> None:
    small = {"embed_dims": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    model = build("mask-rcnn", "swin-t", **small)
    given = noise(model.backbone.state_dict())
    loaded = load(model, tmp_path / "swin.pth", {"state_dict": given}, Part("backbone", "swin.pth"))
    assert loaded.encoder_share == 1.0
    name = "stages.0.blocks.0.attn.w_msa.qkv.weight"
    assert torch.equal(model.backbone.state_dict()[name], given[name])


def test_position_tables_of_another_image_size_are_resized(build: Build, tmp_path: Path) -> None:
    small = {"embed_dims": 48, "num_layers": 4, "num_heads": 3, "out_indices": (0, 1, 2, 3)}
    large, model = (build("upernet", "beit-b", img_size=size, **small) for size in ((64, 64), (32, 32)))
    given = large.state_dict()
    loaded = load(model, tmp_path / "beit.pth", {"state_dict": given})
    assert loaded.loaded == loaded.of, loaded.missing
    # 2x2 patches: offsets -1..1 in both directions and 3 rows of the class token, cut out of the 7x7 of 4x4 patches.
    assert model.state_dict()["backbone.layers.0.attn.relative_position_bias_table"].shape == (9 + 3, 3)


def test_a_head_of_other_classes_is_left_out_and_said(build: Build, tmp_path: Path) -> None:
    loaded = load(
        build("segformer", "mit-b0", classes=3),
        tmp_path / "x.pth",
        build("segformer", "mit-b0", classes=7).state_dict(),
    )
    assert loaded.missing == ("decode_head.conv_seg.*",)
    assert loaded.encoder_share == 1.0 and loaded.loaded == loaded.of - 2


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_a_file_of_the_encoder_alone_by_whatever_name(build: Build, tmp_path: Path, prefix: str) -> None:
    given = {prefix + name: value for name, value in noise(torchvision.models.resnet18().state_dict()).items()}
    assert load(build("mask-rcnn", "r18"), tmp_path / "x.pth", given).encoder_share == 1.0


@pytest.mark.parametrize(
    ("backbone", "other", "message"),
    [
        # ResNet-18 and -34 have the same blocks, of which 34 has more.
        ("r34", "resnet18", r"they fill only 5\d% of the encoder's parameters \(\d+ of \d+ tensors loaded"),
        ("r18", "resnet34", r"only 5\d% of the file's encoder \(by parameters; \d+ of \d+ tensors\) has a place"),
    ],
)
def test_another_depth_is_refused_with_how_much_matched(
    build: Build, tmp_path: Path, backbone: str, other: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as told:
        load(build("mask-rcnn", backbone), tmp_path / "x.pth", getattr(torchvision.models, other)().state_dict())
    assert str(tmp_path / "x.pth") in str(told.value)


def test_nothing_that_fits_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected weights of this model, but none of 160 tensors fits it"):
        load(build("mask-rcnn", "r18"), tmp_path / "x.pth", build("segformer", "mit-b0").backbone.state_dict())


class Bomb:
    """Unpickling this calls `exec`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return builtins.exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_what_lies_beside_the_weights_is_passed_over_and_not_run(tmp_path: Path) -> None:
    beside = {"message_hub": {"loss": HistoryBuffer([1.0], [1])}, "bomb": Bomb(tmp_path / "was-run")}
    torch.save({"state_dict": {"weight": torch.ones(2)}, **beside}, tmp_path / "x.pth")
    weights = read_weights(tmp_path / "x.pth")
    assert list(weights) == ["weight"] and torch.equal(weights["weight"], torch.ones(2))
    assert not (tmp_path / "was-run").exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "page.pth").write_text("<html>404 Not Found</html>")
    with (tmp_path / "code.pth").open("wb") as stream:
        pickle.dump(Bomb(tmp_path / "was-run"), stream)
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(
        InputError, match="page.pth: expected a checkpoint of torch or safetensors, but got another kind"
    ):
        read_weights(tmp_path / "page.pth")
    for name in ("code.pth", "half.pth"):
        with pytest.raises(
            InputError, match=f"{name}: expected a checkpoint of plain weights, but loading it safely failed"
        ):
            read_weights(tmp_path / name)
    assert not (tmp_path / "was-run").exists()


def test_a_damaged_file_is_refused_whatever_torch_makes_of_it(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "old.pth").read_bytes()
    storage = int(re.findall(rb"(\d{9,})", whole)[-1])  # the key that the tensor names and the list of storages repeats
    first, _, last = whole.rpartition(str(storage).encode())
    (tmp_path / "old.pth").write_bytes(first + str(storage + 1).encode() + last)
    with pytest.raises(InputError, match="old.pth: expected a checkpoint of plain weights, but loading it safely"):
        read_weights(tmp_path / "old.pth")


def test_safetensors_and_old_pickles_are_read(tmp_path: Path) -> None:
    weights = {"a.weight": torch.arange(3.0)}
    safetensors.torch.save_file(weights, tmp_path / "x.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("x.safetensors", "old.pth"):
        assert torch.equal(read_weights(tmp_path / name)["a.weight"], weights["a.weight"])


def test_missing_tensors_are_grouped_by_the_largest_module_of_which_nothing_came() -> None:
    sizes = {"backbone.a.w": 6, "backbone.b.w": 2, "backbone.b.c": 2, "head.conv.w": 5, "head.conv.b": 5, "alone": 1}
    loaded = describe_loaded("x.pth", ["x.pth"], sizes, {"backbone.a.w", "head.conv.w"})
    assert loaded.missing == ("backbone.b.*", "head.conv.b", "alone")
    assert (loaded.loaded, loaded.of) == (2, 6)
    assert loaded.share == pytest.approx(11 / 21) and loaded.encoder_share == pytest.approx(6 / 10)
