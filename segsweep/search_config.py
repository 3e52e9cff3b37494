"""The sections `search` and `budget` of a sweep file: how the space is searched, and when the search ends."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from segsweep.config_section import Number, Section, Whole, named_options

__all__ = [
    "AshaConfig",
    "BudgetConfig",
    "CmaesConfig",
    "GpConfig",
    "GridConfig",
    "HyperbandConfig",
    "MedianConfig",
    "Nsga2Config",
    "PbtConfig",
    "RandomConfig",
    "SamplerConfig",
    "SchedulerConfig",
    "SearchConfig",
    "TpeConfig",
]

Share = Annotated[Number, Field(ge=0, le=1)]


class TpeConfig(Section):
    """Tree-structured Parzen estimator. Names and defaults are Optuna's, here and below."""

    n_startup_trials: Annotated[Whole, Field(ge=0)] = 10
    n_ei_candidates: Annotated[Whole, Field(ge=1)] = 24
    multivariate: bool | None = None  # with one objective true
    group: bool = False
    constant_liar: bool = True

    @model_validator(mode="after")
    def _group_is_multivariate(self) -> Self:
        if self.group and self.multivariate is False:
            raise ValueError("expected multivariate: true beside group: true, but got false. Drop one of the two")
        return self


class RandomConfig(Section):
    """Independent draws."""


class GridConfig(Section):
    """Every combination once, in a shuffled order."""


class CmaesConfig(Section):
    """Covariance matrix adaptation."""

    n_startup_trials: Annotated[Whole, Field(ge=0)] = 1
    popsize: Annotated[Whole, Field(ge=2)] | None = None
    with_margin: bool = False
    lr_adapt: bool = False
    consider_pruned_trials: bool = False

    @model_validator(mode="after")
    def _one_variant(self) -> Self:
        if self.with_margin and self.lr_adapt:
            raise ValueError("expected with_margin or lr_adapt, but got both. Drop one of them")
        return self


class GpConfig(Section):
    """Gaussian process."""

    n_startup_trials: Annotated[Whole, Field(ge=0)] = 10
    deterministic_objective: bool = False


class Nsga2Config(Section):
    """Genetic algorithm."""

    population_size: Annotated[Whole, Field(ge=2)] = 50
    mutation_prob: Share | None = None
    crossover_prob: Share = 0.9
    swapping_prob: Share = 0.5


class SamplerConfig(Section):
    """Who chooses the next trial: exactly one is set. A sweep file writes `tpe` or `tpe: {...}`."""

    tpe: TpeConfig | None = None
    random: RandomConfig | None = None
    grid: GridConfig | None = None
    cmaes: CmaesConfig | None = None
    gp: GpConfig | None = None
    nsga2: Nsga2Config | None = None

    @property
    def name(self) -> str:
        """The sampler's name."""
        return next(iter(self.model_fields_set))

    @property
    def options(self) -> dict[str, object]:
        """Its options by Optuna's names."""
        chosen: Section = getattr(self, self.name)
        return chosen.model_dump()

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return named_options({"tpe": {}} if value == {} else value, tuple(cls.model_fields))


class AshaConfig(Section):
    """Asynchronous successive halving on `epoch`."""

    grace_epochs: Annotated[Whole, Field(ge=1)] = 1
    reduction_factor: Annotated[Number, Field(gt=1)] = 3


class HyperbandConfig(Section):
    """Asynchronous Hyperband on `epoch`: several ASHA brackets, each with a later first rung."""

    grace_epochs: Annotated[Whole, Field(ge=1)] = 1
    reduction_factor: Annotated[Number, Field(gt=1)] = 3
    brackets: Annotated[Whole, Field(ge=1)] | None = None


class MedianConfig(Section):
    """Stops a trial whose best score is below the median of the others' mean scores up to that epoch."""

    grace_epochs: Annotated[Whole, Field(ge=1)] = 1
    min_trials: Annotated[Whole, Field(ge=1)] = 3


class PbtConfig(Section):
    """Population-based training: the worst trials go on from the best ones' states, with changed values.

    Attributes:
        perturb: Knobs that are changed; () = all searched ones that can change in flight.
        interval_epochs: From one exchange to the next.
        quantile: Share of the population that goes on from others, and share that is gone on from.
        resample_probability: Of drawing a value anew instead of making it a fifth larger or smaller.
    """

    perturb: tuple[str, ...] = ()
    interval_epochs: Annotated[Whole, Field(ge=1)] = 1
    quantile: Annotated[Number, Field(gt=0, le=0.5)] = 0.25
    resample_probability: Share = 0.25


class SchedulerConfig(Section):
    """What becomes of trials that fall behind: at most one is set. A sweep file writes `asha` or `asha: {...}`."""

    asha: AshaConfig | None = None
    hyperband: HyperbandConfig | None = None
    median: MedianConfig | None = None
    pbt: PbtConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return named_options(value, tuple(cls.model_fields), none="none")


class WarmStartConfig(Section):
    """An earlier sweep whose best points are tried first: its name, and its project where that is another one."""

    sweep: str
    top: Annotated[Whole, Field(ge=1)] = 10
    project: str | None = None


class SearchConfig(Section):
    """How the space is searched; `points` are tried first, then those of the earlier sweep, then so many `priors`."""

    strategy: Literal["joint"] = "joint"
    sampler: SamplerConfig = Field(default_factory=lambda: SamplerConfig(tpe=TpeConfig()))
    scheduler: SchedulerConfig = SchedulerConfig()
    points: tuple[dict[str, bool | int | float | str], ...] = ()
    warm_start: WarmStartConfig | None = None
    priors: Annotated[Whole, Field(ge=0)] = 0
    folds: Annotated[Whole, Field(ge=1)] = 1
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategy_of_now(cls, value: object) -> object:
        name = next(iter(value), "") if isinstance(value, Mapping) else value
        if name == "staged":
            raise ValueError("expected joint, but got staged, which is not in this version. Choose another")
        return value

    @field_validator("folds")
    @classmethod
    def _one_fold(cls, value: int) -> int:
        if value != 1:
            raise ValueError(
                f"expected 1, but got {value}; several folds a trial are not in this version. Write folds: 1"
            )
        return value


class BudgetConfig(Section):
    """When the sweep ends, and how many trials run at a time (None = as many as fit).

    Attributes:
        trials: How many there are.
        hours: Wall time of one launch.
        patience: Trials that end one after the other without a better best score.
        device_hours: Running time of all trials times the GPUs of each, or the CPUs of trials without one.
        concurrent: Trials at a time.
    """

    trials: Annotated[Whole, Field(ge=1)]
    hours: Annotated[Number, Field(gt=0)] | None = None
    patience: Annotated[Whole, Field(ge=1)] | None = None
    device_hours: Annotated[Number, Field(gt=0)] | None = None
    concurrent: Annotated[Whole, Field(ge=1)] | None = None
