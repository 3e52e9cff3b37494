"""What a network predicts, as boxes, masks and confidences of ours."""

import torch

from trainables.outputs import instances_of


def square(left: int, top: int, side: int) -> torch.Tensor:
    """A mask of 16 x 16 pixels with one square in it."""
    mask_HW = torch.zeros(16, 16, dtype=torch.bool)
    mask_HW[top : top + side, left : left + side] = True
    return mask_HW


def test_objects_without_boxes_get_those_of_their_masks() -> None:
    masks = torch.stack([square(2, 3, 5), square(0, 10, 6), torch.zeros(16, 16, dtype=torch.bool)])
    predicted = {
        "bboxes": torch.zeros(3, 4),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([0, 0, 0]),
        "masks": masks,
    }
    found = instances_of(predicted)
    assert found.boxes_xyxy.tolist() == [[2, 3, 7, 8], [0, 10, 6, 16], [0, 0, 0, 0]]


def test_objects_below_the_minimum_confidence_are_dropped() -> None:
    predicted = {
        "bboxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5]]),
        "scores": torch.tensor([0.2, 0.3]),
        "labels": torch.tensor([0, 1]),
        "masks": torch.stack([square(0, 0, 4), square(1, 1, 4)]),
    }
    assert len(instances_of(predicted)) == 2
    found = instances_of(predicted, minimum_confidence=0.25)
    assert found.boxes_xyxy.tolist() == [[1, 1, 5, 5]] and found.classes.tolist() == [1]
