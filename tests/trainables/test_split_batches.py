"""A batch in parts gives the whole batch's step: for a mean over images, exactly what it would have been."""

from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper

from trainables.split_batches import parts_of, split_batches

IMAGES, FEATURES = 5, 3


class Regression(BaseModel):
    """A mean over images, with its inputs as a list like a detector's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(FEATURES, 1)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "loss") -> Any:
        found = self.layer(torch.stack(list(inputs))).squeeze(1)
        return {
            "loss_square": ((found - torch.tensor(data_samples)) ** 2).mean(),
            "seen": torch.tensor(float(len(inputs))),
        }


def batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    inputs = list(torch.randn(IMAGES, FEATURES, generator=generator))
    return {"inputs": inputs, "data_samples": [0.5, -1.0, 2.0, 0.0, 1.0]}


def stepped(parts: int, *, accumulate: int = 1, steps: int = 1) -> tuple[dict[str, torch.Tensor], OptimWrapper, Any]:
    torch.manual_seed(0)
    model = Regression()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, steps)
    split_batches(model, parts)
    logged = [model.train_step(batch(), wrapper) for _ in range(steps)][-1]
    return model.state_dict(), wrapper, logged


@pytest.mark.parametrize("parts", [2, 3, 4, 9])
def test_a_step_in_parts_is_the_whole_batchs_step(parts: int) -> None:
    whole, _, before = stepped(1)
    found, _, logged = stepped(parts)
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value)
    torch.testing.assert_close(torch.as_tensor(logged["loss"]), before["loss"])


def test_parts_do_not_count_as_batches_of_an_accumulation() -> None:
    """Pins MMEngine's private count: what `should_update` reads."""
    whole, _, _ = stepped(1, accumulate=2, steps=4)
    found, wrapper, _ = stepped(2, accumulate=2, steps=4)
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value)
    assert wrapper.inner_count == 4


def test_parts_differ_by_one_image_at_most_and_their_shares_add_up() -> None:
    found = list(parts_of(batch(), 3))
    assert [len(part["inputs"]) for part, _ in found] == [1, 2, 2]
    assert [part["data_samples"] for part, _ in found] == [[0.5], [-1.0, 2.0], [0.0, 1.0]]
    assert sum(share for _, share in found) == pytest.approx(1.0)
    assert [len(part["inputs"]) for part, _ in parts_of(batch(), 8)] == [1] * IMAGES
