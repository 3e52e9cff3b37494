"""What a sweep may try: parameters and conditions, the knobs by theme, one sample and the trial that it stands for.

Imports `segdata.errors` and numpy; no training framework, no sampler.
"""

from search_spaces.knob import Knob, Task
from search_spaces.knobs import KNOBS, knobs_of
from search_spaces.landing import Landing, applicable_knobs, apply_landings, assert_landed, landings
from search_spaces.models import MODELS
from search_spaces.parameters import Choice, Domain, Float, Int
from search_spaces.paths import get_path, set_path
from search_spaces.preset import PRESETS, Preset, read_preset
from search_spaces.preset_merge import merge_preset, preset_space
from search_spaces.space import Parameter, Space, parse_space
from search_spaces.trial_config import Scalar, TrialConfig

__all__ = [
    "KNOBS",
    "MODELS",
    "PRESETS",
    "Choice",
    "Domain",
    "Float",
    "Int",
    "Knob",
    "Landing",
    "Parameter",
    "Preset",
    "Scalar",
    "Space",
    "Task",
    "TrialConfig",
    "applicable_knobs",
    "apply_landings",
    "assert_landed",
    "get_path",
    "knobs_of",
    "landings",
    "merge_preset",
    "parse_space",
    "preset_space",
    "read_preset",
    "set_path",
]
