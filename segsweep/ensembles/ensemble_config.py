"""The section `ensemble` of a sweep file: what may be a member, how members are chosen and fused, what it may cost.

The command line's options are the same fields (`with_options`). Imports pydantic and our sections.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, ValidationError, field_validator

from segdata.errors import InputError
from segdata.views import PLAIN, View
from segsweep.config_section import Number, Section, Whole
from segsweep.ensembles.fusion_config import FusionConfig

__all__ = ["EnsembleConfig", "with_options"]

MOST_FOLDS = 100
LARGEST_STRIDE = 64  # as `segsweep predict` takes it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Selected = Literal["all", "greedy"]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_selected(value: object) -> object:
    """`top` is what `all` was called before there was a choice."""
    return ["all" if item == "top" else item for item in value] if isinstance(value, list | tuple) else value


class EnsembleConfig(Section):
    """How the best trials are combined.

    Attributes:
        top: How many trials, or configurations with `folds`.
        methods: Of fusion; none = the task's first.
        select: Ensembles to make by each method: of all trials, or chosen from all candidates.
        tta: Views beside the plain one that each network is a candidate with, such as `hflip` or `rot90+scale1.25`.
        folds: Networks that each of the configurations is trained with, on as many folds of train and val; 0 = none.
        epochs: Whether the epochs that trials kept (`storage.keep_epochs`) are candidates.
        averages: Whether averages of the weights of trials, epochs or folds of one architecture are.
        add: Name -> folder of other tools' predictions, one file or folder a role.
        most_models: Networks that a chosen ensemble may have.
        most_milliseconds: Time that it may take for an image.
        stride: Pixels a side that share one stored class probability.
        settings: Of fusion; what is not named is tuned.
    """

    top: Annotated[Whole, Field(ge=1)] = 3
    methods: tuple[str, ...] = ()
    select: Annotated[
        tuple[Selected, ...], BeforeValidator(_as_selected), BeforeValidator(_as_list), Field(min_length=1)
    ] = ("all", "greedy")
    tta: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    folds: Annotated[Whole, Field(ge=0, le=MOST_FOLDS)] = 0
    epochs: Annotated[bool, Strict()] = False
    averages: Annotated[bool, Strict()] = False
    add: dict[str, str] = Field(default_factory=dict)
    most_models: Annotated[Whole, Field(ge=1)] | None = None
    most_milliseconds: Annotated[Number, Field(gt=0)] | None = None
    stride: Annotated[Whole, Field(ge=1, le=LARGEST_STRIDE)] = 1
    settings: FusionConfig = FusionConfig()

    @field_validator("tta")
    @classmethod
    def _views(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [str(_view(text)) for text in value]
        for index, name in enumerate(names):
            if name in names[:index] or name == "plain":
                raise ValueError(f"expected each view beside the plain one once, but got {name!r} again. Remove one")
        return tuple(names)

    @field_validator("add")
    @classmethod
    def _plain_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"expected a name of letters, digits, `.`, `_` or `-`, but got {name!r}. Shorten it")
        return value

    @field_validator("folds")
    @classmethod
    def _two_or_more(cls, value: int) -> int:
        if value == 1:
            raise ValueError("expected two folds or more, or 0 for none, but got 1. Five are usual")
        return value

    @property
    def views(self) -> tuple[View, ...]:
        """The plain view, and those beside it."""
        return (PLAIN, *(View.parse(text) for text in self.tta))


def _view(text: str) -> View:
    try:
        return View.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}. Change it") from error


def with_options(config: EnsembleConfig, options: Mapping[str, Any], names: Mapping[str, str]) -> EnsembleConfig:
    """Returns the section with what the command line says in the place of what the sweep file says.

    Args:
        config: Of the sweep file.
        options: Field -> value; None = not given.
        names: Field -> what the option is called.

    Raises:
        InputError: Naming the option whose value is none.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return EnsembleConfig.model_validate(config.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        raise InputError.of(f"{said}, but got {_told(first['input'])}", where=names[name], cure="Change it.") from error


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
