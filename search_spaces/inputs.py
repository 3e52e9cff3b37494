"""The knobs of what the network sees: image size, crop, batch. Sizes are in pixels."""

from search_spaces.knob import Knob
from search_spaces.parameters import Choice, Float, Int

__all__ = ["BATCH_SIZE", "CROP_SIZE", "IMAGE_HEIGHT", "IMAGE_WIDTH", "INPUT_KNOBS", "KEEP_RATIO", "MULTI_SCALE"]

IMAGE_WIDTH = Knob(
    name="image_width",
    domain=Int(32, 16_384),
    field="input.image_width",
    help="width that images are resized to, px",
    source="000: resize (1024,1280); 002: input 256 for the search; 004: resize 256",
)
IMAGE_HEIGHT = Knob(
    name="image_height",
    domain=Int(32, 16_384),
    field="input.image_height",
    help="height that images are resized to, px",
    source="000: resize (1024,1280); 003: min size 1000; 004: resize 256",
)
CROP_SIZE = Knob(
    name="crop_size",
    domain=Int(32, 8192),
    field="input.crop_size",
    help="side of the random square that a training step sees, px",
    source="001: RandomResizedCrop; MMSegmentation: crop_size",
)
BATCH_SIZE = Knob(
    name="batch_size",
    domain=Int(1, 1024),
    field="optimization.batch_size",
    help="images in a training step",
    source="002: search over batch size and seed; 003: batch 1; 004: batch 16-24",
    default=2,
    paths={"*": ("train_dataloader.batch_size",)},
)
KEEP_RATIO = Knob(
    name="keep_ratio",
    domain=Choice((True, False)),
    field="input.keep_ratio",
    help="false: images are stretched to the width and height, true: fitted into them with their aspect kept",
    source="000: resize (1024,1280) 0.6084; 002: input 512x512",
    default=True,
)
MULTI_SCALE = Knob(
    name="multi_scale",
    domain=Float(0.0, 0.9),
    field="input.multi_scale",
    help="training images are resized by a random factor from 1 - x to 1 + x of the input size",
    source="001: RandomResizedCrop; 002: scale TTA >= k-fold; MMSegmentation: ratio_range",
    default=0.0,
)

INPUT_KNOBS = (IMAGE_WIDTH, IMAGE_HEIGHT, CROP_SIZE, BATCH_SIZE, KEEP_RATIO, MULTI_SCALE)
