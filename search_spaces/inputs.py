"""The knobs of what the network sees: image size, crop, batch. Sizes are in pixels."""

from search_spaces.knob import Knob
from search_spaces.parameters import Int

__all__ = ["BATCH_SIZE", "CROP_SIZE", "IMAGE_HEIGHT", "IMAGE_WIDTH", "INPUT_KNOBS"]

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

INPUT_KNOBS = (IMAGE_WIDTH, IMAGE_HEIGHT, CROP_SIZE, BATCH_SIZE)
