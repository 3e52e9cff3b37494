"""Settings of fusion as a sweep file or the command line names them; those that are not named are tuned or defaults.

The fields are those of `ensembling.settings.FusionSettings` (a test holds them together), which this room doesn't
import, so that reading a sweep file stays quick. Imports pydantic.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError

from search_spaces.wording import nearest_name
from segdata.errors import InputError
from segsweep.config_section import Number, Section

__all__ = ["FusionConfig", "read_settings"]

Share = Annotated[Number, Field(ge=0, le=1)]
Switch = Annotated[bool, Strict()]


class FusionConfig(Section):
    """What holds for every method that reads it."""

    iou_threshold: Annotated[Number, Field(ge=0, lt=1)] | None = None
    mask_threshold: Annotated[Number, Field(gt=0, le=1)] | None = None
    minimum_confidence: Share | None = None
    merge_own: Switch | None = None
    count_boxes: Switch | None = None
    overlap: Literal["mask", "box"] | None = None
    decay: Literal["linear", "gaussian"] | None = None
    sigma: Annotated[Number, Field(gt=0)] | None = None
    least_decayed: Share | None = None
    mean: Literal["arithmetic", "geometric", "confidence"] | None = None
    output: Literal["probabilities", "labels"] | None = None

    def named(self) -> dict[str, Any]:
        """Returns the settings that are named."""
        return self.model_dump(exclude_none=True)


def read_settings(pairs: Sequence[str]) -> FusionConfig:
    """Reads `name=value` pairs of the command line.

    Raises:
        InputError: A pair is none, a name is not known, or a value out of range.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in FusionConfig.model_fields:
            problem = f"expected NAME=VALUE with a setting of fusion, but got {pair!r}"
            raise InputError.of(problem, where="--setting", cure=nearest_name(name, tuple(FusionConfig.model_fields)))
        try:
            values[name] = json.loads(text)
        except ValueError:  # a word, not a number
            values[name] = text
    try:
        return FusionConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        problem = f"{first['msg'].replace('Input should be', 'expected')}, but got {first['input']!r}"
        raise InputError.of(problem, where=f"--setting {name}", cure="Change the value.") from error
