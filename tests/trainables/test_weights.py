"""Published weights: which a config needs, whether they can be had, and what is said if not."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from search_spaces.trial_config import ModelChoice, TrialConfig
from segdata.errors import InputError
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.weights import address_of, hub_file, is_at_hand, missing_weights, published_weights, require_weights

R50_FILE = "resnet50-0676ba61.pth"  # what MMEngine's `torchvision://resnet50` means


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub folder of torch, and no network."""

    def refuse(address: object, timeout: float) -> NoReturn:
        raise OSError("network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def listener() -> Iterator[str]:
    """The address of something that accepts connections on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_init_none_needs_no_weights(hub: Path, particles: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("mask-rcnn", "r50")), particles, seed=7)
    assert missing_weights(config) == ()
    require_weights(config)


def test_missing_weights_are_named_with_the_place_for_a_copy(hub: Path, particles: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("mask-rcnn", "r50", init="imagenet")), particles, seed=7)
    assert missing_weights(config) == ("torchvision://resnet50",)
    with pytest.raises(
        InputError, match="init: imagenet: expected the published weights torchvision://resnet50"
    ) as told:
        require_weights(config)
    assert str(hub / R50_FILE) in str(told.value) and "`init: none`" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_copy_in_the_hub_folder_is_enough(hub: Path, particles: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("mask-rcnn", "r50", init="imagenet")), particles, seed=7)
    hub.mkdir(parents=True)
    (hub / R50_FILE).touch()
    require_weights(config)


def test_segformer_and_v1c_weights_are_found_too(hub: Path, litter: DataDescription) -> None:
    for model, part in (("segformer", "mit_b0"), ("deeplabv3plus", "resnet50_v1c")):
        config = build_config(TrialConfig(ModelChoice(model, init="imagenet")), litter, seed=7)
        (name,) = missing_weights(config)
        assert part in name
        assert address_of(name).startswith("https://") and hub_file(address_of(name)).parent == hub


def test_a_local_file_is_at_hand(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "own.pth").touch()
    assert is_at_hand(str(tmp_path / "own.pth"))
    assert not is_at_hand(str(tmp_path / "other.pth"))


def test_nested_and_repeated_checkpoints_are_listed_once() -> None:
    head = {"type": "Head", "init_cfg": [{"type": "Xavier"}, {"type": "Pretrained", "checkpoint": "a.pth"}]}
    model = {"pretrained": "b.pth", "backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": "a.pth"}}}
    assert published_weights({"model": model | {"heads": (head,)}}) == ("b.pth", "a.pth")


def test_a_host_that_answers_can_serve_them(listener: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert is_at_hand(f"{listener}/weights.pth")
    assert not is_at_hand("http://127.0.0.1:9/weights.pth"), "nothing listens on the discard port"


def test_a_proxy_stands_for_the_host(listener: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", listener)
    assert is_at_hand("https://unknown.invalid/weights.pth")
