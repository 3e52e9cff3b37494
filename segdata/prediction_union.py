"""Several prediction sets of different images as one, in flat memory: out-of-fold predictions, shares of a role.

May import this package's records.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from segdata.errors import DatasetError
from segdata.prediction_meta import PredictedImage, PredictionMeta
from segdata.prediction_reader import PredictionSet
from segdata.prediction_writer import PredictionWriter

__all__ = ["join_predictions"]

# What may differ: where a set comes from.
ORIGIN = {"dataset_fingerprint", "trial", "config_hash", "code_version", "images"}


def join_predictions(
    parts: Sequence[Path],
    images: Sequence[PredictedImage],
    out: Path,
    *,
    fingerprint: str,
    trial: str | None = None,
    config_hash: str | None = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Writes the set `out` of `images`, each taken from the one part that has it by its file name, and returns `out`.

    Probabilities get a second name rather than a copy, where the file system has links.

    Args:
        parts: Prediction sets.
        images: In the order of the set to come, with the ids that they have there.
        out: The folder to write.
        fingerprint: Of the data set that these images are.
        trial: For the new set's `meta.json`; so is the next.
        config_hash: Of the configuration that all parts share.
        files: Text files to add, name -> text.

    Raises:
        DatasetError: Parts differ in classes, limits or codec, an image is in none or in several of them, or has
            another size there.
        InputError: `out` exists and is not empty.
    """
    sets = [PredictionSet.open(part) for part in parts]
    _refuse_differences(sets)
    holders = _holders(sets, images)
    meta = sets[0].meta.model_copy(
        update={"images": (), "dataset_fingerprint": fingerprint, "trial": trial, "config_hash": config_hash}
    )
    with PredictionWriter(out, meta) as writer:
        for image, holder in zip(images, holders, strict=True):
            _move(image, holder, writer)
        for name, text in (files or {}).items():
            writer.add_file(name, text)
    return out


def _refuse_differences(sets: Sequence[PredictionSet]) -> None:
    first = sets[0]
    for other in sets[1:]:
        for field in (name for name in PredictionMeta.model_fields if name not in ORIGIN):
            wanted, found = getattr(first.meta, field), getattr(other.meta, field)
            if wanted != found:
                raise DatasetError.of(
                    f"expected {field} {wanted}, as in {first.path}, but got {found}",
                    where=other.path,
                    cure="Join predictions of networks with the same configuration.",
                )


def _holders(sets: Sequence[PredictionSet], images: Sequence[PredictedImage]) -> list[PredictionSet]:
    """Returns the set that has each image."""
    by_name: dict[str, list[PredictionSet]] = {image.file_name: [] for image in images}
    for one in sets:
        for known in one.meta.images:
            by_name.setdefault(known.file_name, []).append(one)
    for image in images:
        found = by_name[image.file_name]
        if len(found) != 1:
            where = " and ".join(str(one.path) for one in found) or "no part"
            raise DatasetError(f"expected {image.file_name} in one part, but got it in {where}. Predict it once.")
        size = found[0].image(image.file_name)
        if (size.width, size.height) != (image.width, image.height):
            raise DatasetError.of(
                f"expected {image.file_name} with {image.width}x{image.height} pixels, but got "
                f"{size.width}x{size.height}",
                where=found[0].path,
                cure="Predict the same images.",
            )
    return [by_name[image.file_name][0] for image in images]


def _move(image: PredictedImage, source: PredictionSet, writer: PredictionWriter) -> None:
    if writer.codec == "coco-rle":
        writer.add_instances(image, source.instances(image.file_name))
    elif writer.codec == "prob8":
        writer.add_packed_file(image, source.path / "probabilities" / f"{Path(image.file_name).stem}.npz")
    else:
        writer.add_labels(image, source.labels(image.file_name))
