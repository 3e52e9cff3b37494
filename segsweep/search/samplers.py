"""Optuna's samplers by name, seeded by trial: the next suggestion depends on the study and the seed alone.

A sampler keeps its random state in memory, which a kill loses. Here it is set anew before each trial from the sweep's
seed and the number of trials before it, so that a resumed sweep goes on exactly as an unbroken one would.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from segsweep.search_config import SamplerConfig

__all__ = ["SeededSampler", "build_sampler"]

# Knobs that a sampler does not model itself are drawn at random (docs/search.md), which needs no warning each time.
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": lambda **options: TPESampler(**options | ({"multivariate": True} if options["group"] else {})),
    "random": RandomSampler,
    "grid": RandomSampler,  # for what `proposals` leaves to it: nothing but knobs of half-enqueued points
    "cmaes": lambda **options: CmaEsSampler(warn_independent_sampling=False, **options),
    "gp": lambda **options: GPSampler(warn_independent_sampling=False, **options),
    "nsga2": NSGAIISampler,
}


def build_sampler(config: SamplerConfig, seed: int) -> "SeededSampler":
    """Returns the sampler that a sweep file names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # what is experimental, docs/search.md says
        return SeededSampler(partial(SAMPLERS[config.name], **config.options), seed, afresh=config.gp is not None)


class SeededSampler(BaseSampler):
    """Passes everything on to a sampler, whose random state it sets before each trial.

    Args:
        make: Returns a new sampler.
        seed: Of the sweep.
        afresh: Whether each trial has a new one, as the sampler keeps more than a random state from trial to trial.
    """

    def __init__(self, make: Callable[[], BaseSampler], seed: int, *, afresh: bool = False) -> None:
        self.make, self.seed, self.afresh = make, seed, afresh
        self.sampler = make()
        self.discarded: int | None = None  # trials; None = to be counted

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Sets the random state by the number of trials before; tries at a trial that a kill cut short do not count."""
        if self.discarded is None:  # all of them were asked for before this one
            self.discarded = sum(map(was_discarded, study.get_trials(deepcopy=False)))
        if self.afresh:
            self.sampler = self.make()
        set_random_state(self.sampler, [self.seed, trial.number - self.discarded])
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """See Optuna; that CMA-ES ignores what crashed, docs/search.md says."""
        if state == TrialState.FAIL:
            self.discarded = None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constraints have been set")
            self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Does nothing: each trial has its own random state."""


def was_discarded(trial: FrozenTrial) -> bool:
    """Tells a trial that was asked for by a driver that died before it had written it down."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get("outcome") == "rejected"


def set_random_state(sampler: BaseSampler, seed: Sequence[int]) -> None:
    """Seeds all random states of a sampler and of those inside it.

    Optuna offers no public way: its samplers hold `LazyRandomState`s, known here by their `rng`; a test pins it.
    """
    for value in vars(sampler).values():
        state = getattr(value, "rng", None)
        if isinstance(state, np.random.RandomState):
            state.seed(np.random.SeedSequence(seed).generate_state(4))
        elif isinstance(value, BaseSampler):
            set_random_state(value, seed)
