"""One row of a data check."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Defect", "Severity"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong and where; `image` and `annotation_id` are None where the defect is not of one.

    `kind` is one of those listed in `segdata.defects`.
    """

    kind: str
    severity: Severity
    image: str | None
    annotation_id: int | None
    detail: str
