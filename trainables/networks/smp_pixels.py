"""The pixel values that the encoders of segmentation-models-pytorch and timm were pretrained on.

Imports nothing heavy until there is an encoder of timm.
"""

from typing import Any

__all__ = ["pixels_of", "put_pixels"]

Colour = tuple[float, float, float]

IMAGENET: tuple[Colour, Colour] = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF: tuple[Colour, Colour] = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
DPN: tuple[Colour, Colour] = ((124.0, 117.0, 104.0), (1 / 0.0167, 1 / 0.0167, 1 / 0.0167))

# Start of the name -> its pixels; all others have ImageNet's.
OTHERS = {"inception": HALF, "xception": HALF, "timm-tf_efficientnet_lite": HALF, "dpn": DPN}


def pixels_of(encoder: str) -> tuple[Colour, Colour]:
    """Returns mean and standard deviation of red, green and blue, in 0..255."""
    if not encoder.startswith("tu-"):
        return next((pixels for start, pixels in OTHERS.items() if encoder.startswith(start)), IMAGENET)
    import timm

    settings = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return (colour(settings.mean), colour(settings.std)) if settings is not None else IMAGENET


def colour(shares: tuple[float, ...]) -> Colour:
    """Returns shares of white as values in 0..255."""
    red, green, blue = (round(255 * share, 3) for share in shares)
    return red, green, blue


def put_pixels(model: dict[str, Any]) -> None:
    """Lets a model's config normalise images as its encoder's weights expect, in place."""
    if model["type"] == "SmpSegmentor":
        mean, std = pixels_of(model["backbone"]["encoder"])
        model["data_preprocessor"] |= {"mean": list(mean), "std": list(std)}
