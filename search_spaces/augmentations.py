"""The knobs of online augmentation: how a training image is changed each time it is seen.

A row is a step; the order of the rows is the order in which an image goes through the steps. A value is the probability
of the step, unless the row says otherwise. Labels follow the pixels in every step.
"""

from search_spaces.knob import Knob, Task
from search_spaces.parameters import Float

__all__ = [
    "AUGMENTATION_KNOBS",
    "AUGMENTATION_STEPS",
    "AUGMENTATION_STRENGTH",
    "FLIP",
    "MIXING_STEPS",
    "RARE_KNOBS",
    "STEPS_WITHOUT_STRENGTH",
]

_BOTH: tuple[Task, ...] = ("instance", "semantic")
_INSTANCE: tuple[Task, ...] = ("instance",)
_SEMANTIC: tuple[Task, ...] = ("semantic",)
_PIPELINE = "train_dataloader.dataset.pipeline"


def _step(name: str, what: str, source: str, tasks: tuple[Task, ...] = _BOTH, *, of: str = "a training image") -> Knob:
    return Knob(
        name=name,
        domain=Float(0.0, 1.0),
        field=f"augmentation.{name}",
        help=f"probability that {of} {what}",
        source=source,
        default=0.0,
        paths={"*": (f"{_PIPELINE}[name={name}].prob",)},
        tasks=tasks,
    )


def _rare(step: str, what: str, source: str, tasks: tuple[Task, ...] = _BOTH) -> Knob:
    return Knob(
        name=f"{step}_rare",
        domain=Float(0.0, 1.0),
        field=f"augmentation.{step}_rare",
        help=f"share of {step} in which {what} of a rare class, drawn by one over its frequency",
        source=source,
        default=0.0,
        paths={"*": (f"{_PIPELINE}[name={step}].rare",)},
        tasks=tasks,
        beside=(step,),
    )


FLIP = Knob(
    name="flip",
    domain=Float(0.0, 1.0),
    field="augmentation.flip",
    help="probability that a training image is flipped left to right",
    source="000: online flip; 002: flip; 004: HorizontalFlip",
    default=0.5,
    paths={"*": (f"{_PIPELINE}[type=RandomFlip].prob",)},
)

_MIXING = (
    _step("mosaic", "is put together from four", "Bochkovskiy et al. 2020, arXiv 2004.10934"),
    _step(
        "copy_paste",
        "gets objects of another one pasted",
        "001: copy-paste for rare classes helps Clothing; Ghiasi et al. 2021, arXiv 2012.07177",
    ),
    _step(
        "class_mix",
        "gets half of another one's classes pasted",
        "002: ClassMix, no gain; Olsson et al. 2021, arXiv 2007.07936",
        _SEMANTIC,
    ),
    _step(
        "cut_mix",
        "gets a rectangle of another one pasted",
        "004: CutMix planned, never run; Yun et al. 2019, arXiv 1905.04899",
        _SEMANTIC,
    ),
)

_GEOMETRY = (
    _step(
        "min_iou_crop",
        "is cropped to a patch that overlaps objects enough",
        "000: MinIoURandomCrop 0.6023; Liu et al. 2016, arXiv 1512.02325",
        _INSTANCE,
    ),
    _step("random_resized_crop", "is cropped and enlarged to its size", "001: RandomResizedCrop, no gain"),
    _step("vertical_flip", "is flipped upside down", "000: flip; 004: VerticalFlip"),
    _step("transpose", "is mirrored along its diagonal", "004: Transpose"),
    _step("rotate90", "is turned by a multiple of 90 degrees", "004: HorizontalFlip, VerticalFlip, RandomRotate90"),
    _step("shear", "is sheared", "000: offline and online shear"),
    _step("rotate", "is rotated whole, then resized to its size", "000: rotate (whole image)"),
    _step("rotate_padded", "is rotated at its size, with padded corners", "000: rotation (size kept, padded)"),
    _step("shift_scale_rotate", "is shifted, scaled and rotated", "004: ShiftScaleRotate"),
    _step("optical_distortion", "is bent as by a lens", "004: OpticalDistortion"),
    _step("grid_distortion", "is distorted cell by cell", "004: GridDistortion"),
    _step("elastic", "is distorted elastically", "004: ElasticTransform LB 0.6006"),
    _step(
        "box_flip",
        "is flipped inside its box",
        "000: flip inside boxes only; Zoph et al. 2019, arXiv 1906.11172",
        _INSTANCE,
        of="an object",
    ),
    _step(
        "box_shear",
        "is sheared inside its box",
        "000: offline augmentation inside boxes only; Zoph et al. 2019, arXiv 1906.11172",
        _INSTANCE,
        of="an object",
    ),
    _step(
        "box_rotate",
        "is rotated inside its box",
        "000: rotation inside boxes only; Zoph et al. 2019, arXiv 1906.11172",
        _INSTANCE,
        of="an object",
    ),
)

_COLOUR = (
    _step("equalize", "gets its histogram equalized", "000: equalize+brightness+contrast 0.6044"),
    _step("brightness", "is made brighter or darker", "000: equalize+brightness+contrast 0.6044; 004: brightness"),
    _step("contrast", "gets more or less contrast", "000: equalize+brightness+contrast 0.6044; 004: contrast"),
    _step(
        "brightness_contrast", "changes brightness and contrast together", "001: RandomBrightnessContrast, no gain; 004"
    ),
    _step("gamma", "gets another gamma", "004: contrast/gamma/brightness"),
    _step("clahe", "is equalized locally (CLAHE)", "001: CLAHE + ColorJitter + HSV, no gain; 004: CLAHE"),
    _step("hsv", "changes hue, saturation and value", "001: HueSaturationValue, no gain; 004: RGBShift/HSV"),
    _step("rgb_shift", "gets its colour channels shifted", "004: RGBShift/HSV/ChannelShuffle"),
    _step("color_jitter", "changes all of its colours", "001: CLAHE + ColorJitter + HSV, no gain"),
    _step("channel_shuffle", "gets its colour channels shuffled", "004: RGBShift/HSV/ChannelShuffle"),
)

_QUALITY = (
    _step("gauss_noise", "gets Gaussian noise", "001: GaussNoise, no gain; 004: GaussNoise"),
    _step("motion_blur", "is blurred by motion", "004: MotionBlur"),
    _step("gaussian_blur", "is blurred", "004: GaussianBlur"),
    _step("rain", "gets rain", "004: rain/snow/sun/fog"),
    _step("snow", "gets snow", "004: rain/snow/sun/fog"),
    _step("sun_flare", "gets a sun flare", "004: rain/snow/sun/fog"),
    _step("fog", "gets fog", "004: rain/snow/sun/fog"),
    _step("grid_dropout", "loses the cells of a grid (labels stay)", "004: GridDropout"),
)

_PASTED = "what is pasted is"
RARE_KNOBS = (
    _rare("copy_paste", _PASTED, "001: copy-paste for rare classes (50 Battery, 100 Clothing)"),
    _rare("class_mix", _PASTED, "002: ClassMix also weighted toward rare classes", _SEMANTIC),
    _rare("cut_mix", "the rectangle holds pixels", "002: strong imbalance (7000 objects to 50)", _SEMANTIC),
)

_STEPS = (*_MIXING, *_GEOMETRY, *_COLOUR, *_QUALITY)
AUGMENTATION_STEPS: tuple[str, ...] = tuple(knob.name for knob in _STEPS)
MIXING_STEPS: tuple[str, ...] = tuple(knob.name for knob in _MIXING)
STEPS_WITHOUT_STRENGTH = ("vertical_flip", "transpose", "rotate90", "box_flip", "equalize", "channel_shuffle")

AUGMENTATION_STRENGTH = Knob(
    name="augmentation_strength",
    domain=Float(0.0, 2.0),
    field="augmentation.augmentation_strength",
    help="factor on how much a step changes an image (angles, shifts, blur ...); 0 = not at all",
    source="000: all augmentation together 0.5452; 004: all transforms together +0.04",
    default=1.0,
    paths={"*": (f"{_PIPELINE}[type=Augment].strength",)},
    beside=tuple(name for name in AUGMENTATION_STEPS if name not in (*MIXING_STEPS, *STEPS_WITHOUT_STRENGTH)),
)

AUGMENTATION_KNOBS = (FLIP, *_STEPS, *RARE_KNOBS, AUGMENTATION_STRENGTH)
