"""Losses of a semantic model's pixels. Imports torch.

They take part in MMSegmentation's decode heads: logits of shape (N, C, H, W), labels of shape (N, H, W) holding class
indices or the ignore index, which counts nowhere; a batch without any labelled pixel has loss 0. MMSegmentation's own
divide by ignored pixels too (CrossEntropyLoss), count what is predicted there (DiceLoss), fail on them beside
class weights (CrossEntropyLoss with avg_non_ignore), give NaN without a labelled pixel (LovaszLoss), or know no softmax
(FocalLoss).

Legend: C classes, P labelled pixels.
"""

from collections.abc import Callable, Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "LovaszSoftmaxLoss",
    "SoftDiceLoss",
    "SoftIoULoss",
    "SoftmaxCrossEntropyLoss",
    "SoftmaxFocalLoss",
    "register_losses",
]

IGNORE_INDEX = 255


def register_losses() -> None:
    """Registers our losses with MMSegmentation; a second call changes nothing."""
    for loss in (LovaszSoftmaxLoss, SoftDiceLoss, SoftIoULoss, SoftmaxCrossEntropyLoss, SoftmaxFocalLoss):
        MODELS.register_module(module=loss, force=True)


class _PixelLoss(nn.Module):
    """What the losses share: the labelled pixels of a batch, a weight, and the name under which MMSegmentation logs it.

    Args:
        loss_weight: Factor on the loss.
        loss_name: Must begin with `loss_`, or it would not be minimised.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = "loss_pixels") -> None:
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = IGNORE_INDEX,
        **unused: object,
    ) -> Tensor:
        """Returns the weighted loss of a batch, one number.

        Args:
            logits: (N, C, H, W).
            label: (N, H, W), class indices.
            weight: (N, H, W) of a pixel sampler: pixels of weight 0 count as ignored.
            ignore_index: Label of pixels that count nowhere.
            unused: What other losses of MMSegmentation take.
        """
        known = label != ignore_index if weight is None else (label != ignore_index) & (weight > 0)
        if not known.any():
            return logits.sum() * 0.0
        logits_PC = logits.movedim(1, -1)[known]
        if logits_PC.dtype in (torch.float16, torch.bfloat16):  # sums over a batch of pixels need more digits
            logits_PC = logits_PC.float()
        return self.loss_weight * self.of_pixels(logits_PC, label[known])

    def of_pixels(self, logits_PC: Tensor, label_P: Tensor) -> Tensor:
        """Returns the loss of all labelled pixels together."""
        raise NotImplementedError


class SoftmaxFocalLoss(_PixelLoss):
    """Focal loss over softmax (Lin et al., arXiv 1708.02002, eq. 5): the mean of w_c (1 - p)^gamma (-log p).

    p is the probability of the pixel's own class c. The mean is over labelled pixels, not over their weights: class
    weights are made such that the average pixel weighs 1.

    Args:
        gamma: 0 gives cross entropy.
        class_weight: One for each class; None = 1.
        others: As every loss here.
    """

    def __init__(self, gamma: float = 2.0, class_weight: Sequence[float] | None = None, **others: object) -> None:
        super().__init__(**others)  # type: ignore[arg-type]
        self.gamma, self.class_weight = gamma, class_weight

    def of_pixels(self, logits_PC: Tensor, label_P: Tensor) -> Tensor:
        minus_log_p = functional.cross_entropy(logits_PC, label_P, reduction="none")
        # 1 - p from the log, exact near p = 1; 0^gamma has no gradient for gamma < 1, which the floor avoids.
        wrong = -torch.expm1(-minus_log_p) if self.gamma else None
        loss = minus_log_p if wrong is None else wrong.clamp_min(1e-12) ** self.gamma * minus_log_p
        if self.class_weight is not None:
            loss = loss * logits_PC.new_tensor(self.class_weight)[label_P]
        return loss.mean()


class SoftmaxCrossEntropyLoss(SoftmaxFocalLoss):
    """Cross entropy: the mean of w_c (-log p) over labelled pixels."""

    def __init__(self, class_weight: Sequence[float] | None = None, **others: object) -> None:
        super().__init__(gamma=0.0, class_weight=class_weight, **others)


class _RegionLoss(_PixelLoss):
    """1 - the mean overlap of the classes that occur in the labels, each counted over the whole batch."""

    overlap: Callable[[Tensor, Tensor, Tensor], Tensor]

    def of_pixels(self, logits_PC: Tensor, label_P: Tensor) -> Tensor:
        probability_PC = logits_PC.softmax(dim=1)
        truth_PC = functional.one_hot(label_P, logits_PC.shape[1]).to(probability_PC.dtype)
        both_C = (probability_PC * truth_PC).sum(0)
        predicted_C, true_C = probability_PC.sum(0), truth_PC.sum(0)
        return 1 - self.overlap(both_C, predicted_C, true_C)[true_C > 0].mean()


class SoftIoULoss(_RegionLoss):
    """1 - IoU with probabilities for pixels (Rahman and Wang, ISVC 2016): sum p t / (sum p + sum t - sum p t)."""

    overlap = staticmethod(lambda both, predicted, true: both / (predicted + true - both))


class SoftDiceLoss(_RegionLoss):
    """1 - Dice with probabilities for pixels (Sudre et al., arXiv 1707.03237): 2 sum p t / (sum p + sum t)."""

    overlap = staticmethod(lambda both, predicted, true: 2 * both / (predicted + true))


class LovaszSoftmaxLoss(_PixelLoss):
    """Lovasz-Softmax over the classes that occur in the batch (Berman et al., arXiv 1705.08790, eq. 9 and algorithm 1).

    The convex extension of 1 - IoU to probabilities: errors |t - p| of a class, sorted from the largest, each weighted
    by how much the IoU falls when its pixel is the next to be wrong.
    """

    def of_pixels(self, logits_PC: Tensor, label_P: Tensor) -> Tensor:
        probability_PC = logits_PC.softmax(dim=1)
        losses = []
        for index in torch.unique(label_P):
            truth_P = (label_P == index).to(probability_PC.dtype)
            errors_P, order_P = (truth_P - probability_PC[:, index]).abs().sort(descending=True, stable=True)
            losses.append(torch.dot(errors_P, falls_in_iou(truth_P[order_P])))
        return torch.stack(losses).mean()


def falls_in_iou(truth_P: Tensor) -> Tensor:
    """Returns by how much the IoU of a class falls with each next pixel that is wrong, in the order given."""
    missed_P, false_P = truth_P.cumsum(0), (1 - truth_P).cumsum(0)
    lost_P = 1 - (truth_P.sum() - missed_P) / (truth_P.sum() + false_P)
    return torch.diff(lost_P, prepend=lost_P.new_zeros(1))
