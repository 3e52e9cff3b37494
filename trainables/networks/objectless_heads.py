"""Detectors' heads for batches without any object, which random crops leave now and then. Imports mmdet.

They stand in for the zoo's heads while a trial trains; names and shapes of their weights are the same, so the exported
config keeps the zoo's heads.
"""

from typing import Any

from mmdet.models.roi_heads import PointRendRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import DIIHead
from torch import Tensor

__all__ = ["ObjectlessDIIHead", "ObjectlessPointRendRoIHead"]


class ObjectlessPointRendRoIHead(PointRendRoIHead):
    """PointRend's RoI head (Kirillov et al. 2019, arXiv 1912.08193), whose point loss may be empty.

    The zoo's asserts that there are objects.
    """

    def mask_loss(self, x: tuple[Tensor, ...], sampling_results: list[Any], *others: Any, **named: Any) -> Any:
        """Returns the losses of coarse masks and points; zero where no image of the batch holds an object."""
        if any(len(result.pos_gt_labels) for result in sampling_results):
            return super().mask_loss(x, sampling_results, *others, **named)
        results = StandardRoIHead.mask_loss(self, x, sampling_results, *others, **named)
        results["loss_mask"]["loss_point"] = results["mask_preds"].sum() * 0
        return results


class ObjectlessDIIHead(DIIHead):
    """QueryInst's box head (Fang et al. 2021, arXiv 2105.01928), whose losses are means over the batch's objects.

    The zoo's divides the classification loss by no object at all, which makes it about 1e7 times too large.
    """

    def loss_and_target(self, cls_score: Tensor, bbox_pred: Tensor, *others: Any, **named: Any) -> Any:
        """Returns losses and targets; without objects the classification loss is the sum, as with one object."""
        results = super().loss_and_target(cls_score, bbox_pred, *others, **named)
        labels, label_weights = results["bbox_targets"][:2]
        if not (labels < self.num_classes).any():
            results["loss_bbox"]["loss_cls"] = self.loss_cls(cls_score, labels, label_weights, avg_factor=1.0)
        return results
