"""Where every value of a trial lands in its MMEngine config, writing it there, and checking that it is there.

Pure functions on nested dicts and lists (a ConfigDict is one). Structural knobs (model, backbone, image size) have no
path: `trainables` builds the config from them and checks them itself.
"""

from dataclasses import dataclass
from typing import Any

from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS, takes
from search_spaces.models import MODELS
from search_spaces.paths import get_path, path_exists, set_path
from search_spaces.trial_config import Scalar, TrialConfig, Value
from segdata.errors import SpaceError

__all__ = ["Landing", "applicable_knobs", "apply_landings", "assert_landed", "get_path", "landings", "set_path"]

_CASCADE_STAGES = 3


@dataclass(frozen=True, slots=True)
class Landing:
    """One value at one path: `knob` is the knob's name, or the path itself for an override."""

    knob: str
    path: str
    value: Value


def landings(trial: TrialConfig, config: Any = None) -> tuple[Landing, ...]:
    """Returns where each set knob and override of `trial` lands, in the order in which to write them.

    Args:
        trial: The values; None fields land nowhere.
        config: The nested config; needed only if the model is a zoo config, whose structure decides.

    Raises:
        SpaceError: If the model takes a set knob nowhere.
    """
    found: list[Landing] = []
    for knob in KNOBS.values():
        value = trial.get(knob.field)
        if value is not None and knob.paths:
            found.extend(_landings_of(knob, value, trial, config))
    found.extend(Landing(path, path, value) for path, value in trial.overrides)
    return tuple(dict.fromkeys(found))


def _landings_of(knob: Knob, value: Scalar, trial: TrialConfig, config: Any) -> list[Landing]:
    paths = _paths(knob, trial.model.name, config)
    if knob.spread is None:
        return [Landing(knob.name, path, value) for path in paths]
    ends = [trial.get(KNOBS[name].field) for name in knob.spread]
    low, high = (KNOBS[name].default if end is None else end for name, end in zip(knob.spread, ends, strict=True))
    stages = _CASCADE_STAGES if config is None else len(get_path(config, paths[0]))
    first_set = next(name for name, end in zip(knob.spread, ends, strict=True) if end is not None)
    return [
        Landing(first_set, path.replace("[*]", f"[{stage}]"), _between(low, high, stage, stages))
        for path in paths
        for stage in range(stages)
    ]


def _between(low: Scalar | None, high: Scalar | None, stage: int, stages: int) -> float:
    """Returns the value of one stage, the stages being spaced evenly from `low` to `high`."""
    start, end = float(low or 0.0), float(high or 0.0)
    return end if stage == stages - 1 else start + (end - start) * stage / (stages - 1)


def _paths(knob: Knob, model: str, config: Any) -> tuple[str, ...]:
    if model not in MODELS:
        return _zoo_paths(knob, model, config)
    for key in (model, MODELS[model].task, "*"):
        if key in knob.paths and takes(model, knob):
            return knob.paths[key]
    raise SpaceError.of(
        f"expected a knob that {model} takes, but got {knob.name}", where="trial config", cure=f"Leave out {knob.name}"
    )


def _zoo_paths(knob: Knob, model: str, config: Any) -> tuple[str, ...]:
    if config is None:
        raise ValueError(f"where {knob.name} lands in {model} depends on its config: pass it")
    paths = _existing_alternative(knob, config)
    if paths is None:
        wanted = " or ".join(dict.fromkeys(path for paths in knob.paths.values() for path in paths))
        raise SpaceError.of(
            f"expected {wanted} in its config, but got none",
            where=f"knob {knob.name} of model {model}",
            cure=f"Leave out {knob.name}, or set what this config has by `overrides`",
        )
    return paths


def _existing_alternative(knob: Knob, config: Any) -> tuple[str, ...] | None:
    for paths in dict.fromkeys(knob.paths.values()):
        # What is spread over stages needs a real list of stages.
        probes = [path.replace("[*]", "[0]") if knob.spread else path for path in paths]
        if all(path_exists(config, probe) for probe in probes):
            return paths
    return None


def applicable_knobs(config: Any, model: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of the knobs that `model` with this config takes, and of those that it can't take.

    For a zoo config a knob applies if its paths exist; structural knobs apply where they need no table of ours.
    """
    applicable = [knob.name for knob in KNOBS.values() if _applies(knob, config, model)]
    return tuple(applicable), tuple(name for name in KNOBS if name not in applicable)


def _applies(knob: Knob, config: Any, model: str) -> bool:
    if model in MODELS or not knob.paths or not knob.zoo:
        return takes(model, knob)
    return _existing_alternative(knob, config) is not None


def apply_landings(config: Any, trial: TrialConfig) -> None:
    """Writes every set knob and override of `trial` into `config`, in place.

    Raises:
        SpaceError: If a path is not there; names the knob, the model and the nearest key.
    """
    for landing in landings(trial, config):
        value = list(landing.value) if isinstance(landing.value, tuple) else landing.value
        set_path(config, landing.path, value, what=_what(landing, trial))


def assert_landed(config: Any, trial: TrialConfig) -> None:
    """Checks that `config` holds every value of `trial` where it should.

    Raises:
        SpaceError: If one is missing or was overwritten; names the knob, the path and what is there.
    """
    for landing in landings(trial, config):
        found = get_path(config, landing.path, what=_what(landing, trial))
        if any((tuple(value) if isinstance(value, list) else value) != landing.value for value in found):
            raise SpaceError.of(
                f"expected {landing.value!r} at {landing.path}, but got {', '.join(map(repr, found))}",
                where=_what(landing, trial),
                cure="Something overwrote it: remove the override of the same path",
            )


def _what(landing: Landing, trial: TrialConfig) -> str:
    kind = "knob" if landing.knob in KNOBS else "override"
    return f"{kind} {landing.knob} of model {trial.model.name}"
