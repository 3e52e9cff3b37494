"""Fingerprints: a short hash that changes when a data set's labels or images do.

A prediction set carries the fingerprint of what it predicts, so that scores and ensembles can't mix data sets.
The order of images and objects in the file does not count; ids of images and categories do, since predictions refer
to them. Images count by their byte size, not their pixels, to stay quick on large sets.
"""

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

from segdata.errors import DatasetError
from segdata.file_sums import in_threads, sha256_of
from segdata.instances import InstanceDataset, ObjectRecord
from segdata.labelmaps import SemanticDataset
from segdata.rle import Rle

__all__ = ["instance_fingerprint", "label_map_sums", "semantic_fingerprint"]

_HEX_DIGITS = 16


def instance_fingerprint(dataset: InstanceDataset, images: Path | None) -> str:
    """Returns 16 hex digits over classes, file names, sizes, shapes and, given the images folder, image byte sizes.

    Raises:
        DatasetError: if an image file is missing in `images`.
    """
    digest = hashlib.sha256()
    for category_id, name in zip(dataset.category_ids, dataset.class_names, strict=True):
        _add(digest, "class", category_id, name)
    for image in sorted(dataset.images, key=lambda image: image.file_name):
        size = None if images is None else _byte_size(images / image.file_name)
        _add(digest, "image", image.id, image.file_name, image.width, image.height, size)
        for shape in sorted(_object_bytes(obj) for obj in dataset.objects_of(image.id)):
            digest.update(shape)
    return digest.hexdigest()[:_HEX_DIGITS]


def label_map_sums(dataset: SemanticDataset) -> dict[str, str]:
    """Returns the SHA-256 of each label map's file, in hex, by the name of its image.

    Raises:
        DatasetError: if a file is missing.
    """
    sums = in_threads(_sha256, [image.label_path for image in dataset.images])
    return dict(zip((image.name for image in dataset.images), sums, strict=True))


def semantic_fingerprint(dataset: SemanticDataset, label_sums: Mapping[str, str] | None = None) -> str:
    """Returns 16 hex digits over classes, file names, sizes, the label files' bytes and image byte sizes.

    Args:
        dataset: The images and label maps.
        label_sums: What `label_map_sums` says of them, if it was asked before.

    Raises:
        DatasetError: if a file is missing.
    """
    sums = label_map_sums(dataset) if label_sums is None else label_sums
    digest = hashlib.sha256()
    _add(digest, "classes", dataset.ignore_index, *dataset.classes)
    for image in sorted(dataset.images, key=lambda image: image.name):
        _add(digest, "image", image.name, image.width, image.height, _byte_size(image.image_path))
        digest.update(bytes.fromhex(sums[image.name]))
    return digest.hexdigest()[:_HEX_DIGITS]


def _object_bytes(obj: ObjectRecord) -> bytes:
    shape = obj.segmentation
    if isinstance(shape, Rle):
        body = f"{shape.height} {shape.width} {shape.counts}".encode()
    else:
        body = b"|".join(struct.pack(f"<{len(polygon)}d", *polygon) for polygon in shape)
    return f"object {obj.category_id} {int(obj.is_crowd)} {len(body)} ".encode() + body


def _add(digest: "hashlib._Hash", *fields: object) -> None:
    digest.update(repr(fields).encode())


def _byte_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _missing(path, error) from error


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise _missing(path, error) from error


def _missing(path: Path, error: OSError) -> DatasetError:
    return DatasetError.of(
        f"expected a file of the data set, but got: {error.strerror}", where=path, cure="Run `segsweep data check`."
    )
