"""The `resources` of a sweep file: what one trial gets of a node, also by model. Imports pydantic."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from segsweep.config_section import Number, Section

__all__ = ["ModelResourcesConfig", "ResourcesConfig"]


class ModelResourcesConfig(Section):
    """What one trial gets; None = found out from the node. `gpu_memory_gb` (GiB) stands for a share of a GPU."""

    cpu: Annotated[Number, Field(gt=0)] | None = None
    gpu: Annotated[Number, Field(ge=0)] | None = None
    gpu_memory_gb: Annotated[Number, Field(gt=0)] | None = None

    @field_validator("cpu", "gpu")
    @classmethod
    def _whole_above_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"expected a share below 1 or a whole number, but got {value}. Round it")
        return value

    @model_validator(mode="after")
    def _share_or_memory(self) -> Self:
        if self.gpu is not None and self.gpu_memory_gb is not None:
            raise ValueError(
                f"expected gpu or gpu_memory_gb, but got both, {self.gpu:g} and {self.gpu_memory_gb:g}. Drop one"
            )
        return self


class ResourcesConfig(ModelResourcesConfig):
    """A sweep file writes `auto` or `{cpu: 4, gpu: 0.5}`, and in `models` what trials of a model get instead."""

    models: dict[str, ModelResourcesConfig] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_auto(cls, value: object) -> object:
        if isinstance(value, str) and value != "auto":
            raise ValueError(f"expected auto or {{cpu: ..., gpu: ...}}, but got {value!r}. Write one of the two")
        return {} if value == "auto" else value
