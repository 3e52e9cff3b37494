"""What `resources.models` of a sweep file may name: models of its space."""

from collections.abc import Callable, Sequence

from search_spaces.parameters import Choice
from search_spaces.space import Space
from search_spaces.wording import nearest_name
from segdata.errors import SweepFileError
from segsweep.resources_config import ResourcesConfig

__all__ = ["check_model_resources", "models_of"]

Locate = Callable[[Sequence[str | int]], str]  # key -> file, line and key


def check_model_resources(resources: ResourcesConfig, space: Space, locate: Locate) -> None:
    """Refuses resources of a model that no trial has.

    Raises:
        SweepFileError: With the models that trials have.
    """
    known = models_of(space)
    for name in resources.models:
        if name not in known:
            raise SweepFileError.of(
                f"expected a model of the space, {', '.join(known)}, but got {name!r}",
                where=locate(("resources", "models", name)),
                cure=nearest_name(name, known),
            )


def models_of(space: Space) -> tuple[str, ...]:
    """Returns the names of all models that a trial can have."""
    if "model" in space.fixed:
        return (str(space.fixed["model"]),)
    domains = [parameter.domain for parameter in space.parameters if parameter.knob == "model"]
    return tuple(dict.fromkeys(str(value) for one in domains if isinstance(one, Choice) for value in one.values))
