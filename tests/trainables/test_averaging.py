"""Weight averages: means of tensors, batch norms against torch's own, and real networks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from segdata.errors import InputError
from trainables.averaging import mean_of, remeasure
from trainables.description import DataDescription
from trainables.fork_server import Ended
from trainables.requests import AverageRequest
from trainables.trial_files import TrialFiles

AVERAGE = "trainables.averaging:average"


def saved(path: Path, **tensors: torch.Tensor) -> Path:
    torch.save({"meta": {}, "state_dict": tensors}, path)
    return path


def test_floats_are_averaged_in_their_own_type_and_counts_are_the_firsts(tmp_path: Path) -> None:
    one = saved(tmp_path / "1.pth", w=torch.tensor([1.0, 0.1]), half=torch.tensor([1.0]).bfloat16(), n=torch.tensor(3))
    two = saved(tmp_path / "2.pth", w=torch.tensor([2.0, 0.3]), half=torch.tensor([3.0]).bfloat16(), n=torch.tensor(9))
    mean = mean_of([one, two, one])
    assert mean["w"].dtype == torch.float32 and mean["w"].tolist() == pytest.approx([4 / 3, 0.5 / 3])
    assert mean["half"].dtype == torch.bfloat16 and mean["half"].item() == pytest.approx(5 / 3, rel=0.01)
    assert mean["n"].item() == 3
    assert torch.equal(mean_of([one, one])["w"], torch.tensor([1.0, 0.1]))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"w": torch.zeros(2, 3)}, r"2\.pth: expected .*1\.pth, with shape \(2,\) for w, but got shape \(2, 3\)"),
        ({"v": torch.zeros(2)}, r"with shape \(2,\) for w, but got none of it"),
        ({"w": torch.zeros(2), "v": torch.zeros(1)}, r"with none of it for v, but got shape \(1,\)"),
    ],
)
def test_the_first_tensor_that_differs_is_named(tensors: dict[str, torch.Tensor], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        mean_of([saved(tmp_path / "1.pth", w=torch.zeros(2)), saved(tmp_path / "2.pth", **tensors)])


class Network(nn.Module):
    """A batch norm that is trained, one that rests and one that nothing reaches, as MMEngine's models are called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.trained = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.25)
        self.resting, self.unreached = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        for norm in (self.resting, self.unreached):
            nn.init.constant_(norm.running_mean, 7.0)

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        self.resting.eval()
        return self

    def data_preprocessor(self, batch: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
        return {"inputs": batch}

    def forward(self, inputs: torch.Tensor, mode: str = "loss") -> dict[str, torch.Tensor]:
        return {"loss": self.resting(self.trained(self.conv(inputs))).sum()}


def test_batch_norms_that_are_trained_are_measured_as_torch_does_and_others_left(tmp_path: Path) -> None:
    torch.manual_seed(7)
    network, batches = Network(), [torch.randn(2 + size, 3, 5, 5) + size for size in range(3)]
    oracle = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    oracle[0].load_state_dict(network.conv.state_dict())
    update_bn(batches, oracle)
    assert remeasure(network, batches) == 1  # type: ignore[arg-type]
    for name, value in oracle[1].named_buffers():
        assert torch.equal(network.trained.get_buffer(name), value)
    assert network.trained.momentum == 0.25
    assert network.resting.running_mean.tolist() == network.unreached.running_mean.tolist() == [7.0] * 4
    assert network.unreached.momentum == 0.1


def test_without_batch_norms_no_image_is_read() -> None:
    def batches() -> Iterator[Any]:
        raise AssertionError("an image was read")
        yield

    assert remeasure(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), batches()) == 0  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["segformer", "mask-rcnn"])
def test_the_average_of_a_network_with_itself_is_that_network_but_for_its_batch_norms(
    model: str,
    trained: Callable[[str], tuple[TrialFiles, Any]],
    tiny_trial: Callable[..., Any],
    run_job: Callable[[str, object, Path], Ended],
    litter: DataDescription,
    particles: DataDescription,
    tmp_path: Path,
) -> None:
    files, data = trained(model)[0], litter if model == "segformer" else particles
    made = {}
    for name, count in (("alone", 1), ("twice", 2)):
        request = AverageRequest(tiny_trial(model), data, [files.best] * count, tmp_path / f"{name}.pth", seed=7)
        ended = run_job(AVERAGE, request, tmp_path / "log")
        assert ended == Ended("done"), (tmp_path / "log").read_text()[-3000:]
        made[name] = torch.load(request.out, weights_only=True)
    own = torch.load(files.best, weights_only=True)
    assert made["twice"]["meta"]["dataset_meta"] == own["meta"]["dataset_meta"]
    running = [name for name in own["state_dict"] if name.endswith(("running_mean", "running_var"))]
    assert running and set(made["twice"]["state_dict"]) == set(own["state_dict"])
    for name, value in own["state_dict"].items():
        assert torch.equal(made["twice"]["state_dict"][name], made["alone"]["state_dict"][name]), name
        if name not in running and not name.endswith("num_batches_tracked"):
            assert torch.equal(made["twice"]["state_dict"][name], value), name
    assert any(not torch.equal(made["twice"]["state_dict"][name], own["state_dict"][name]) for name in running)
