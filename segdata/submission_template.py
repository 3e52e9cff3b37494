"""Submissions by a template of the user's own, in the language of Jinja: any text format, rendered as it is written.

A template sees these names, and reaches nothing else (Jinja's sandbox):

    images      each image in turn; may be gone through again, and {{ images | length }} works
    classes     names of the classes
    variables   what `--set NAME=VALUE` says, as texts

    image.name, .stem, .file_name, .id, .width, .height     name as in the order file, else file_name
    image.objects   class_name, category_id, confidence, bbox (x, y, width, height), area, counts (COCO's run lengths),
                    runs (Kaggle's); of a semantic set the classes that the image has
    image.labels    rows of class ids, of semantic sets

May import jinja2 and this package.
"""

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from segdata.atomic import new_file
from segdata.errors import InputError, SegsweepError
from segdata.submission_formats import OnImage
from segdata.submissions import Submission, SubmittedImage, SubmittedObject

__all__ = ["write_by_template"]


class TemplateImage:
    """What a template sees of an image; objects and labels are read when they are asked for, once.

    Only what the template's sandbox may see has a public name.
    """

    def __init__(self, submission: Submission, image: SubmittedImage) -> None:
        predicted = image.predicted
        self.name = image.name
        self.stem = Path(predicted.file_name).stem
        self.file_name = predicted.file_name
        self.id = predicted.id
        self.width = predicted.width
        self.height = predicted.height
        self._submission, self._image = submission, image
        self._objects: tuple[SubmittedObject, ...] | None = None

    @property
    def objects(self) -> tuple[SubmittedObject, ...]:
        """The objects; of a semantic set the classes that the image has."""
        if self._objects is None:
            self._objects = self._submission.objects(self._image)
        return self._objects

    @property
    def labels(self) -> list[list[int]]:
        """The id of each pixel's class, a list a row of pixels."""
        if self._submission.predictions.meta.task == "instance":
            raise TemplateError("image.labels are those of semantic sets, but this one is of instances")
        rows: list[list[int]] = self._submission.labels(self._image).tolist()
        return rows


class TemplateImages:
    """The images of a submission, one in memory at a time."""

    def __init__(self, submission: Submission, on_image: OnImage | None) -> None:
        self._submission, self._on_image = submission, on_image

    def __len__(self) -> int:
        return len(self._submission)

    def __iter__(self) -> Iterator[TemplateImage]:
        for done, image in enumerate(self._submission, start=1):
            yield TemplateImage(self._submission, image)
            if self._on_image is not None:
                self._on_image(done, len(self))


def write_by_template(
    submission: Submission,
    template: Path,
    out: Path,
    *,
    variables: Mapping[str, str] = MappingProxyType({}),
    on_image: OnImage | None = None,
) -> None:
    """Renders a template into a new file, piece by piece: memory does not grow with the number of images.

    A line that holds only a statement, {% ... %}, leaves nothing.

    Args:
        submission: What is written.
        template: A Jinja template.
        out: The file.
        variables: Further names.
        on_image: Called after each image with (done, total).

    Raises:
        InputError: The template can't be read, is wrong, or asks for something that is not there, with its line; or
            `out` is there already.
        DatasetError: The prediction set is broken.
    """
    compiled = _compiled(template)
    names = {"images": TemplateImages(submission, on_image), "classes": submission.classes, "variables": variables}
    with new_file(out) as stream:
        try:
            for piece in compiled.generate(names):
                stream.write(piece)
        except (SegsweepError, OSError):  # of the set, or of the place that is written to
            raise
        except Exception as error:  # whatever an expression of the user's may raise
            raise _wrong(error, template) from error


def _compiled(path: Path) -> Template:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError.of(f"expected a template, but got: {found}", where=path, cure="Check the path.") from error
    try:
        code = environment.compile(text, filename=str(path))
    except TemplateSyntaxError as error:
        raise InputError.of(
            f"expected a Jinja template, but got: {_line(error.message or error)}",
            where=f"{path}:{error.lineno}",
            cure="Correct it.",
        ) from error
    compiled: Template = environment.template_class.from_code(environment, code, environment.globals)
    return compiled


def _wrong(error: Exception, path: Path) -> InputError:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return InputError.of(
        f"expected a template that can be rendered, but got {type(error).__name__}: {_line(error)}",
        where=f"{path}:{lines[-1]}" if lines else path,
        cure="Correct it.",
    )


def _line(text: Any) -> str:
    return " ".join(str(text).split())
