"""Submissions in fixed formats: COCO results, label images, and a CSV file with the class of each pixel.

Each is written image by image in flat memory, and is there whole or not at all. May import cv2, numpy, Pillow and this
package.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segdata.atomic import new_file, new_folder
from segdata.errors import InputError
from segdata.rle import rle_crop
from segdata.submissions import Submission, SubmittedImage, SubmittedObject

__all__ = [
    "OBJECTS_FILE",
    "OnImage",
    "write_coco_results",
    "write_label_pngs",
    "write_number_pngs",
    "write_pixel_csv",
]

OnImage = Callable[[int, int], None]
OBJECTS_FILE = "objects.csv"
_MOST_OBJECTS = 65535  # an image; ids of objects are 16-bit
_CSV_COLUMNS = ("image_id", "PredictionString")


def write_coco_results(submission: Submission, out: Path, on_image: OnImage | None = None) -> int:
    """Writes COCO results: image_id, category_id, bbox xywh, score and RLE of each object, one a line.

    Of a semantic set each class that an image has is one result, all its pixels; the score is the mean of its
    probability over them, 1 where the set holds labels only.

    Returns:
        How many results there are.

    Raises:
        InputError: `out` is there already, or can't be written.
        DatasetError: The set is broken.
    """
    count = 0
    with new_file(out) as stream:
        stream.write("[")
        for done, image in enumerate(submission, start=1):
            for found in submission.objects(image):
                result = {
                    "image_id": image.predicted.id,
                    "category_id": found.category_id,
                    "bbox": list(found.bbox),
                    "score": found.confidence,
                    "segmentation": found.rle.to_coco(),
                }
                stream.write((",\n" if count else "\n") + json.dumps(result, allow_nan=False))
                count += 1
            _tell(on_image, done, submission)
        stream.write("\n]\n")
    return count


def write_label_pngs(
    submission: Submission, out: Path, *, palette: bool = False, on_image: OnImage | None = None
) -> None:
    """Writes a semantic set as `<stem>.png` in a new folder: a pixel is the id of its class.

    8-bit if all ids are below 256, else 16-bit.

    Args:
        submission: What is written.
        out: The folder.
        palette: Whether 8-bit labels have colours, those of the PASCAL VOC sets; the values stay the ids.
        on_image: Called after each image with (done, total).

    Raises:
        InputError: `out` is not empty, a class has no id, or colours are wanted for ids above 255.
        DatasetError: The set is broken.
    """
    if palette and max(index or 0 for index in submission.ids) > np.iinfo(np.uint8).max:
        raise InputError.of("expected ids below 256 with it, but got larger ones", where="--palette", cure="Choose.")
    colours = voc_palette() if palette else None
    with new_folder(out) as folder:
        for done, image in enumerate(submission, start=1):
            picture = Image.fromarray(submission.labels(image))
            if colours is not None:
                picture.putpalette(colours)
            picture.save(folder / _png(image))
            _tell(on_image, done, submission)


def write_number_pngs(submission: Submission, out: Path, on_image: OnImage | None = None) -> int:
    """Writes an instance set as `<stem>.png` in a new folder: a pixel is the number of its object, 16-bit, 0 = none.

    Where objects overlap, the most confident one lies on top. `objects.csv` beside them says of each number its class,
    confidence and how many of its pixels are seen.

    Returns:
        How many objects there are.

    Raises:
        InputError: `out` is not empty, two images share a stem, or an image has more than 65535 objects.
        DatasetError: The set is broken.
    """
    _refuse_shared_stems(submission)
    count = 0
    with new_folder(out) as folder, new_file(folder / OBJECTS_FILE) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("image", "number", "class", "category_id", "confidence", "pixels"))
        for done, image in enumerate(submission, start=1):
            objects = submission.objects(image)
            number_HW = _numbered(image, objects)
            seen = np.bincount(number_HW.ravel(), minlength=len(objects) + 1).tolist()
            for number, found in enumerate(objects, start=1):
                row = (number, found.class_name, found.category_id, found.confidence, seen[number])
                table.writerow((_png(image), *row))
            Image.fromarray(number_HW).save(folder / _png(image))
            count += len(objects)
            _tell(on_image, done, submission)
    return count


def write_pixel_csv(
    submission: Submission,
    out: Path,
    *,
    columns: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    on_image: OnImage | None = None,
) -> None:
    """Writes a semantic set as CSV: a row an image, its name and the ids of its pixels' classes, row by row, by spaces.

    Args:
        submission: What is written.
        out: The file.
        columns: The two names of the first row; None = those of the order file, else image_id and PredictionString.
        size: (width, height) to which label maps are brought by the nearest pixel as OpenCV's INTER_NEAREST and so
            albumentations' Resize takes it: column x is column floor(x * W / width) of the map's W. None = as it is.
        on_image: Called after each image with (done, total).

    Raises:
        InputError: `out` is there already, a class has no id, or there are not two columns.
        DatasetError: The set is broken.
    """
    order = submission.order
    header = tuple(columns or (_CSV_COLUMNS if order is None else order.header))
    if len(header) != 2:
        told = ",".join(header) or "none"
        of_file = order is not None and not columns
        raise InputError.of(
            f"expected two names of columns, but got {told}",
            where=f"{order.path}:1" if order is not None and of_file else "--columns",
            cure="Name two by --columns." if of_file else "Name two.",
        )
    with new_file(out) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header)
        for done, image in enumerate(submission, start=1):
            label_HW = submission.labels(image)
            sized_HW = label_HW if size is None else cv2.resize(label_HW, size, interpolation=cv2.INTER_NEAREST)
            table.writerow((image.name, " ".join(map(str, sized_HW.ravel().tolist()))))
            _tell(on_image, done, submission)


def voc_palette() -> list[int]:
    """Returns the 256 colours of the PASCAL VOC sets, red, green, blue in turn: the bits of the id, spread."""
    ids = np.arange(256)
    places = np.arange(8)
    colours = [((ids[:, None] >> (3 * places + shift) & 1) << (7 - places)).sum(axis=1) for shift in range(3)]
    return [int(value) for value in np.stack(colours, axis=1).ravel()]


def _numbered(image: SubmittedImage, objects: Sequence[SubmittedObject]) -> npt.NDArray[np.uint16]:
    """Draws the objects' numbers, the most confident last."""
    if len(objects) > _MOST_OBJECTS:
        raise InputError.of(
            f"expected at most {_MOST_OBJECTS} objects in an image, but got {len(objects)}",
            where=image.name,
            cure="Leave some out by --min-confidence or --max-detections.",
        )
    number_HW = np.zeros((image.predicted.height, image.predicted.width), dtype=np.uint16)
    for index in sorted(range(len(objects)), key=lambda index: (objects[index].confidence, -index)):
        mask, left, top = rle_crop(objects[index].rle)
        number_HW[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = index + 1
    return number_HW


def _png(image: SubmittedImage) -> str:
    return f"{Path(image.predicted.file_name).stem}.png"


def _refuse_shared_stems(submission: Submission) -> None:
    seen: dict[str, str] = {}
    for image in submission:
        name = image.predicted.file_name
        other = seen.setdefault(_png(image), name)
        if other != name:
            raise InputError.of(
                f"expected images whose names differ before the ending, but got {other} and {name}",
                where=submission.predictions.path,
                cure="Rename one, or take another format.",
            )


def _tell(on_image: OnImage | None, done: int, submission: Submission) -> None:
    if on_image is not None:
        on_image(done, len(submission))
