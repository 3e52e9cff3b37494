"""The test pipeline under a view: its frames turned with the image, its resize to another scale. Pure functions.

Sizes are (width, height) in pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.training_scale import is_resize, without_resize

__all__ = ["resized", "turned"]

Steps = Sequence[dict[str, Any]]

PADDED_TO_PX = 32  # the coarsest level of the networks whose pipelines pad to a fixed size


def turned(steps: Steps) -> list[dict[str, Any]]:
    """Returns the steps for an image that lies on its side: frames to resize or pad to lie as it does.

    So the network sees the turned image in its usual proportions, also where images are stretched to a frame.
    """
    return [turned_step(step) if is_resize(step) or is_pad(step) else step for step in steps]


def turned_step(step: Mapping[str, Any]) -> dict[str, Any]:
    """Exchanges the sides that a step names."""
    named = {key: step[key] for key in ("scale", "size") if is_pair(step.get(key)) or are_pairs(step.get(key))}
    frames = {key: turned_frame(frame) for key, frame in named.items()}
    sides = {"width": step["height"], "height": step["width"]} if {"width", "height"} <= set(step) else {}
    return {**step, **frames, **sides}


def turned_frame(frame: Sequence[Any]) -> Any:
    """Exchanges the sides of a frame, or of each of several."""
    return [tuple(pair)[::-1] for pair in frame] if are_pairs(frame) else tuple(frame)[::-1]


def resized(steps: Steps, size: tuple[int, int], factor: float) -> list[dict[str, Any]]:
    """Returns the steps with one resize to exactly `size`; what is padded to a fixed frame grows or shrinks with it.

    Args:
        steps: After loading.
        size: Of the image in the network's input, before padding; sides of 0 become 1.
        factor: By how much `size` differs from what the steps make.
    """
    exact = without_resize(steps, (max(1, size[0]), max(1, size[1])))
    return [
        {**step, "size": tuple(padded(side, factor) for side in step["size"])}
        if is_pad(step) and is_pair(step.get("size"))
        else step
        for step in exact
    ]


def padded(side_px: int, factor: float) -> int:
    """Returns a padded side times the factor, in whole cells of the coarsest level."""
    return -(-round(side_px * factor) // PADDED_TO_PX) * PADDED_TO_PX


def is_pad(step: Mapping[str, Any]) -> bool:
    return str(step["type"]) == "Pad"


def is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def are_pairs(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_pair, value))
