"""What a knob is: one literal row that says its name, domain, field, where it lands and what it applies to.

The rows themselves lie in the files by theme (`models`, `backbones`, `optimizers`, `schedules`, `inputs`,
`iou_thresholds`, `losses`, `augmentations`); `knobs` gathers them. Validation, tables and the check that a value landed
derive from the rows. This room imports only `search_spaces.parameters` and `search_spaces.trial_config`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from search_spaces.parameters import Choice, Domain, Float, Int
from search_spaces.trial_config import Scalar

__all__ = ["Knob", "Task"]

Task = Literal["instance", "semantic"]


@dataclasses.dataclass(frozen=True, slots=True)
class Knob:
    """One named parameter of a trial.

    Attributes:
        name: What a sweep file calls it.
        domain: All values that it can ever take; a space searches a part of them.
        field: Dotted field of `TrialConfig` that holds it.
        help: One line for tables.
        source: The row of the field reports that it comes from ("000: ..."), or what else it follows.
        default: The stock value, None if there is none or it is fitted to the data set.
        default_by: Stock values that depend on another knob: name -> {its value -> default}; the first that fits.
        paths: Where it lands in a nested MMEngine config: model name, task or "*" -> dotted paths (grammar in `paths`).
            Empty for a structural knob, which decides how the config is put together.
        tasks: The tasks it serves.
        models: The models that take it, None for all of its tasks.
        zoo: Whether a model given by its zoo config may take it (if its paths exist there).
        values_by_model: The values that a model can take, where they are fewer than the domain.
        needs: Other knobs that must hold one of these values (their default counts if they are not set).
        unfit: Values of other knobs beside which it can't be set.
        beside: Knobs of which one at least must be set too, since it has no effect without.
        at_most: Name of the knob that it must not exceed.
        excludes: Knobs that must not be set in the same trial.
        spread: (low, high) knobs from which a list of stages is spaced evenly; `paths` then hold one `[*]`.
        also: Accepts texts outside `domain`, such as a file name.
        also_text: What `also` accepts, in words.
    """

    name: str
    domain: Domain
    field: str
    help: str
    source: str
    default: Scalar | None = None
    default_by: Mapping[str, Mapping[Scalar, Scalar]] = dataclasses.field(default_factory=dict)
    paths: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    tasks: tuple[Task, ...] = ("instance", "semantic")
    models: tuple[str, ...] | None = None
    zoo: bool = True
    values_by_model: Mapping[str, tuple[Scalar, ...]] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, tuple[Scalar, ...]] = dataclasses.field(default_factory=dict)
    unfit: Mapping[str, tuple[Scalar, ...]] = dataclasses.field(default_factory=dict)
    beside: tuple[str, ...] = ()
    at_most: str | None = None
    excludes: tuple[str, ...] = ()
    spread: tuple[str, str] | None = None
    also: Callable[[str], bool] | None = None
    also_text: str = ""

    def accepts(self, value: Scalar) -> bool:
        """Says whether the knob can ever take `value`."""
        if isinstance(value, str) and self.also is not None and self.also(value):
            return True
        return self.domain.contains(value)

    def coerce(self, value: Scalar) -> Scalar:
        """Returns `value` in the knob's type: a whole number for a real-valued knob becomes a float."""
        if isinstance(self.domain, Float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    def default_for(self, values: Mapping[str, Scalar]) -> Scalar | None:
        """Returns the stock value beside the other knobs' `values`."""
        for other, defaults in self.default_by.items():
            if other in values and values[other] in defaults:
                return defaults[values[other]]
        return self.default

    def domain_text(self) -> str:
        """Returns the domain for a table."""
        extra = f", or {self.also_text}" if self.also_text else ""
        return self.domain.text() + extra

    def kind(self) -> str:
        """Returns the word of a sweep file for a range of this knob."""
        return {Choice: "choice", Float: "float", Int: "int"}[type(self.domain)]
