"""The ensemble file, `ensemble.json`: which members were fused how, and what they scored.

May import pydantic, `segdata` and this package.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ensembling.fusion import METHODS
from ensembling.settings import FusionSettings
from segdata.atomic import write_text
from segdata.errors import InputError
from segdata.views import View

__all__ = ["ENSEMBLE_FILE", "EnsembleMember", "EnsembleRecord", "read_ensemble", "write_ensemble"]

ENSEMBLE_FILE = "ensemble.json"


def _none_for_nan(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


Score = Annotated[float | None, BeforeValidator(_none_for_nan)]  # JSON has no NaN; None = absent in the truth


ViewName = Annotated[str, AfterValidator(lambda text: str(View.parse(text)))]


class EnsembleMember(BaseModel):
    """A member.

    Attributes:
        path: A folder with `config.py` and `best.pth`, or another tool's prediction set; absolute, or relative to the
            ensemble file's folder. Files of version 1 name prediction sets of trials.
        weight: Above 0; only ratios between members matter.
        name: Of the candidate; the folds of one configuration share it.
        view: How it sees an image: a name that `segdata.views.View.parse` reads.
        network: Whether it can label new images; False = another tool's predictions.
        trial: The trial that it comes from.
        config_hash: Of that trial's configuration.
        weights: 16 hex digits of the SHA-256 of its config and weights, by which others are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    name: str = ""
    view: ViewName = "plain"
    network: bool = True
    trial: str | None = None
    config_hash: str | None = None
    weights: str | None = None


class EnsembleRecord(BaseModel):
    """`ensemble.json`.

    Attributes:
        task: Of all members.
        members: In the order in which they were fused.
        method: One of `ensembling.fusion.METHODS`.
        settings: Thresholds of the fusion.
        dataset_fingerprint: Of the data set that was predicted and scored.
        scores: Metrics by name, for each row of the score table (a member's name, or the ensemble's).
        scored_on: Role of the data that was scored.
        chosen_on: Labelled images that members, weights and settings were chosen on; None = nothing was chosen.
        chosen_score: The score there.
        code_version: Version of Segsweep that wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = 2
    task: Literal["instance", "semantic"]
    members: tuple[EnsembleMember, ...] = Field(min_length=1)
    method: str
    settings: FusionSettings = FusionSettings()
    dataset_fingerprint: str
    scores: dict[str, dict[str, Score]] = {}
    scored_on: str | None = None
    chosen_on: str | None = None
    chosen_score: Score = None
    code_version: str


def write_ensemble(record: EnsembleRecord, folder: Path) -> Path:
    """Writes `ensemble.json` into the folder, in one step, with members' paths relative to it.

    Relative paths in `record` are taken from the working directory.

    Raises:
        InputError: If it can't be written.
    """
    members = tuple(
        member.model_copy(update={"path": Path(os.path.relpath(member.path, folder))}) for member in record.members
    )
    path = folder / ENSEMBLE_FILE
    write_text(path, record.model_copy(update={"members": members}).model_dump_json(indent=2) + "\n")
    return path


def read_ensemble(path: Path) -> EnsembleRecord:
    """Reads an ensemble file; members' paths come back resolved against its folder.

    Args:
        path: The file, or the folder that holds it.

    Raises:
        InputError: If it is missing, or a key is not what it should be.
    """
    file = path / ENSEMBLE_FILE if path.is_dir() else path
    try:
        record = EnsembleRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError.of(
            f"expected an ensemble file, but got: {error.strerror}",
            where=file,
            cure="Name a folder that `segsweep ensemble` wrote.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError.of(
            f"expected an ensemble file, but got at {key}: {first['msg']}",
            where=file,
            cure="Write it again with `segsweep ensemble`.",
        ) from error
    except InputError as error:  # of a setting or a view
        raise InputError(f"{file}: {error}") from error
    fitting = [name for name, method in METHODS.items() if method.task == record.task]
    if record.method not in fitting:
        raise InputError.of(
            f"expected at method one of {', '.join(fitting)}, but got {record.method!r}",
            where=file,
            cure="Write it again with `segsweep ensemble`.",
        )
    members = tuple(
        member.model_copy(update={"path": Path(os.path.normpath(file.parent / member.path))})
        for member in record.members
    )
    return record.model_copy(update={"members": members})
