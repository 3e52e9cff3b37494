"""A training batch taken in parts, for want of memory: gradients add up to the whole batch's. Imports torch, mmengine.

Loader, sampler, schedules and the count of steps do not know of it. Losses are weighted by the images of a part; those
that are averaged over what a batch holds (positive anchors, labelled pixels) are averaged over each part instead, and
batch norms see a part at a time.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import OptimWrapper

__all__ = ["split_batches"]

Batch = dict[str, Any]


def split_batches(model: BaseModel, parts: int) -> None:
    """Makes the model take each training batch in `parts` parts (fewer where a batch has fewer images)."""
    if parts > 1:
        model.train_step = partial(train_step_in_parts, model, parts)


def train_step_in_parts(
    model: BaseModel, parts: int, data: Batch, optim_wrapper: OptimWrapper
) -> dict[str, torch.Tensor]:
    """Takes the place of `BaseModel.train_step`: one step of the optimizer from the gradients of all parts."""
    bare = model.module if is_model_wrapper(model) else model
    logged: dict[str, torch.Tensor] = {}
    shared = list(parts_of(data, parts))
    for number, (part, share) in enumerate(shared, start=1):
        with optim_wrapper.optim_context(model):
            inputs = bare.data_preprocessor(part, True)
            losses = model(**inputs, mode="loss")
        loss, values = bare.parse_losses(losses)
        for name, value in values.items():
            logged[name] = logged.get(name, 0.0) + share * torch.as_tensor(value).detach()
        if number < len(shared):
            only_backward(optim_wrapper, loss * share)
        else:
            optim_wrapper.update_params(loss * share)
    return logged


def parts_of(data: Mapping[str, Any], parts: int) -> Iterator[tuple[Batch, float]]:
    """Yields (part, its share of the images); the parts differ by one image at most."""
    images = len(data["inputs"])
    parts = min(parts, images)
    edges = [images * number // parts for number in range(parts + 1)]
    for start, end in zip(edges, edges[1:], strict=False):
        yield {name: values[start:end] for name, values in data.items()}, (end - start) / images


def only_backward(optim_wrapper: OptimWrapper, loss: torch.Tensor) -> None:
    """Adds gradients without counting a batch: MMEngine counts each `backward`, for its own accumulation.

    The count is private upstream; a test pins that it is what `should_update` reads.
    """
    counted = optim_wrapper._inner_count
    optim_wrapper.backward(optim_wrapper.scale_loss(loss))
    optim_wrapper._inner_count = counted
