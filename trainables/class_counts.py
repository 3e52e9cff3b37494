"""How many classes a config counts: always those of the data set.

Pure functions on plain nested dicts and trials.
"""

from search_spaces.paths import without_selectors
from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError

__all__ = ["refuse_other_counts"]


def refuse_other_counts(trial: TrialConfig, classes: int) -> None:
    """Refuses an override that counts other classes than the data set has.

    Raises:
        InputError: Names the path and both counts.
    """
    for path, value in trial.overrides:
        key = without_selectors(path).split(".")[-1]
        if key in ("num_classes", "num_things_classes") and value != classes:
            raise InputError.of(
                f"expected {key} {classes}, as the data set has classes, but got {value}",
                where=f"overrides.{path}",
                cure="Drop the override: classes are counted from the labels",
            )
